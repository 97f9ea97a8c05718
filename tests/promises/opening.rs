//! What cannot work is refused when the pool is opened, with what to do about it; files are not
//! touched without need, and made for their owner only.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use tenure::rusqlite::Connection;
use tenure::{Access, CheckoutErrorKind, JournalMode, OpenError, Pool, testing};

use crate::until::LONG;

/// Names and contents of a directory.
fn contents(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(directory).unwrap().filter_map(|entry| {
        let entry = entry.unwrap();
        // It may be gone by now: SQLite removes its files while this looks.
        let bytes = fs::read(entry.path()).ok()?;
        Some((entry.file_name().into_string().unwrap(), bytes))
    });
    entries.collect()
}

#[test]
fn the_last_of_several_read_only_pools_cleans_up_after_the_first() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("app.db");
    drop(Pool::open(&file).unwrap());
    let open =
        || Pool::builder().access(Access::ReadOnly).readers(1).database(&file).open().unwrap();
    let (first, second) = (open(), open());
    let guard = second.read_owned().unwrap();
    drop((first, second));
    assert!(directory.path().join("app.db-shm").exists(), "a guard still needs it");
    drop(guard);
    assert_eq!(contents(directory.path()).len(), 1);
}

#[test]
fn a_path_is_never_taken_for_a_uri() {
    let directory = tempfile::tempdir().unwrap();
    let name = directory.path().join("file:app.db?mode=memory");
    let pool = Pool::open(&name).unwrap();
    pool.write().unwrap().execute_batch("CREATE TABLE task (title TEXT)").unwrap();
    assert!(pool.read().unwrap().table_exists(None, "task").unwrap(), "each has another database");
    assert!(name.exists());
}

#[cfg(unix)]
#[test]
fn a_new_file_is_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir().unwrap();
    let pool = Pool::open(directory.path().join("app.db")).unwrap();
    pool.write().unwrap().execute_batch("CREATE TABLE task (title TEXT)").unwrap();
    let names: Vec<_> = contents(directory.path()).into_keys().collect();
    assert_eq!(names, ["app.db", "app.db-shm", "app.db-wal"]);
    for name in names {
        let mode = fs::metadata(directory.path().join(&name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[test]
fn the_wal_is_gone_when_the_pool_is() {
    let directory = tempfile::tempdir().unwrap();
    let pool = Pool::open(directory.path().join("app.db")).unwrap();
    pool.write().unwrap().execute_batch("CREATE TABLE task (title TEXT)").unwrap();
    let other = pool.clone();
    drop(pool);
    assert!(directory.path().join("app.db-wal").exists(), "a clone keeps it");
    drop(other);
    assert_eq!(contents(directory.path()).into_keys().collect::<Vec<_>>(), ["app.db"]);
}

#[test]
fn a_temporary_pool_deletes_itself() {
    let pool = testing::temporary().unwrap();
    let file = pool.read().unwrap().rusqlite().path().unwrap().to_owned();
    let directory = Path::new(&file).parent().unwrap().to_owned();
    let writer = pool.write_owned().unwrap();
    drop(pool);
    assert!(directory.exists(), "a guard still needs it");
    writer.execute_batch("CREATE TABLE task (title TEXT)").unwrap();
    drop(writer);
    assert!(!directory.exists());
}

#[test]
fn the_directory_of_a_temporary_pool_is_gone_when_its_drop_returns() {
    for run in 0..100 {
        let pool = testing::temporary_with(Pool::builder().readers(4)).unwrap();
        let file = pool.config().database.clone().unwrap();
        drop(pool.read().unwrap());
        drop(pool);
        assert!(!file.parent().unwrap().exists(), "pool {run}");
    }
}

#[test]
fn the_files_of_a_read_only_pool_are_gone_when_its_drop_returns() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("app.db");
    drop(Pool::open(&file).unwrap());
    for run in 0..100 {
        let builder = Pool::builder().access(Access::ReadOnly).readers(4).database(&file);
        let pool = builder.open().unwrap();
        pool.read().unwrap().table_exists(None, "task").unwrap();
        if run % 2 == 0 {
            pool.close(LONG).unwrap();
        }
        drop(pool);
        let left: Vec<_> = contents(directory.path()).into_keys().collect();
        assert_eq!(left, ["app.db"], "pool {run}");
    }
}

#[test]
fn a_read_only_pool_has_no_writer_and_changes_nothing() {
    for wal in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("app.db");
        let made = Connection::open(&file).unwrap();
        if wal {
            made.pragma_update(None, "journal_mode", "wal").unwrap();
        }
        made.execute_batch("CREATE TABLE task (title TEXT); INSERT INTO task VALUES ('a')")
            .unwrap();
        made.close().unwrap();
        let before = contents(directory.path());

        let pool =
            Pool::builder().access(Access::ReadOnly).readers(2).database(&file).open().unwrap();
        let count = || -> i64 {
            pool.read().unwrap().query_one("SELECT count(*) FROM task", [], |r| r.get(0)).unwrap()
        };
        assert_eq!(count(), 1);
        assert!(pool.snapshot(|snapshot| Ok(snapshot.table_exists(None, "task")?)).unwrap());
        let error = pool.write().unwrap_err();
        assert_eq!(error.kind(), CheckoutErrorKind::ReadOnly, "{error}");
        assert!(pool.status().write.is_none());
        let error = pool.transaction(|_| Ok(())).unwrap_err();
        assert!(error.to_string().contains("read-only"), "{error}");
        drop(pool);
        assert_eq!(contents(directory.path()), before);
    }
}

#[test]
fn a_read_only_pool_cannot_be_made_to_write() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("app.db");
    Connection::open(&file).unwrap().execute_batch("CREATE TABLE task (title TEXT)").unwrap();
    let pool = Pool::builder().access(Access::ReadOnly).database(&file).open().unwrap();
    let reader = pool.read().unwrap();
    reader.rusqlite().pragma_update(None, "query_only", false).unwrap();
    assert!(reader.rusqlite().execute("DELETE FROM task", []).is_err());
    drop(reader);
    drop(pool);

    let builder = Pool::builder().access(Access::ReadOnly).database(&file).setup(|_| Ok(()));
    assert!(matches!(builder.open(), Err(OpenError::SetupOnReadOnly)));
}

#[test]
fn an_existing_database_is_converted_to_the_journal_mode() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("app.db");
    Connection::open(&file).unwrap().execute_batch("CREATE TABLE task (title TEXT)").unwrap();
    let mode = |session: &tenure::ReadSession| -> String {
        session.pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap()
    };
    let pool = Pool::open(&file).unwrap();
    assert_eq!(mode(&pool.read().unwrap()), "wal");
    drop(pool);
    let builder = Pool::builder().journal_mode(JournalMode::Truncate).database(&file);
    let pool = builder.open().unwrap();
    assert_eq!(mode(&pool.read().unwrap()), "truncate");
    assert_eq!(mode(&pool.write().unwrap()), "truncate");
}

#[test]
fn a_database_that_others_shut_out_of_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("app.db");
    let builder = || Pool::builder().database(&file).busy_timeout(Duration::from_millis(20));
    let first = builder().open().unwrap();
    let other_mode = builder().journal_mode(JournalMode::Delete).open().unwrap_err().to_string();
    drop(first);
    let outside = Connection::open(&file).unwrap();
    outside.execute_batch("PRAGMA journal_mode = delete; BEGIN EXCLUSIVE").unwrap();
    let shut_out = builder().open().unwrap_err().to_string();
    for (error, setting) in [(other_mode, "`journal_mode`"), (shut_out, "`cache_size_kib`")] {
        assert!(error.contains(&format!("stayed locked while {setting} was set")), "{error}");
        assert!(error.contains("`busy_timeout` is 20ms"), "{error}");
    }
}
