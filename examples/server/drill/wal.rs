//! A pool whose checkpoints meet what keeps them from their work: readers, locks that somebody else holds,
//! and a WAL that somebody has cut.

use std::fs::OpenOptions;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use tenure::rusqlite::Connection;
use tenure::{BoxError, Pool, WriteGuard};

use super::Until;

/// In milliseconds: when nobody has written for so long, the rest of the WAL has been checkpointed.
const IDLE: u64 = 2_500;

pub(super) fn run(until: Until<'_>) {
    let Ok(directory) = tempfile::tempdir() else { return };
    for round in 0_u64.. {
        if !until.pause(100) {
            return;
        }
        // Each with a file of its own: the last was spoilt.
        let file = directory.path().join(format!("wal-{round}.db"));
        if let Err(error) = one(&file, round % 2 == 0, until) {
            tracing::warn!(error, "a round with the WAL ended early");
        }
    }
}

fn one(file: &Path, in_turn: bool, until: Until<'_>) -> Result<(), BoxError> {
    let pool = Pool::builder().database(file).name("wal").readers(3).wal_limit_mib(4).open()?;
    pool.write()?.execute_batch("CREATE TABLE drill (body BLOB)")?;
    beside_snapshots(&pool);
    beside_another(&pool, file, until)?;
    // Commits are lost before they are copied into the database.
    if in_turn {
        let writer = awaited(&pool, until)?;
        cut(file)?;
        drop(writer);
    } else {
        write(&mut pool.write()?, 1)?;
        cut(file)?;
    }
    until.pause(IDLE);
    Ok(())
}

fn write(writer: &mut WriteGuard<'_>, times: usize) -> Result<(), tenure::Error> {
    for _ in 0..times {
        let tx = writer.transaction()?;
        tx.execute("INSERT INTO drill VALUES (zeroblob(36000))", [])?;
        tx.commit()?;
    }
    Ok(())
}

/// The writer, whose turn a checkpoint waits for: there is enough to start the WAL over.
fn awaited<'p>(pool: &'p Pool, until: Until<'_>) -> Result<WriteGuard<'p>, tenure::Error> {
    let mut writer = pool.write()?;
    write(&mut writer, 50)?;
    until.pause(300);
    write(&mut writer, 1)?;
    Ok(writer)
}

fn cut(file: &Path) -> std::io::Result<()> {
    // Not the database, whose locks would be gone with the file.
    OpenOptions::new().write(true).open(file.with_extension("db-wal"))?.set_len(32)
}

/// Reads that overlap keep the WAL from starting over.
fn beside_snapshots(pool: &Pool) {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    drop(pool.snapshot(|view| {
                        thread::sleep(Duration::from_millis(25));
                        Ok(view.table_exists(None, "drill")?)
                    }));
                }
            });
        }
        for _ in 0..400 {
            drop(pool.write().map(|mut writer| write(&mut writer, 1)));
        }
        done.store(true, Ordering::Relaxed);
    });
}

/// Somebody else makes a checkpoint, and waits for a reader.
fn beside_another(pool: &Pool, file: &Path, until: Until<'_>) -> Result<(), BoxError> {
    let writer = awaited(pool, until)?;
    let mut reader = pool.read()?;
    let view = reader.snapshot()?;
    thread::scope(|scope| {
        scope.spawn(|| {
            let outsider = Connection::open(file)?;
            outsider.busy_timeout(Duration::from_millis(IDLE))?;
            outsider.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
        });
        until.pause(100);
        drop(writer);
    });
    drop(view);
    until.pause(100);
    Ok(())
}
