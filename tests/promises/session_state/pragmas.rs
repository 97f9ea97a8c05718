//! No PRAGMA that a holder has set.

use tenure::rusqlite::Connection;
use tenure::{JournalMode, Pool, Session};

use super::{found, pool, pool_with, reasons, unchanged};
use crate::recorded::Recorded;

const PROCESS_WIDE: [&str; 4] =
    ["data_store_directory", "hard_heap_limit", "soft_heap_limit", "temp_store_directory"];

fn pragmas() -> Vec<String> {
    let plain = Connection::open_in_memory().unwrap();
    let mut statement = plain.prepare("PRAGMA pragma_list").unwrap();
    statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

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
fn no_pragma_that_is_updated_is_inherited() {
    let pool = pool();
    let before = found(&pool);
    pool.write().unwrap().pragma_update(None, "cache_size", 7).unwrap();
    assert_eq!(found(&pool), before);
    assert_eq!(reasons(&pool), ["pragma"]);
    let reader = pool.read().unwrap();
    let refused = reader.pragma_update(None, "query_only", false).unwrap_err();
    assert!(refused.to_string().contains("a reader stays query-only"), "{refused}");
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
fn the_journal_mode_is_not_changed_by_sql() {
    for (mode, name) in [(JournalMode::Wal, "wal"), (JournalMode::Truncate, "truncate")] {
        let pool = pool_with(Pool::builder().journal_mode(mode));
        // What it is already may be said again.
        pool.write().unwrap().execute_batch(&format!("PRAGMA journal_mode = {name}")).unwrap();
        for sql in ["PRAGMA journal_mode = persist", "PRAGMA main.journal_mode('DELETE')"] {
            let text = pool.write().unwrap().execute_batch(sql).unwrap_err().to_string();
            assert!(text.contains("`journal_mode` when the pool is opened"), "{text}");
            let reader = pool.read().unwrap();
            assert!(reader.query_row(sql, [], |row| row.get::<_, String>(0)).is_err());
        }
        let asked = "PRAGMA journal_mode";
        let found: String = pool.read().unwrap().query_row(asked, [], |row| row.get(0)).unwrap();
        assert_eq!(found, name);
    }
}

/// Many a PRAGMA acts on what is prepared after it, and can be set back before anybody looks.
#[test]
fn a_statement_that_was_prepared_under_other_settings_is_not_inherited() {
    let pool = pool();
    pool.write().unwrap().execute_batch("CREATE TABLE positive (n CHECK (n > 0))").unwrap();
    let insert = "INSERT INTO positive VALUES (?1)";
    let writer = pool.write().unwrap();
    drop(writer.prepare("PRAGMA ignore_check_constraints = ON").unwrap());
    drop(writer.prepare_cached(insert).unwrap());
    drop(writer.prepare("PRAGMA ignore_check_constraints = OFF").unwrap());
    drop(writer);
    assert!(pool.write().unwrap().execute(insert, [-1]).is_err(), "the check was left out");
    let writer = pool.write().unwrap();
    let raw = writer.rusqlite();
    drop(raw.prepare("PRAGMA ignore_check_constraints = ON").unwrap());
    drop(raw.prepare_cached(insert).unwrap());
    drop(raw.prepare("PRAGMA ignore_check_constraints = OFF").unwrap());
    drop(writer);
    let writer = pool.write().unwrap();
    let mut again = writer.rusqlite().prepare_cached(insert).unwrap();
    assert!(again.execute([-1]).is_err(), "the check was left out");
}
