//! Nothing is inherited: whatever a holder does to the state of its connection, through a session or
//! through the connection itself, the next holder finds it as `on_connect` left it.

mod on_connect;
mod pragmas;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use tenure::rusqlite::Connection;
use tenure::rusqlite::config::DbConfig;
use tenure::rusqlite::functions::FunctionFlags;
use tenure::rusqlite::hooks::{AuthContext, Authorization, Wal};
use tenure::rusqlite::limits::Limit;
use tenure::rusqlite::trace::{TraceEvent, TraceEventCodes};
use tenure::rusqlite::types::Value;
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
