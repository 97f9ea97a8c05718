//! A database found damaged while the pool runs stops the pool: nothing more is read from it or
//! written to it, and everybody is told why.

use std::fs::{self, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use tenure::rusqlite::{Connection, ErrorCode};
use tenure::status::PoolState;
use tenure::{CheckoutErrorKind, CommitError, Error, Pool, Synchronous};

use crate::recorded::Recorded;
use crate::until::until;

/// A database with a table that is sound and one that is not, which nobody sees when it is opened.
fn damaged() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("app.db");
    let made = Connection::open(&file).unwrap();
    made.execute_batch(
        "PRAGMA journal_mode = wal;
         CREATE TABLE sound (n INTEGER); INSERT INTO sound VALUES (1);
         CREATE TABLE task (title TEXT);",
    )
    .unwrap();
    let root: u32 = made
        .query_row("SELECT rootpage FROM sqlite_schema WHERE name = 'task'", [], |row| row.get(0))
        .unwrap();
    made.close().unwrap();
    let mut bytes = OpenOptions::new().write(true).open(&file).unwrap();
    bytes.seek(SeekFrom::Start(u64::from(root - 1) * 4096)).unwrap();
    bytes.write_all(&[0x5a; 4096]).unwrap();
    (directory, file)
}

fn pool(file: &Path) -> Recorded {
    Recorded::opened(|| Pool::builder().database(file).readers(2).open().unwrap())
}

const DAMAGED: &str = "SELECT * FROM task";

/// What everybody gets after it was found.
fn assert_stopped(pool: &Recorded) {
    for error in [pool.read().err(), pool.write().err(), pool.try_read().err()] {
        let error = error.expect("the pool goes on");
        assert_eq!(error.kind(), CheckoutErrorKind::Damaged);
        let text = error.to_string();
        assert!(text.contains("the database is damaged, the pool has stopped"), "{text}");
        assert!(text.contains("database disk image is malformed"), "{text}");
        assert!(text.contains("damage.rs"), "{text}");
        assert!(text.contains("restore a backup"), "{text}");
    }
    assert_eq!(pool.value("tenure_damaged", &[]), 1.0);
    assert!(pool.checkouts("read", "damaged") >= 2.0);
    let status = pool.status();
    assert_eq!(status.state, PoolState::Damaged);
    assert!(status.damage.as_ref().unwrap().contains("malformed"), "{status}");
    assert!(status.to_string().contains(": stopped, "), "{status}");
}

#[test]
fn met_by_a_query() {
    let (_directory, file) = damaged();
    let before = fs::read(&file).unwrap();
    let pool = pool(&file);
    assert_eq!(pool.value("tenure_damaged", &[]), 0.0);
    let error = pool.read().unwrap().query_row(DAMAGED, [], |_| Ok(())).unwrap_err();
    assert_eq!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt));
    assert_stopped(&pool);
    let page = pool.rendered_after_the_end();
    let gauge = page.lines().find(|line| line.starts_with("tenure_damaged{")).unwrap();
    assert!(gauge.ends_with(" 0"), "of a pool that is gone: {gauge}");
    assert_eq!(before, fs::read(&file).unwrap(), "the file is left as it was");
}

#[test]
fn met_by_a_prepared_statement() {
    let (_directory, file) = damaged();
    let pool = pool(&file);
    let reader = pool.read().unwrap();
    reader.prepare(DAMAGED).unwrap().exists([]).unwrap_err();
    drop(reader);
    assert_stopped(&pool);
}

#[test]
fn met_through_the_connection_itself() {
    let (_directory, file) = damaged();
    let pool = pool(&file);
    pool.read().unwrap().rusqlite().query_row(DAMAGED, [], |_| Ok(())).unwrap_err();
    assert_stopped(&pool);
}

#[test]
fn met_inside_a_transaction_which_then_cannot_commit() {
    let (_directory, file) = damaged();
    let pool = pool(&file);
    let result = pool.transaction(|tx| {
        tx.execute("INSERT INTO sound VALUES (2)", [])?;
        let mut statement = tx.prepare("INSERT INTO task VALUES ('a')")?;
        statement.execute([]).unwrap_err();
        Ok(())
    });
    let Err(Error::Commit(error)) = result else { panic!("{result:?}") };
    assert!(matches!(error, CommitError::Damaged), "{error}");
    assert!(error.is_undone());
    assert_stopped(&pool);
    drop(pool);
    let rows = "SELECT count(*) FROM sound";
    let outside = Connection::open(&file).unwrap();
    assert_eq!(outside.query_row(rows, [], |row| row.get::<_, i64>(0)).unwrap(), 1);
}

#[test]
fn a_transaction_of_somebody_else_cannot_commit_either() {
    let (_directory, file) = damaged();
    let pool = pool(&file);
    let mut writer = pool.write().unwrap();
    let tx = writer.transaction().unwrap();
    tx.execute("INSERT INTO sound VALUES (2)", []).unwrap();
    pool.read().unwrap().query_row(DAMAGED, [], |_| Ok(())).unwrap_err();
    // Nor can it go on.
    let error = tx.execute("INSERT INTO sound VALUES (3)", []).unwrap_err();
    assert!(error.to_string().contains("damage.rs"), "{error}");
    let error = tx.commit().unwrap_err();
    assert!(matches!(error, CommitError::Damaged), "{error}");
}

#[test]
fn those_who_wait_when_it_is_met_are_told() {
    let (_directory, file) = damaged();
    let pool = Recorded::opened(|| Pool::builder().database(&file).readers(1).open().unwrap());
    let (reader, writer) = (pool.read().unwrap(), pool.write().unwrap());
    let kinds = std::thread::scope(|scope| {
        let waiting = [
            scope.spawn(|| pool.read().map(drop).unwrap_err().kind()),
            scope.spawn(|| pool.write().map(drop).unwrap_err().kind()),
        ];
        until("both wait", || {
            let status = pool.status();
            status.read.waiting.len() + status.write.unwrap().waiting.len() == 2
        });
        reader.query_row(DAMAGED, [], |_| Ok(())).unwrap_err();
        drop((reader, writer));
        waiting.map(|thread| thread.join().unwrap())
    });
    assert_eq!(kinds, [CheckoutErrorKind::Damaged; 2]);
    for role in ["read", "write"] {
        assert_eq!(pool.checkouts(role, "damaged"), 1.0, "{role}");
        assert_eq!(pool.checkouts(role, "waited"), 0.0, "{role}");
        let waits = pool.value("tenure_checkout_wait_seconds_count", &[("role", role)]);
        assert_eq!(waits, 1.0, "{role}");
    }
}

#[test]
fn met_while_a_turn_for_a_checkpoint_is_waited_for_which_then_is_not_made() {
    let (_directory, file) = damaged();
    let builder = Pool::builder().wal_limit_mib(4).synchronous(Synchronous::Normal);
    let pool = Recorded::opened(|| builder.database(&file).readers(1).open().unwrap());
    let mut writer = pool.write().unwrap();
    for _ in 0..12 {
        let tx = writer.transaction().unwrap();
        tx.execute("INSERT INTO sound VALUES (zeroblob(36000))", []).unwrap();
        tx.commit().unwrap();
    }
    until("a turn is waited for", || {
        let waiting = pool.status().write.unwrap().waiting;
        waiting.iter().any(|waiter| waiter.thread == "tenure-checkpoints")
    });
    pool.read().unwrap().query_row(DAMAGED, [], |_| Ok(())).unwrap_err();
    drop(writer);
    let rendered = pool.rendered_after_the_end();
    let in_turn: Vec<_> = rendered.lines().filter(|line| line.contains("in_turn")).collect();
    assert!(!in_turn.is_empty());
    for line in in_turn.iter().filter(|line| line.starts_with("tenure_checkpoints_total")) {
        assert!(line.ends_with(" 0"), "{line}");
    }
}

#[test]
fn met_just_before_a_rollback() {
    let (_directory, file) = damaged();
    let pool = pool(&file);
    let result = pool.transaction(|tx| {
        let failed = tx.prepare(DAMAGED)?.exists([]);
        Ok(failed?)
    });
    assert!(result.is_err());
    assert_stopped(&pool);
}

#[test]
fn met_where_another_database_is_attached() {
    let (_directory, file) = damaged();
    let attach = |connection: &mut Connection, _| {
        Ok(connection.execute_batch("ATTACH ':memory:' AS other")?)
    };
    let pool = Recorded::opened(|| {
        Pool::builder().database(&file).readers(2).on_connect(attach).open().unwrap()
    });
    pool.read().unwrap().query_row(DAMAGED, [], |_| Ok(())).unwrap_err();
    assert_stopped(&pool);
}

#[test]
fn damage_of_a_file_that_was_attached_is_not_this_pools() {
    let (_directory, file) = damaged();
    let pool = Recorded::new();
    let writer = pool.write().unwrap();
    writer.execute(&format!("ATTACH '{}' AS other", file.display()), []).unwrap();
    writer.query_row("SELECT * FROM other.task", [], |_| Ok(())).unwrap_err();
    drop(writer);
    assert!(pool.write().is_ok());
}

#[test]
fn a_file_that_is_no_database_and_was_to_be_attached_is_no_damage() {
    let directory = tempfile::tempdir().unwrap();
    let text = directory.path().join("notes.txt");
    fs::write(&text, "these are notes and not a database, whatever the statement says".repeat(50))
        .unwrap();
    let pool = Recorded::new();
    let attach = format!("ATTACH '{}' AS notes", text.display());
    let writer = pool.write().unwrap();
    let error = writer
        .execute(&attach, [])
        .and_then(|_| writer.query_row("SELECT count(*) FROM notes.sqlite_schema", [], |_| Ok(())));
    assert_eq!(error.unwrap_err().sqlite_error_code(), Some(ErrorCode::NotADatabase));
    drop(writer);
    assert!(pool.write().is_ok());
}

#[test]
fn an_index_of_fts5_that_does_not_fit_its_content_is_no_damage() {
    let pool = Recorded::new();
    let writer = pool.write().unwrap();
    writer
        .execute_batch(
            "CREATE VIRTUAL TABLE text USING fts5 (body);
             INSERT INTO text VALUES ('a text'), ('another text');
             DROP TABLE IF EXISTS none;",
        )
        .unwrap();
    // Behind its back: shadow tables can be changed when the database is not defensive.
    writer
        .rusqlite()
        .set_db_config(tenure::rusqlite::config::DbConfig::SQLITE_DBCONFIG_DEFENSIVE, false)
        .unwrap();
    writer.execute("DELETE FROM text_data", []).unwrap();
    let check = "INSERT INTO text(text) VALUES ('integrity-check')";
    let error = writer.execute(check, []).unwrap_err();
    assert_eq!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt));
    drop(writer);
    assert!(pool.write().is_ok());
}
