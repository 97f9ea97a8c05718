//! Nothing is inherited: whatever a holder does to the state of its connection, through a session or
//! through the connection itself, the next holder finds it as `on_connect` left it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use tenure::rusqlite::config::DbConfig;
use tenure::rusqlite::functions::FunctionFlags;
use tenure::rusqlite::hooks::{AuthContext, Authorization, Wal};
use tenure::rusqlite::limits::Limit;
use tenure::rusqlite::trace::{TraceEvent, TraceEventCodes};
use tenure::rusqlite::types::Value;
use tenure::rusqlite::{Connection, ErrorCode};
use tenure::{AfterRaw, Checkpoints, Pool, Session};

use crate::recorded::Recorded;
use crate::until::until;

const REASONS: [&str; 11] = [
    "open_transaction",
    "unfinished_statement",
    "attached_database",
    "temporary_object",
    "pragma",
    "busy_handler",
    "limit",
    "hook",
    "function",
    "raw",
    "discarded",
];

type State = BTreeMap<String, Vec<Value>>;

fn pool() -> Recorded {
    pool_with(Pool::builder())
}

fn pool_with(builder: tenure::Builder) -> Recorded {
    let pool = Recorded::with(builder.readers(1).busy_timeout(Duration::from_millis(10)));
    pool.write().unwrap().execute("CREATE TABLE task (title TEXT)", []).unwrap();
    pool
}

/// The repairs that were counted, `discarded` aside.
fn reasons(pool: &Recorded) -> Vec<&'static str> {
    let counted = |reason: &&str| *reason != "discarded" && pool.repairs(reason) > 0.0;
    REASONS.into_iter().filter(counted).collect()
}

/// All that a holder can ask about its connection.
fn state(connection: &Connection) -> State {
    let column = |sql: &str, column: usize| -> Vec<Value> {
        let mut statement = connection.prepare(sql).unwrap();
        statement.query_map([], |row| row.get(column)).unwrap().map(Result::unwrap).collect()
    };
    let mut state = BTreeMap::new();
    for name in column("SELECT name FROM pragma_pragma_list", 0) {
        let Value::Text(name) = name else { panic!("{name:?}") };
        // What these show is in the file, or theirs to do.
        let in_the_file = ["data_version", "freelist_count", "page_count", "schema_version"];
        let acts = ["incremental_vacuum", "optimize", "shrink_memory", "wal_checkpoint"];
        let in_the_header = ["application_id", "user_version", "default_cache_size"];
        if !in_the_file.contains(&&*name)
            && !acts.contains(&&*name)
            && !in_the_header.contains(&&*name)
        {
            state.insert(name.clone(), column(&format!("PRAGMA {name}"), 0));
        }
    }
    for list in ["database_list", "function_list", "collation_list"] {
        state.insert(list.to_owned(), column(&format!("SELECT name FROM pragma_{list}"), 0));
    }
    state.insert("temp".to_owned(), column("SELECT name FROM sqlite_temp_schema", 0));
    state.insert("like".to_owned(), column("SELECT 'a' LIKE 'A'", 0));
    for limit in [Limit::SQLITE_LIMIT_LENGTH, Limit::SQLITE_LIMIT_ATTACHED] {
        let value = connection.limit(limit).unwrap();
        state.insert(format!("{limit:?}"), vec![Value::Integer(value.into())]);
    }
    for switch in [
        DbConfig::SQLITE_DBCONFIG_DEFENSIVE,
        DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA,
        DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER,
    ] {
        let value = connection.db_config(switch).unwrap();
        state.insert(format!("{switch:?}"), vec![Value::Integer(value.into())]);
    }
    state
}

/// The state of the writer, as the next holder finds it.
fn found(pool: &Pool) -> State {
    state(pool.write().unwrap().rusqlite())
}

fn unchanged(before: &State, now: &State, what: &str) {
    for (name, value) in before {
        assert_eq!(now.get(name), Some(value), "{name} after {what}");
    }
}

fn pragmas() -> Vec<String> {
    let plain = Connection::open_in_memory().unwrap();
    let mut statement = plain.prepare("PRAGMA pragma_list").unwrap();
    statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

const PROCESS_WIDE: [&str; 4] =
    ["data_store_directory", "hard_heap_limit", "soft_heap_limit", "temp_store_directory"];

/// Sets every PRAGMA there is to many values, and looks at what the next holder finds.
fn every_pragma(run: impl Fn(&Session, &str) -> bool) -> Recorded {
    let pool = pool();
    let before = found(&pool);
    let mut taken = 0;
    for name in pragmas() {
        for schema in ["", "main.", "temp."] {
            for value in
                ["0", "1", "2", "-7", "4096", "exclusive", "truncate", "memory", "'UTF-16'"]
            {
                let sql = format!("PRAGMA {schema}{name} = {value}");
                if run(&pool.write().unwrap(), &sql) {
                    taken += 1;
                }
                unchanged(&before, &found(&pool), &sql);
            }
        }
    }
    assert!(taken > 500, "only {taken} of the PRAGMAs were taken");
    // And the next holder can work.
    pool.transaction(|tx| Ok(tx.execute("INSERT INTO task VALUES ('a')", [])?)).unwrap();
    assert!(pool.repairs("pragma") > 50.0 && pool.repairs("busy_handler") > 1.0);
    pool
}

#[test]
fn no_pragma_set_through_a_session_is_inherited() {
    every_pragma(|session, sql| {
        let ran = session.prepare(sql).and_then(|mut statement| {
            let mut rows = statement.raw_query();
            while rows.next()?.is_some() {}
            Ok(())
        });
        let process_wide = PROCESS_WIDE.iter().any(|name| sql.contains(name));
        if process_wide {
            let error = ran.as_ref().unwrap_err();
            assert!(error.to_string().contains("whole process"), "{sql}: {error}");
        }
        ran.is_ok()
    });
}

#[test]
fn no_pragma_set_through_a_batch_is_inherited() {
    every_pragma(|session, sql| {
        session.execute_batch(&format!("SELECT 1; -- comment\n {sql};")).is_ok()
    });
}

#[test]
fn no_pragma_set_through_the_connection_is_inherited() {
    every_pragma(|session, sql| {
        let process_wide = PROCESS_WIDE.iter().any(|name| sql.contains(name));
        !process_wide && session.rusqlite().execute_batch(sql).is_ok()
    });
}

#[test]
fn no_pragma_with_an_argument_is_inherited() {
    let pool = pool();
    let before = found(&pool);
    pool.write().unwrap().pragma(None, "cache_size", 7, |_| Ok(())).unwrap();
    assert_eq!(found(&pool), before);
    assert_eq!(reasons(&pool), ["pragma"]);
}

#[test]
fn asking_is_no_leak() {
    let pool = pool();
    for name in pragmas() {
        let writer = pool.write().unwrap();
        let _ = writer.pragma_query(None, &name, |_| Ok(()));
        let _ = writer.prepare(&format!("PRAGMA {name}")).and_then(|mut s| {
            s.raw_query().next()?;
            Ok(())
        });
        let _ = writer.pragma(None, "table_info", "task", |_| Ok(()));
        let _ = writer.prepare("EXPLAIN QUERY PLAN SELECT * FROM task").unwrap().exists([]);
        writer.rusqlite().query_row("SELECT 1", [], |_| Ok(())).unwrap();
    }
    assert_eq!(reasons(&pool), [""; 0]);
    assert_eq!(pool.repairs("discarded"), 0.0);
}

#[test]
fn a_setting_set_to_what_it_was_is_no_leak() {
    let pool = pool();
    let writer = pool.write().unwrap();
    writer.execute_batch("PRAGMA foreign_keys = ON; PRAGMA synchronous = FULL").unwrap();
    drop(writer);
    assert_eq!(reasons(&pool), [""; 0]);
}

/// What a holder leaves, and the reason that is counted for it.
fn left(reason: &str, leave: impl Fn(&Session)) {
    let pool = pool();
    let before = found(&pool);
    leave(&pool.write().unwrap());
    unchanged(&before, &found(&pool), reason);
    assert_eq!(reasons(&pool), [reason]);
    // The next holder's own work runs as if nothing had been.
    pool.transaction(|tx| {
        tx.execute("INSERT INTO task VALUES ('a')", [])?;
        tx.execute("UPDATE task SET title = upper(title)", [])?;
        Ok(())
    })
    .unwrap();
    let title = "SELECT title FROM task";
    let title: String = pool.read().unwrap().query_one(title, [], |row| row.get(0)).unwrap();
    assert_eq!(title, "A");
}

#[test]
fn no_attached_database_is_inherited() {
    let directory = tempfile::tempdir().unwrap();
    let other = directory.path().join("other.db");
    // It is not made by ATTACH: the pool's connections create no files.
    Connection::open(&other).unwrap().execute_batch("CREATE TABLE t (n)").unwrap();
    let sql = format!("ATTACH '{}' AS other", other.display());
    left("attached_database", |session| {
        session.execute(&sql, []).unwrap();
    });
    left("attached_database", |session| session.execute_batch(&sql).unwrap());
    left("attached_database", |session| session.rusqlite().execute_batch(&sql).unwrap());
}

#[test]
fn no_temporary_object_is_inherited() {
    for sql in [
        "CREATE TEMP TABLE mine (n)",
        "CREATE TABLE temp.mine (n)",
        "CREATE TEMP VIEW task AS SELECT 'not the table' AS title",
        "CREATE TEMP TRIGGER mine AFTER INSERT ON task BEGIN \
         UPDATE task SET title = 'mine'; END",
    ] {
        left("temporary_object", |session| session.execute_batch(sql).unwrap());
        left("temporary_object", |session| {
            session.prepare(sql).unwrap().execute([]).unwrap();
        });
        left("temporary_object", |session| session.rusqlite().execute_batch(sql).unwrap());
    }
}

#[test]
fn no_function_or_collation_is_inherited() {
    let flags = FunctionFlags::SQLITE_UTF8;
    left("function", |session| {
        session.rusqlite().create_scalar_function("mine", 0, flags, |_| Ok(1)).unwrap();
    });
    left("function", |session| {
        // In the place of SQLite's own.
        session.rusqlite().create_scalar_function("upper", 1, flags, |_| Ok("mine")).unwrap();
    });
    left("function", |session| {
        session.rusqlite().create_collation("mine", |a, b| b.cmp(a)).unwrap();
    });
}

#[test]
fn a_function_in_the_place_of_the_applications_own_is_not_inherited() {
    let flags = FunctionFlags::SQLITE_UTF8;
    let pool = pool_with(Pool::builder().on_connect(move |connection, _| {
        Ok(connection.create_scalar_function("whose", 0, flags, |_| Ok("everyone's"))?)
    }));
    let whose = || -> String {
        pool.write().unwrap().query_one("SELECT whose()", [], |row| row.get(0)).unwrap()
    };
    assert_eq!(whose(), "everyone's");
    let writer = pool.write().unwrap();
    writer.rusqlite().create_scalar_function("whose", 0, flags, |_| Ok("mine")).unwrap();
    drop(writer);
    assert_eq!(whose(), "everyone's");
    assert_eq!(reasons(&pool), ["raw"]);
}

#[test]
fn no_limit_or_switch_is_inherited() {
    left("limit", |session| {
        session.rusqlite().set_limit(Limit::SQLITE_LIMIT_LENGTH, 1000).unwrap();
    });
    left("limit", |session| {
        let switch = DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER;
        session.rusqlite().set_db_config(switch, false).unwrap();
    });
}

static TRACED: AtomicUsize = AtomicUsize::new(0);
static LOGGED: AtomicUsize = AtomicUsize::new(0);

#[test]
fn no_hook_is_inherited() {
    let called = Arc::new(AtomicUsize::new(0));
    let count = || {
        let called = Arc::clone(&called);
        move || {
            called.fetch_add(1, Relaxed);
        }
    };
    left("hook", |session| {
        let count = count();
        session.rusqlite().update_hook(Some(move |_, _: &str, _: &str, _| count())).unwrap();
    });
    left("hook", |session| {
        let count = count();
        let count = move || {
            count();
            false
        };
        session.rusqlite().commit_hook(Some(count)).unwrap();
    });
    left("hook", |session| {
        let count = count();
        session.rusqlite().rollback_hook(Some(count)).unwrap();
    });
    left("hook", |session| {
        let trace: fn(TraceEvent<'_>) = |_| {
            TRACED.fetch_add(1, Relaxed);
        };
        session.rusqlite().trace_v2(TraceEventCodes::SQLITE_TRACE_STMT, Some(trace));
    });
    assert!(TRACED.load(Relaxed) < 100, "the next holder's statements are traced");
    assert_eq!(called.load(Relaxed), 0, "a hook was called for somebody else's work");
}

#[test]
fn no_wal_hook_is_inherited() {
    let hook: fn(&Wal, i32) -> tenure::rusqlite::Result<()> = |_, _| {
        LOGGED.fetch_add(1, Relaxed);
        Ok(())
    };
    // It takes the place of the pool's, or of SQLite's own, by which they checkpoint.
    for checkpoints in [Checkpoints::Background, Checkpoints::Inline] {
        let pool = pool_with(Pool::builder().checkpoints(checkpoints));
        let before = found(&pool);
        pool.write().unwrap().rusqlite().wal_hook(Some(hook));
        assert_eq!(found(&pool), before, "{checkpoints:?}");
        pool.write().unwrap().execute("INSERT INTO task VALUES ('a')", []).unwrap();
        assert_eq!(LOGGED.load(Relaxed), 0);
        assert_eq!(pool.repairs("discarded"), 1.0, "{checkpoints:?}");
    }
}

#[test]
fn no_authorizer_is_inherited() {
    left("raw", |session| {
        let nothing = |_: AuthContext<'_>| Authorization::Deny;
        session.rusqlite().authorizer(Some(nothing)).unwrap();
    });
}

#[test]
fn the_applications_authorizer_cannot_be_taken_away() {
    let pool = pool_with(Pool::builder().on_connect(|connection, _| {
        let no_drop = |context: AuthContext<'_>| match context.action {
            tenure::rusqlite::hooks::AuthAction::DropTable { .. } => Authorization::Deny,
            _ => Authorization::Allow,
        };
        Ok(connection.authorizer(Some(no_drop))?)
    }));
    let writer = pool.write().unwrap();
    writer.rusqlite().authorizer(None::<fn(AuthContext<'_>) -> Authorization>).unwrap();
    drop(writer);
    let error = pool.write().unwrap().execute("DROP TABLE task", []).unwrap_err();
    assert_eq!(error.sqlite_error_code(), Some(ErrorCode::AuthorizationForStatementDenied));
    assert_eq!(reasons(&pool), ["raw"]);
}

#[test]
fn no_handler_of_somebody_elses_stays() {
    let pool = pool();
    let writer = pool.write().unwrap();
    writer.rusqlite().progress_handler(1, Some(|| true)).unwrap();
    drop(writer);
    let sum: i64 =
        pool.write().unwrap().query_one("SELECT count(*) FROM task", [], |row| row.get(0)).unwrap();
    assert_eq!(sum, 0, "the handler would have interrupted it");
    assert_eq!(pool.repairs("discarded"), 0.0, "the pool's own was put back");
}

#[test]
fn hooks_of_on_connect_are_no_leak_and_outlive_raw_use() {
    let updates = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&updates);
    let pool = pool_with(Pool::builder().on_connect(move |connection, _| {
        let counted = Arc::clone(&counted);
        let count = move |_, _: &str, _: &str, _| {
            counted.fetch_add(1, Relaxed);
        };
        Ok(connection.update_hook(Some(count))?)
    }));
    let add = || pool.write().unwrap().execute("INSERT INTO task VALUES ('a')", []).unwrap();
    add();
    assert_eq!(updates.load(Relaxed), 1);
    pool.write().unwrap().rusqlite().query_row("SELECT 1", [], |_| Ok(())).unwrap();
    add();
    assert_eq!(updates.load(Relaxed), 2, "the hook is still there, on whichever connection");
    assert_eq!(reasons(&pool), ["raw"], "that it is the same could not be known");
}

#[test]
fn what_on_connect_set_up_is_no_leak() {
    let directory = tempfile::tempdir().unwrap();
    let other = directory.path().join("other.db");
    // It is not made by ATTACH: the pool's connections create no files.
    Connection::open(&other).unwrap().execute_batch("CREATE TABLE t (n)").unwrap();
    let pool = pool_with(Pool::builder().on_connect(move |connection, _| {
        connection.execute_batch(&format!(
            "ATTACH '{}' AS other; CREATE TEMP TABLE scratch (n); PRAGMA cache_size = 77;
             PRAGMA recursive_triggers = ON; PRAGMA case_sensitive_like = ON",
            other.display()
        ))?;
        let flags = FunctionFlags::SQLITE_UTF8;
        connection.create_scalar_function("one", 0, flags, |_| Ok(1))?;
        connection.create_collation("reverse", |a, b| b.cmp(a))?;
        connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, 1_000_000)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, false)?;
        Ok(())
    }));
    for _ in 0..3 {
        let writer = pool.write().unwrap();
        writer.execute_batch("PRAGMA recursive_triggers = ON").unwrap();
        writer.execute("CREATE TABLE IF NOT EXISTS t (n)", []).unwrap();
        drop(writer);
        pool.write().unwrap().rusqlite().query_row("SELECT one()", [], |_| Ok(())).unwrap();
        pool.read().unwrap().rusqlite().query_row("SELECT one()", [], |_| Ok(())).unwrap();
    }
    assert_eq!(reasons(&pool), [""; 0]);
    assert_eq!(pool.repairs("discarded"), 0.0);
}

#[test]
fn detaching_what_on_connect_attached_is_found() {
    let pool = pool_with(
        Pool::builder()
            .on_connect(|connection, _| Ok(connection.execute_batch("ATTACH ':memory:' AS m")?)),
    );
    pool.write().unwrap().execute("DETACH m", []).unwrap();
    assert_eq!(reasons(&pool), ["attached_database"]);
    let writer = pool.write().unwrap();
    writer.execute("CREATE TABLE m.t (n)", []).unwrap();
}

#[test]
fn a_connection_can_be_closed_after_every_use_of_the_connection_itself() {
    let pool = pool_with(Pool::builder().after_raw(AfterRaw::Discard));
    for n in 1..=3 {
        pool.write().unwrap().rusqlite().query_row("SELECT 1", [], |_| Ok(())).unwrap();
        assert_eq!((pool.repairs("raw"), pool.repairs("discarded")), (f64::from(n), f64::from(n)));
        until("it is opened again", || pool.status().write.unwrap().idle == 1);
    }
    pool.read().unwrap().query_one("SELECT 1", [], |_| Ok(())).unwrap();
    assert_eq!(pool.repairs("raw"), 3.0, "a session's own methods are no raw use");
}

#[test]
fn a_limit_on_the_process_memory_is_put_back() {
    let pool = pool();
    let limit = |session: &Session| -> i64 {
        session.query_one("PRAGMA soft_heap_limit", [], |row| row.get(0)).unwrap()
    };
    let before = limit(&pool.write().unwrap());
    let writer = pool.write().unwrap();
    writer.rusqlite().execute_batch("PRAGMA soft_heap_limit = 1099511627776").unwrap();
    assert_eq!(limit(&writer), 1 << 40);
    drop(writer);
    assert_eq!(limit(&pool.write().unwrap()), before);
}

#[test]
fn changes_are_the_holders_own() {
    let pool = pool();
    let writer = pool.write().unwrap();
    writer.execute("INSERT INTO task VALUES ('a'), ('b')", []).unwrap();
    assert_eq!((writer.changes(), writer.total_changes()), (2, 2));
    drop(writer);
    let writer = pool.write().unwrap();
    assert_eq!((writer.changes(), writer.total_changes()), (0, 0));
    writer.execute("DELETE FROM task WHERE title = 'nobody''s'", []).unwrap();
    assert_eq!((writer.changes(), writer.total_changes()), (0, 0));
    writer.execute("DELETE FROM task WHERE title = 'a'", []).unwrap();
    writer.execute("DELETE FROM task WHERE title = 'a'", []).unwrap();
    assert_eq!((writer.changes(), writer.total_changes()), (0, 1));
}

#[test]
fn a_pragma_behind_a_statement_is_not_inherited() {
    // It is refused as a second statement, and has acted by then.
    let pool = pool();
    let before = found(&pool);
    for sql in ["SELECT 1; PRAGMA foreign_keys = OFF", "SELECT 1; PRAGMA busy_timeout = 77"] {
        let writer = pool.write().unwrap();
        writer.prepare(sql).map(drop).unwrap_err();
        writer.query_row(sql, [], |_| Ok(())).unwrap_err();
        drop(writer);
        unchanged(&before, &found(&pool), sql);
    }
    let writer = pool.write().unwrap();
    let error = writer.execute("SELECT 1; PRAGMA soft_heap_limit = 1", []).unwrap_err();
    assert!(error.to_string().contains("whole process"), "{error}");
}

#[test]
fn a_reader_cannot_be_made_to_write() {
    let pool = pool();
    let reader = pool.read().unwrap();
    for sql in [
        "PRAGMA query_only = OFF",
        "PRAGMA main.'query_only'(0)",
        "SELECT 1; PRAGMA query_only = OFF",
        "EXPLAIN PRAGMA query_only = OFF",
    ] {
        reader.prepare(sql).map(drop).unwrap_err();
    }
    reader.pragma(None, "query_only", 0, |_| Ok(())).unwrap_err();
    let mut insert = reader.prepare("INSERT INTO task VALUES ('a')").unwrap();
    insert.execute([]).unwrap_err();
}

#[test]
fn what_takes_effect_at_the_next_vacuum_is_not_inherited() {
    for sql in ["PRAGMA auto_vacuum = FULL", "PRAGMA page_size = 1024"] {
        let pool = pool_with(Pool::builder().journal_mode(tenure::JournalMode::Delete));
        let before = found(&pool);
        pool.write().unwrap().execute_batch(sql).unwrap();
        pool.write().unwrap().execute("VACUUM", []).unwrap();
        unchanged(&before, &found(&pool), sql);
        assert_eq!(reasons(&pool), ["pragma"]);
    }
}

#[test]
fn settings_of_what_on_connect_attached_are_not_inherited() {
    let directory = tempfile::tempdir().unwrap();
    let other = directory.path().join("other.db");
    Connection::open(&other).unwrap().execute_batch("CREATE TABLE t (n)").unwrap();
    let attach = format!("ATTACH '{}' AS other", other.display());
    let pool = pool_with(
        Pool::builder().on_connect(move |connection, _| Ok(connection.execute_batch(&attach)?)),
    );
    let locking = |session: &Session| -> String {
        session.query_one("PRAGMA other.locking_mode", [], |row| row.get(0)).unwrap()
    };
    pool.write().unwrap().execute_batch("PRAGMA other.locking_mode = EXCLUSIVE").unwrap();
    assert_eq!(locking(&pool.write().unwrap()), "normal");
    assert_eq!(reasons(&pool), ["pragma"]);
}

#[test]
fn a_statement_left_running_without_a_snapshot_is_not_inherited() {
    let pool = pool();
    let reader = pool.read().unwrap();
    let endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n";
    let mut statement = reader.prepare(endless).unwrap();
    let mut rows = statement.query([]).unwrap();
    rows.next().unwrap();
    std::mem::forget(rows);
    std::mem::forget(statement);
    // SQLite would keep the interrupt for as long as anything runs.
    reader.interrupt_handle().interrupt();
    drop(reader);
    assert_eq!(reasons(&pool), ["unfinished_statement"]);
    let next = pool.read().unwrap();
    assert!(!next.is_busy());
    next.query_one("SELECT count(*) FROM task", [], |row| row.get::<_, i64>(0)).unwrap();
}

#[test]
fn another_file_under_the_same_name_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| {
        let file = directory.path().join(name);
        Connection::open(&file).unwrap().execute_batch("CREATE TABLE t (n)").unwrap();
        file.display().to_string()
    };
    let (mine, theirs) = (file("mine.db"), file("theirs.db"));
    let attach = format!("ATTACH '{mine}' AS other");
    let pool = pool_with(
        Pool::builder().on_connect(move |connection, _| Ok(connection.execute_batch(&attach)?)),
    );
    let writer = pool.write().unwrap();
    writer.execute_batch(&format!("DETACH other; ATTACH '{theirs}' AS other")).unwrap();
    drop(writer);
    assert_eq!(reasons(&pool), ["attached_database"]);
}

#[test]
fn the_statement_cache_keeps_its_size() {
    let pool = pool();
    pool.write().unwrap().rusqlite().set_prepared_statement_cache_capacity(0);
    let writer = pool.write().unwrap();
    let runs = || {
        let statement = writer.prepare_cached("SELECT 1").unwrap();
        let runs = statement.get_status(tenure::rusqlite::StatementStatus::Run);
        drop(statement);
        writer.prepare_cached("SELECT 1").unwrap().exists([]).unwrap();
        runs
    };
    runs();
    assert_eq!(runs(), 1, "the statement was prepared anew each time");
}
