//! Pools beside the server's own, for what would end it.

use std::fs::OpenOptions;
use std::io::{Error as IoError, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use tenure::rusqlite::Connection;
use tenure::{AfterRaw, BoxError, JournalMode, Pool};

use super::Until;

/// With a rollback journal, readers and a writer shut each other out, unlike with a WAL.
pub(super) fn run(until: Until<'_>) {
    let Ok(directory) = tempfile::tempdir() else { return };
    let file = directory.path().join("second.db");
    while until.pause(100) {
        if let Err(error) = round(&file, until) {
            tracing::warn!(error, "a round of the second pool ended early");
        }
    }
}

fn round(file: &Path, until: Until<'_>) -> Result<(), BoxError> {
    static FAILING: AtomicBool = AtomicBool::new(false);
    static REFUSING: AtomicBool = AtomicBool::new(false);
    FAILING.store(false, Ordering::Relaxed);
    let pool = Pool::builder()
        .database(file)
        .name("second")
        .journal_mode(JournalMode::Delete)
        .readers(2)
        .busy_timeout(Duration::from_millis(40))
        .checkout_timeout(Duration::from_millis(200))
        .idle_limit(Duration::from_secs(1))
        .max_lifetime(Duration::from_secs(3))
        .after_raw(AfterRaw::Discard)
        .on_connect(|connection, _| {
            if FAILING.load(Ordering::Relaxed) {
                return Err(IoError::other("a drill").into());
            }
            // Turns a COMMIT into a rollback.
            connection.commit_hook(Some(|| REFUSING.load(Ordering::Relaxed)))?;
            Ok(())
        })
        .open()?;
    pool.write()?.execute_batch("CREATE TABLE IF NOT EXISTS drill (n INTEGER)")?;
    let outsider = Connection::open(file)?;
    for hold in [10, 80] {
        thread::scope(|scope| {
            let locked = outsider.execute_batch("BEGIN EXCLUSIVE");
            scope.spawn(|| pool.read().map(|reader| reader.table_exists(None, "drill")));
            scope.spawn(|| pool.snapshot(|_| Ok(())));
            scope.spawn(|| pool.transaction(|_| Ok(())));
            scope.spawn(|| {
                pool.write().map(|writer| writer.execute("INSERT INTO drill VALUES (1)", []))
            });
            until.pause(hold);
            drop(locked.and_then(|()| outsider.execute_batch("COMMIT")));
        });
        thread::scope(|scope| {
            // A reader keeps a writer from its COMMIT.
            let locked = outsider.execute_batch("BEGIN; SELECT count(*) FROM drill");
            scope.spawn(|| {
                pool.transaction(|tx| Ok(tx.execute("INSERT INTO drill VALUES (1)", [])?))
            });
            until.pause(hold);
            drop(locked.and_then(|()| outsider.execute_batch("COMMIT")));
        });
    }
    refuse(&pool, &outsider)?;
    REFUSING.store(true, Ordering::Relaxed);
    drop(pool.group_commit(|tx| Ok(tx.execute("INSERT INTO drill VALUES (1)", [])?)));
    REFUSING.store(false, Ordering::Relaxed);
    // One reader is idle for too long, the others become too old.
    drop((pool.read(), pool.read()));
    until.pause(4500);
    drop((pool.read(), pool.write()));
    pool.resize(1)?;
    pool.resize(2)?;
    FAILING.store(true, Ordering::Relaxed);
    // Each is closed for what was done to it, and no other can be opened.
    drop(pool.read().map(|reader| reader.rusqlite().is_autocommit()));
    drop(pool.write().map(|writer| writer.rusqlite().is_autocommit()));
    drop((pool.read(), pool.write()));
    FAILING.store(false, Ordering::Relaxed);
    drop((pool.read(), pool.write()));
    pool.close(Duration::from_secs(5))?;
    drop((pool.read(), pool.write()));
    Ok(())
}

/// Takes the pool's busy handler away, so that SQLite refuses what it would wait with.
fn refuse(pool: &Pool, outsider: &Connection) -> Result<(), BoxError> {
    outsider.execute_batch("BEGIN EXCLUSIVE")?;
    if let Ok(reader) = pool.read() {
        reader.rusqlite().busy_timeout(Duration::ZERO)?;
        drop(reader.table_exists(None, "drill"));
    }
    if let Ok(mut writer) = pool.write() {
        writer.rusqlite().busy_timeout(Duration::ZERO)?;
        drop(writer.transaction());
    }
    outsider.execute_batch("COMMIT; BEGIN; SELECT count(*) FROM drill")?;
    drop(pool.transaction(|tx| {
        tx.execute("INSERT INTO drill VALUES (1)", [])?;
        Ok(tx.rusqlite().busy_timeout(Duration::ZERO)?)
    }));
    Ok(outsider.execute_batch("COMMIT")?)
}

/// A database with a table whose first page is no page.
pub(super) fn damage(until: Until<'_>) {
    let Ok(directory) = tempfile::tempdir() else { return };
    let file = directory.path().join("damaged.db");
    let pool = spoil(&file).and_then(|()| Ok(Pool::builder().database(&file).open()?));
    let pool = match pool {
        Ok(pool) => pool,
        Err(error) => return tracing::warn!(error, "there is no damaged database"),
    };
    while until.pause(200) {
        let look = |row: &tenure::rusqlite::Row<'_>| row.get::<_, i64>(0);
        drop(pool.read().map(|reader| reader.query_one("SELECT n FROM drill", [], look)));
        drop(pool.write());
    }
}

fn spoil(file: &Path) -> Result<(), BoxError> {
    let made = Connection::open(file)?;
    made.execute_batch("PRAGMA journal_mode = wal; CREATE TABLE drill (n INTEGER)")?;
    let sql = "SELECT rootpage FROM sqlite_schema WHERE name = 'drill'";
    let root: u32 = made.query_row(sql, [], |row| row.get(0))?;
    made.close().map_err(|(_, error)| error)?;
    // Nobody has it open.
    let mut bytes = OpenOptions::new().write(true).open(file)?;
    bytes.seek(SeekFrom::Start(u64::from(root - 1) * 4096))?;
    Ok(bytes.write_all(&[0x5a; 4096])?)
}
