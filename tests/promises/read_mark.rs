//! While readers are busy the pool keeps a read transaction open, which makes theirs cheaper. It is in
//! nobody's way for long: not in that of checkpoints, not of writers outside the pool, and not of
//! anybody when readers pause. Nor is the WAL empty then, which makes each read dearer.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::Duration;

use tenure::rusqlite::Connection;
use tenure::{Builder, Pool, ReadSession, Role, Synchronous, testing};

use crate::until::{LONG, until};

const MIB: u64 = 1 << 20;

fn pool(builder: Builder) -> Pool {
    let pool = testing::temporary_with(builder.synchronous(Synchronous::Normal)).unwrap();
    let tables = "CREATE TABLE task (n INTEGER); CREATE TABLE page (body BLOB)";
    pool.write().unwrap().execute_batch(tables).unwrap();
    pool
}

fn wal(pool: &Pool) -> PathBuf {
    pool.config().database.clone().unwrap().with_file_name("temporary.db-wal")
}

fn commit(pool: &Pool) {
    pool.transaction(|tx| Ok(tx.execute("INSERT INTO task VALUES (1)", [])?)).unwrap();
}

fn query(session: &ReadSession) -> i64 {
    let mut statement = session.prepare_cached("SELECT count(*) FROM task").unwrap();
    statement.query_one([], |row| row.get(0)).unwrap()
}

/// A connection that is not the pool's, and waits for no lock.
fn outside(pool: &Pool) -> Connection {
    let outside = Connection::open(pool.config().database.as_ref().unwrap()).unwrap();
    outside.busy_timeout(Duration::ZERO).unwrap();
    outside.pragma_update(None, "synchronous", "off").unwrap();
    outside
}

/// Whether somebody was in the way of a checkpoint that empties the WAL.
fn is_in_the_way(connection: &Connection) -> bool {
    let truncate = "PRAGMA wal_checkpoint(TRUNCATE)";
    connection.query_row(truncate, [], |row| row.get(0)).unwrap()
}

/// Reads one after the other on this thread. In the end none is going on: what is in the way then is the
/// pool's.
fn read_a_little(pool: &Pool) {
    for _ in 0..2_000 {
        query(&pool.read().unwrap());
    }
}

/// Reads until the pool keeps a read transaction open. It is not the pool that commits: its checkpoints
/// would end it.
fn until_held(pool: &Pool, outside: &Connection) {
    outside.pragma_update(None, "wal_autocheckpoint", 0).unwrap();
    until("the pool has a read transaction", || {
        outside.execute("INSERT INTO task VALUES (1)", []).unwrap();
        read_a_little(pool);
        is_in_the_way(outside)
    });
}

/// Does `work` while two threads read without a pause.
fn beside_readers<T>(pool: &Pool, work: impl FnOnce() -> T) -> T {
    struct Done<'a>(&'a AtomicBool);
    impl Drop for Done<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let _done = Done(&done);
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    query(&pool.read().unwrap());
                }
            });
        }
        work()
    })
}

/// Whether this process holds a lock on one of the read marks of the pool's WAL.
#[cfg(target_os = "linux")]
fn is_a_mark_locked(pool: &Pool) -> bool {
    use std::os::unix::fs::MetadataExt;

    let index = pool.config().database.clone().unwrap().with_file_name("temporary.db-shm");
    let inode = index.metadata().unwrap().ino().to_string();
    let marks = ["123", "124", "125", "126", "127"];
    // "1: POSIX ADVISORY READ PROCESS MAJOR:MINOR:INODE FIRST LAST"
    std::fs::read_to_string("/proc/locks").unwrap().lines().any(|line| {
        let words: Vec<_> = line.split_whitespace().collect();
        words[5].rsplit(':').next() == Some(&inode) && marks.contains(&words[6])
    })
}

#[cfg(target_os = "linux")]
#[test]
fn it_ends_when_readers_pause() {
    let pool = pool(Pool::builder());
    for _ in 0..3 {
        until("the pool has a read transaction", || {
            read_a_little(&pool);
            is_a_mark_locked(&pool)
        });
        // More looks in a row than fit between the end of one and the beginning of the next.
        until("it has ended", || (0..200).all(|_| !is_a_mark_locked(&pool)));
    }
}

#[test]
fn it_can_be_switched_off() {
    let pool = pool(Pool::builder().read_mark(false));
    let outside = outside(&pool);
    let held = (0..50).filter(|_| {
        outside.execute("INSERT INTO task VALUES (1)", []).unwrap();
        read_a_little(&pool);
        is_in_the_way(&outside)
    });
    // A checkpoint of the pool's may be.
    let held = held.count();
    assert!(held < 3, "{held} of 50 times");
}

/// A database that has a table and a version, closed, and so without a WAL.
fn made_before() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("app.db");
    let made = Connection::open(&file).unwrap();
    let tables =
        "CREATE TABLE task (n INTEGER); INSERT INTO task VALUES (1); PRAGMA user_version = 7";
    made.execute_batch(tables).unwrap();
    made.pragma_update(None, "journal_mode", "wal").unwrap();
    made.close().unwrap();
    (directory, file)
}

/// A WAL of one page: its header, and a frame with the header of that.
const ONE_PAGE: u64 = 32 + 24 + 4096;

fn wal_bytes(file: &Path) -> u64 {
    file.with_file_name("app.db-wal").metadata().unwrap().len()
}

#[test]
fn the_wal_of_busy_readers_has_a_commit_that_changes_nothing() {
    let (_directory, file) = made_before();
    let pool = Pool::open(&file).unwrap();
    for _ in 0..10 {
        query(&pool.read().unwrap());
    }
    assert_eq!(wal_bytes(&file), 0, "the readers are not busy");
    // The header of the file comes first: whoever looks too early finds that alone.
    until("there is a commit of one page", || {
        read_a_little(&pool);
        wal_bytes(&file) == ONE_PAGE
    });
    let reader = pool.read().unwrap();
    assert_eq!(query(&reader), 1);
    let number = |sql| reader.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(number("PRAGMA user_version"), 7);
    assert_eq!(number("SELECT count(*) FROM sqlite_schema"), 1);
    assert!(pool.check().unwrap().is_sound());
    // It is one commit, and not one after the other.
    for _ in 0..20 {
        read_a_little(&pool);
    }
    assert_eq!(wal_bytes(&file), ONE_PAGE);
}

#[test]
fn nothing_is_committed_in_the_turn_of_who_writes() {
    let (_directory, file) = made_before();
    let pool = Pool::open(&file).unwrap();
    let writer = pool.write().unwrap();
    for _ in 0..20 {
        read_a_little(&pool);
    }
    assert_eq!(wal_bytes(&file), 0);
    drop(writer);
    until("there is a commit", || {
        read_a_little(&pool);
        wal_bytes(&file) > 0
    });
}

#[test]
fn the_connection_for_it_is_opened_beside_who_writes() {
    let (_directory, file) = made_before();
    let (opening, opened) = mpsc::channel();
    let (go_on, may_go_on) = mpsc::channel();
    let may_go_on = Mutex::new(may_go_on);
    let tried = AtomicBool::new(false);
    let pool = Pool::builder()
        .on_connect(move |_, role| {
            // The first is opened with the pool, and closed again.
            if role == Role::Checkpoint && tried.swap(true, Ordering::Relaxed) {
                opening.send(())?;
                may_go_on.lock().unwrap().recv()?;
            }
            Ok(())
        })
        .database(&file)
        .open()
        .unwrap();
    until("it is being opened", || {
        read_a_little(&pool);
        opened.try_recv().is_ok()
    });
    let written = pool.try_write().map(|writer| writer.execute("DELETE FROM task", []).is_ok());
    // Before the pool, which waits for it.
    drop(go_on);
    assert!(written.expect("the writer is idle"));
}

#[test]
fn nothing_is_committed_if_it_is_switched_off() {
    let (_directory, file) = made_before();
    let pool = Pool::builder().read_mark(false).database(&file).open().unwrap();
    for _ in 0..20 {
        read_a_little(&pool);
    }
    assert_eq!(wal_bytes(&file), 0);
}

#[test]
fn a_checkpoint_that_waits_gets_through() {
    let pool = pool(Pool::builder());
    let outside = outside(&pool);
    until_held(&pool, &outside);
    outside.busy_timeout(LONG).unwrap();
    beside_readers(&pool, || {
        for _ in 0..20 {
            outside.execute("INSERT INTO task VALUES (1)", []).unwrap();
            assert!(!is_in_the_way(&outside), "of one outside the pool");
            commit(&pool);
            let writer = pool.write().unwrap();
            assert!(!is_in_the_way(writer.rusqlite()), "of the writer");
        }
    });
}

#[test]
fn writers_outside_the_pool_keep_a_small_wal() {
    let pool = pool(Pool::builder());
    let outside = outside(&pool);
    until_held(&pool, &outside);
    outside.pragma_update(None, "wal_autocheckpoint", 1000).unwrap();
    outside.busy_timeout(LONG).unwrap();
    let wal = wal(&pool);
    beside_readers(&pool, || {
        for _ in 0..3_000 {
            outside.execute("INSERT INTO page VALUES (zeroblob(36000))", []).unwrap();
        }
    });
    // Of 108 MiB. A checkpoint comes when there are 4 MiB of it.
    let bytes = wal.metadata().unwrap().len();
    assert!(bytes < 60 * MIB, "{bytes} bytes");
}

#[test]
fn what_was_committed_is_seen() {
    let pool = pool(Pool::builder());
    beside_readers(&pool, || {
        for n in 1..=500 {
            commit(&pool);
            assert_eq!(query(&pool.read().unwrap()), n);
        }
    });
}

#[test]
fn nothing_of_it_is_left_when_the_pool_is_closed() {
    for _ in 0..5 {
        let pool = pool(Pool::builder());
        let outside = outside(&pool);
        until_held(&pool, &outside);
        outside.close().unwrap();
        let wal = wal(&pool);
        pool.close(LONG).unwrap();
        assert!(!wal.exists(), "a connection is still open");
    }
}
