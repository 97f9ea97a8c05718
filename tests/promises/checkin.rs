//! Nothing is inherited: an open transaction never reaches the next borrower, however it was left.

use std::mem;

use tenure::rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use tenure::{Pool, WriteGuard};

use crate::recorded::Recorded;

/// One writer, one reader: the next checkout gets the connection that has just come back.
fn pool() -> Recorded {
    let pool = Recorded::with(Pool::builder().readers(1));
    pool.write().unwrap().execute_batch("CREATE TABLE task (title TEXT)").unwrap();
    pool
}

/// Leaves something behind, and looks at what the next borrower finds.
fn left_by(leave: impl FnOnce(WriteGuard<'_>)) -> Recorded {
    let pool = pool();
    leave(pool.write().unwrap());

    let next = pool.write().unwrap();
    assert!(next.is_autocommit(), "a transaction was inherited");
    next.execute("INSERT INTO task VALUES ('next')", []).unwrap();
    drop(next);

    let titles: String = pool
        .read()
        .unwrap()
        .query_one("SELECT group_concat(title) FROM task", [], |row| row.get(0))
        .unwrap();
    assert_eq!(titles, "next", "what was left open was kept, or the next borrower's work was not");
    pool
}

fn insert(session: &tenure::Session) {
    session.execute("INSERT INTO task VALUES ('left over')", []).unwrap();
}

#[test]
fn a_raw_begin_is_rolled_back() {
    let pool = left_by(|guard| {
        guard.execute_batch("BEGIN").unwrap();
        insert(&guard);
    });
    assert_eq!(pool.repairs("open_transaction"), 1.0);
}

#[test]
fn a_raw_savepoint_is_rolled_back() {
    let pool = left_by(|guard| {
        guard.execute_batch("SAVEPOINT mine").unwrap();
        insert(&guard);
    });
    assert_eq!(pool.repairs("open_transaction"), 1.0);
}

#[test]
fn a_forgotten_transaction_is_rolled_back() {
    let pool = left_by(|mut guard| {
        let tx = guard.transaction().unwrap();
        insert(&tx);
        mem::forget(tx);
    });
    assert_eq!(pool.repairs("open_transaction"), 1.0);
}

#[test]
fn a_forgotten_savepoint_is_rolled_back() {
    let pool = left_by(|mut guard| {
        let mut tx = guard.transaction().unwrap();
        let savepoint = tx.savepoint().unwrap();
        insert(&savepoint);
        mem::forget(savepoint);
        mem::forget(tx);
    });
    assert_eq!(pool.repairs("open_transaction"), 1.0);
}

#[test]
fn a_forgotten_unchecked_transaction_is_rolled_back() {
    let pool = left_by(|guard| {
        let tx = guard.rusqlite().unchecked_transaction().unwrap();
        tx.execute("INSERT INTO task VALUES ('left over')", []).unwrap();
        mem::forget(tx);
    });
    assert_eq!(pool.repairs("open_transaction"), 1.0);
}

#[test]
fn a_transaction_left_with_rows_unread_is_rolled_back() {
    let pool = left_by(|guard| {
        guard.execute_batch("BEGIN").unwrap();
        insert(&guard);
        let mut statement = guard.prepare("SELECT * FROM task").unwrap();
        let mut rows = statement.query([]).unwrap();
        assert!(rows.next().unwrap().is_some());
        mem::forget(rows);
        mem::forget(statement);
    });
    assert_eq!(pool.repairs("open_transaction"), 1.0);
}

#[test]
fn a_transaction_left_by_a_panic_is_rolled_back() {
    let pool = left_by(|guard| {
        let panic = std::panic::AssertUnwindSafe(|| {
            guard.execute_batch("BEGIN").unwrap();
            insert(&guard);
            std::panic::resume_unwind(Box::new("the handler failed"));
        });
        std::panic::catch_unwind(panic).unwrap_err();
    });
    assert_eq!(pool.repairs("open_transaction"), 1.0);
}

#[test]
fn rows_forgotten_on_a_reader_pin_no_snapshot() {
    let pool = pool();
    pool.write().unwrap().execute_batch("INSERT INTO task VALUES ('a'), ('b')").unwrap();
    let reader = pool.read().unwrap();
    let mut statement = reader.prepare("SELECT * FROM task").unwrap();
    let mut rows = statement.query([]).unwrap();
    assert!(rows.next().unwrap().is_some());
    mem::forget(rows);
    mem::forget(statement);
    drop(reader);
    assert_eq!(pool.repairs("unfinished_statement"), 1.0);

    pool.write().unwrap().execute_batch("INSERT INTO task VALUES ('c')").unwrap();
    let count: i64 =
        pool.read().unwrap().query_one("SELECT count(*) FROM task", [], |row| row.get(0)).unwrap();
    assert_eq!(count, 3, "the next borrower reads an old snapshot");
    // A checkpoint that can reset the WAL proves that no connection holds a snapshot.
    let writer = pool.write().unwrap();
    let busy: i64 =
        writer.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0)).unwrap();
    assert_eq!(busy, 0, "a snapshot is still held");
}

#[test]
fn what_cannot_be_rolled_back_is_closed_and_opened_again() {
    let pool = left_by(|guard| {
        guard.execute_batch("BEGIN").unwrap();
        insert(&guard);
        let no_rollback = |context: AuthContext<'_>| match context.action {
            AuthAction::Transaction { .. } => Authorization::Deny,
            _ => Authorization::Allow,
        };
        guard.rusqlite().authorizer(Some(no_rollback)).unwrap();
    });
    assert_eq!(pool.repairs("discarded"), 1.0);
    let closed = [("role", "write"), ("reason", "broken")];
    assert_eq!(pool.value("tenure_connections_closed_total", &closed), 1.0);
    assert_eq!(pool.value("tenure_connections_opened_total", &[("role", "write")]), 2.0);
}

#[test]
fn the_row_that_somebody_else_inserted_is_forgotten() {
    let pool = pool();
    let writer = pool.write().unwrap();
    insert(&writer);
    assert_eq!(writer.last_insert_rowid(), 1);
    drop(writer);
    let writer = pool.write().unwrap();
    assert_eq!(writer.last_insert_rowid(), 0);
    let sql = "SELECT last_insert_rowid()";
    assert_eq!(writer.query_one(sql, [], |row| row.get::<_, i64>(0)).unwrap(), 0);
}

/// `TENURE_CHECKOUTS` says how many checkouts to make.
#[test]
fn ordinary_use_is_never_repaired() {
    let checkouts = std::env::var("TENURE_CHECKOUTS").map_or(6_000, |n| n.parse().unwrap());
    let pool = Recorded::with(
        Pool::builder().readers(1).synchronous(tenure::Synchronous::Off).setup(|connection| {
            Ok(connection.execute_batch(
                "CREATE TABLE task (title TEXT); CREATE VIRTUAL TABLE text USING fts5 (body)",
            )?)
        }),
    );
    // Six checkouts a round.
    for n in 0..checkouts / 6 {
        pool.read().unwrap().prepare_cached("SELECT ?1").unwrap().exists([n]).unwrap();
        let writer = pool.write().unwrap();
        writer.execute("INSERT INTO text VALUES ('some text')", []).unwrap();
        writer.execute_batch("DELETE FROM text; DELETE FROM task WHERE title > 100").unwrap();
        assert_eq!(writer.query_one("PRAGMA user_version", [], |row| row.get(0)), Ok(0));
        drop(writer);
        let writer = pool.write().unwrap();
        writer.execute("SAVEPOINT mine", []).unwrap();
        writer.execute("RELEASE mine", []).unwrap();
        drop(writer);
        pool.transaction(|tx| Ok(tx.execute("INSERT INTO task VALUES (?1)", [n])?)).unwrap();
        let _ = pool.transaction(|tx| {
            tx.execute("INSERT INTO task VALUES ('no')", [])?;
            Err::<(), _>(tenure::Error::other("changed my mind"))
        });
        pool.snapshot(|snapshot| {
            let mut statement = snapshot.prepare_cached("SELECT title FROM task")?;
            // Left in the middle of its rows, but dropped in order.
            let first = statement.query([])?.next()?.map(|row| row.get::<_, String>(0));
            Ok(first.transpose()?)
        })
        .unwrap();
    }
    let rendered = pool.rendered();
    let repairs: Vec<_> =
        rendered.lines().filter(|line| line.starts_with("tenure_checkin_repairs_total{")).collect();
    assert_eq!(repairs.len(), 11);
    assert!(repairs.iter().all(|line| line.ends_with(" 0")), "{repairs:#?}");
}

/// The schema is read anew after a change of it, and with it what SQLite had not looked up before.
#[test]
fn a_connection_that_nothing_was_done_to_is_kept_after_a_change_of_the_schema() {
    let pool = Recorded::with(Pool::builder().readers(1));
    for table in ["a", "b", "c"] {
        for _ in 0..2 {
            pool.read().unwrap().rusqlite().execute_batch("SELECT 1").unwrap();
            pool.write().unwrap().rusqlite().execute_batch("SELECT 1").unwrap();
        }
        pool.transaction(|tx| Ok(tx.execute_batch(&format!("CREATE TABLE {table} (n)"))?)).unwrap();
    }
    let reasons = ["pragma", "raw", "discarded"];
    assert_eq!(reasons.map(|reason| pool.repairs(reason)), [0.0; 3]);
}
