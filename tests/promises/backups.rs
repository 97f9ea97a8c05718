//! A backup is one state of the database, whole or not there, and nobody's file is overwritten.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use tempfile::TempDir;
use tenure::rusqlite::Connection;
use tenure::{BackupError, CheckoutErrorKind, Pool, testing};

use crate::until::{LONG, until};

/// A database of some mebibytes, of which every commit changes all rows.
fn pool() -> Pool {
    let pool = testing::temporary_with(Pool::builder().readers(2)).unwrap();
    pool.write()
        .unwrap()
        .execute_batch(
            "CREATE TABLE task (n INTEGER, body BLOB);
             WITH RECURSIVE i(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM i WHERE n < 1000)
             INSERT INTO task SELECT 0, zeroblob(3000) FROM i",
        )
        .unwrap();
    pool
}

fn directory() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn names(directory: &Path) -> Vec<String> {
    let names = fs::read_dir(directory).unwrap();
    names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn it_is_one_state_although_others_write_and_it_never_starts_anew() {
    let (pool, directory) = (pool(), directory());
    let path = directory.path().join("copy.db");
    let done = AtomicBool::new(false);
    let mut copied = Vec::new();
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut commits = 0;
            while !done.load(Ordering::Relaxed) {
                pool.transaction(|tx| Ok(tx.execute("UPDATE task SET n = n + 1", [])?)).unwrap();
                commits += 1;
            }
            commits
        });
        let mut commits_seen = Vec::new();
        pool.backup_with_progress(&path, |now| {
            copied.push(now.copied);
            // In the middle: until somebody has written again.
            let n = || {
                pool.try_read().ok()?.query_one("SELECT max(n) FROM task", [], |r| r.get(0)).ok()
            };
            let before: Option<i64> = n();
            until("another commit", || n() > before);
            commits_seen.push(n());
        })
        .unwrap();
        done.store(true, Ordering::Relaxed);
        assert!(writer.join().unwrap() > copied.len());
    });
    assert!(copied.len() >= 3, "{copied:?}");
    assert!(copied.is_sorted(), "it began anew: {copied:?}");
    assert_eq!(names(directory.path()), ["copy.db"], "nothing is left beside it");
    let copy = Connection::open(&path).unwrap();
    let states: i64 =
        copy.query_row("SELECT count(DISTINCT n) FROM task", [], |row| row.get(0)).unwrap();
    assert_eq!(states, 1);
    let sound: String = copy.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(sound, "ok");
}

#[cfg(unix)]
#[test]
fn only_its_owner_may_read_it() {
    use std::os::unix::fs::PermissionsExt;
    let (pool, directory) = (pool(), directory());
    let path = directory.path().join("copy.db");
    pool.backup_to(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn nothing_is_overwritten() {
    let (pool, directory) = (pool(), directory());
    for there in ["copy.db", "copy.db-wal", "copy.db-journal"] {
        let there = directory.path().join(there);
        fs::write(&there, "mine").unwrap();
        let error = pool.backup_to(directory.path().join("copy.db")).unwrap_err();
        let BackupError::AlreadyThere { path, .. } = &error else { panic!("{error}") };
        assert_eq!(path.file_name(), there.file_name());
        assert!(error.to_string().contains("not overwritten"), "{error}");
        assert_eq!(fs::read_to_string(&there).unwrap(), "mine");
        fs::remove_file(&there).unwrap();
        assert!(names(directory.path()).is_empty());
    }
    let own = pool.config().database.clone().unwrap();
    assert!(matches!(pool.backup_to(own), Err(BackupError::AlreadyThere { .. })));
}

#[test]
fn a_name_that_sqlite_would_take_for_a_journal_is_refused() {
    let (pool, directory) = (pool(), directory());
    let own = pool.config().database.clone().unwrap();
    for suffix in ["-wal", "-shm", "-journal"] {
        let name = format!("{}{suffix}", own.file_name().unwrap().to_str().unwrap());
        let error = pool.backup_to(own.with_file_name(name)).unwrap_err().to_string();
        assert!(
            error.contains("journal of the database beside it")
                || error.contains("is there already"),
            "{error}"
        );
    }
    let error = pool.backup_to(own.with_extension("db-journal")).unwrap_err();
    assert!(error.to_string().contains("journal of the database beside it"), "{error}");
    pool.backup_to(directory.path().join("nobodys-journal")).unwrap();
}

#[test]
fn one_that_somebody_makes_meanwhile_is_not_overwritten_either() {
    let (pool, directory) = (pool(), directory());
    let path = directory.path().join("copy.db");
    let error =
        pool.backup_with_progress(&path, |_| fs::write(&path, "mine").unwrap()).unwrap_err();
    assert!(matches!(error, BackupError::AlreadyThere { .. }), "{error}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
    assert_eq!(names(directory.path()), ["copy.db"]);
}

#[test]
fn one_that_fails_leaves_nothing_behind() {
    let (pool, directory) = (pool(), directory());
    let path = directory.path().join("copy.db");
    let panicking = AssertUnwindSafe(|| pool.backup_with_progress(&path, |_| panic!("enough")));
    catch_unwind(panicking).unwrap_err();
    assert!(names(directory.path()).is_empty());
    assert!(pool.read().is_ok() && pool.read_timeout(LONG).is_ok(), "a connection is missing");

    let error = pool.backup_to(directory.path().join("none").join("copy.db")).unwrap_err();
    assert!(matches!(error, BackupError::Place { .. }), "{error}");
    pool.close(LONG).unwrap();
    let error = pool.backup_to(&path).unwrap_err();
    let BackupError::Checkout(closed) = &error else { panic!("{error}") };
    assert_eq!(closed.kind(), CheckoutErrorKind::Closed);
    assert!(names(directory.path()).is_empty());
}

/// SQLite in the same process would not notice: it goes by what it remembers.
#[cfg(target_os = "linux")]
#[test]
fn the_locks_on_the_original_stay() {
    use std::os::unix::fs::MetadataExt;
    let (pool, directory) = (pool(), directory());
    let original = fs::metadata(pool.config().database.as_ref().unwrap()).unwrap();
    let locks = || {
        let all = fs::read_to_string("/proc/locks").unwrap();
        all.lines().filter(|line| line.contains(&format!(":{} ", original.ino()))).count()
    };
    let before = locks();
    assert!(before > 0, "SQLite holds no lock on the database");
    pool.backup_to(directory.path().join("copy.db")).unwrap();
    // One that is lost is not seen again. Whoever reads the list while others come and go may miss one that
    // is there.
    until("the locks are there", || locks() == before);
}
