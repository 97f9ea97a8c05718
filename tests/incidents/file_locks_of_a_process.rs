//! Holds the crate to: writers outside the pool, in this process or another, get their turn and lose
//! nothing, and nothing that a pool does takes its own file locks away.
//!
//! Worker processes on one file lost commits although SQLite orders the writers of all processes: a
//! check opened and closed the database file, which cancels every lock the process has on it.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use tempfile::TempDir;
use tenure::rusqlite::{self, Connection, ErrorCode};
use tenure::{BeginError, Error, JournalMode, Pool, ReadSession, Transaction};

use crate::{at_once, bare_connection, settings};

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS counter (n INTEGER NOT NULL);
    INSERT INTO counter SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM counter);
";

fn new_database() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let database = directory.path().join("shared.db");
    (directory, database)
}

fn open(database: &Path, journal_mode: JournalMode) -> Pool {
    let setup = |connection: &mut Connection| Ok(connection.execute_batch(SCHEMA)?);
    settings().database(database).journal_mode(journal_mode).setup(setup).open().unwrap()
}

fn counter(session: &ReadSession) -> rusqlite::Result<i64> {
    session.query_one("SELECT n FROM counter", [], |row| row.get(0))
}

fn add_one(tx: &mut Transaction<'_>) -> Result<i64, Error> {
    let n = counter(tx)?;
    tx.execute("UPDATE counter SET n = ?1", [n + 1])?;
    Ok(n)
}

#[test]
fn two_pools_on_one_file_lose_no_write() {
    for journal_mode in [JournalMode::Wal, JournalMode::Truncate] {
        let (_directory, database) = new_database();
        let pools = [open(&database, journal_mode), open(&database, journal_mode)];
        let errors: Vec<Vec<Error>> = at_once(8, |thread| {
            let pool = &pools[thread as usize % 2];
            (0..100).filter_map(|_| pool.transaction(add_one).err()).collect()
        });
        assert!(errors.iter().all(Vec::is_empty), "{journal_mode:?}: {errors:?}");
        for pool in &pools {
            assert_eq!(counter(&pool.read().unwrap()).unwrap(), 800, "{journal_mode:?}");
        }
    }
}

#[test]
fn a_transaction_keeps_other_connections_out_from_its_beginning() {
    let (_directory, database) = new_database();
    let pool = open(&database, JournalMode::Wal);
    let outside = bare_connection(&database);
    let result = pool.transaction(|tx| {
        let refused = outside.execute("UPDATE counter SET n = 100", []).unwrap_err();
        assert_eq!(refused.sqlite_error_code(), Some(ErrorCode::DatabaseBusy));
        add_one(tx)
    });
    result.unwrap();
    assert_eq!(outside.execute("UPDATE counter SET n = n + 100", []), Ok(1));
    assert_eq!(counter(&pool.read().unwrap()).unwrap(), 101);
}

#[test]
fn a_transaction_waits_for_a_lock_held_outside_the_pool() {
    let (_directory, database) = new_database();
    let pool = open(&database, JournalMode::Wal);
    let outside = bare_connection(&database);
    outside.execute_batch("BEGIN IMMEDIATE").unwrap();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| pool.transaction(add_one));
        // It has the pool's writer, so nothing but SQLite's lock is in its way.
        crate::wait_until(|| {
            waiting.is_finished() || pool.status().write.is_some_and(|role| !role.held.is_empty())
        });
        for _ in 0..1_000 {
            outside.execute("UPDATE counter SET n = n + 1", []).unwrap();
        }
        assert!(!waiting.is_finished(), "{:?}", waiting.join());
        outside.execute_batch("COMMIT").unwrap();
        assert_eq!(waiting.join().unwrap().unwrap(), 1_000, "it began after the other's end");
    });
    assert_eq!(counter(&pool.read().unwrap()).unwrap(), 1_001);
}

#[test]
fn a_lock_that_is_never_given_back_ends_in_an_error() {
    let (_directory, database) = new_database();
    drop(open(&database, JournalMode::Wal));
    let pool =
        settings().busy_timeout(Duration::from_millis(20)).database(&database).open().unwrap();
    let outside = bare_connection(&database);
    outside.execute_batch("BEGIN IMMEDIATE").unwrap();
    let refused = pool.transaction(|_| -> Result<(), Error> { unreachable!("it has not begun") });
    let Err(Error::Begin(BeginError::Busy { waited, limit, .. })) = refused else {
        panic!("{refused:?} is not a time-out");
    };
    assert!(waited >= limit, "{waited:?} of {limit:?}");

    outside.execute_batch("COMMIT").unwrap();
    pool.transaction(add_one).unwrap();
    assert_eq!(counter(&pool.read().unwrap()).unwrap(), 1);
}

const DATABASE: &str = "TENURE_INCIDENTS_DATABASE";
const FREE: &str = "the write lock is free";
const TAKEN: &str = "the write lock is taken";

/// What a process of its own finds. The threads of this one cannot tell: SQLite keeps account of
/// their locks in memory, where a lost file lock is not noticed.
fn another_process_can_write(database: &Path) -> bool {
    let child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "file_locks_of_a_process::other_process", "--ignored", "--nocapture"])
        .env(DATABASE, database)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success(), "{said}");
    assert!(said.contains(FREE) != said.contains(TAKEN), "{said}");
    said.contains(FREE)
}

#[test]
#[ignore = "the other process of the tests here, which start it"]
fn other_process() {
    let Some(database) = env::var_os(DATABASE) else { return };
    match bare_connection(Path::new(&database)).execute_batch("BEGIN IMMEDIATE; ROLLBACK") {
        Ok(()) => println!("{FREE}"),
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => {
            println!("{TAKEN}");
        }
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn nothing_that_a_pool_does_cancels_its_locks() {
    for journal_mode in [JournalMode::Wal, JournalMode::Truncate] {
        let (_directory, database) = new_database();
        let pool = open(&database, journal_mode);
        assert!(another_process_can_write(&database), "{journal_mode:?}");

        let result = pool.transaction(|tx| {
            let n = add_one(tx)?;
            assert!(!another_process_can_write(&database), "{journal_mode:?}: not locked at all");
            // Reading, looking, and opening and closing the same file by a second pool.
            assert_eq!(counter(&*pool.read()?)?, n);
            assert!(pool.try_write().is_err());
            let _ = pool.status().to_string();
            let second = settings().database(&database).journal_mode(journal_mode).open()?;
            assert_eq!(counter(&*second.read()?)?, n);
            drop(second);
            assert!(!another_process_can_write(&database), "{journal_mode:?}: the lock is gone");
            Ok(())
        });
        result.unwrap();
        assert!(another_process_can_write(&database), "{journal_mode:?}: locked for ever");
        assert_eq!(counter(&pool.read().unwrap()).unwrap(), 1);
    }
}

/// POSIX locks only: elsewhere a lock belongs to what it was taken through.
#[cfg(unix)]
#[test]
fn control_reading_the_file_oneself_cancels_the_locks() {
    let (_directory, database) = new_database();
    let pool = open(&database, JournalMode::Truncate);
    let mut writer = pool.write().unwrap();
    let mut tx = writer.transaction().unwrap();
    add_one(&mut tx).unwrap();
    assert!(!another_process_can_write(&database));
    std::fs::read(&database).unwrap();
    assert!(another_process_can_write(&database), "inside an open transaction of ours");
}
