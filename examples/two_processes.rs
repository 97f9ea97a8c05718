//! Two processes, each with a pool, write to one file at the same time.
//!
//! SQLite itself puts the writers of all processes in an order; a pool's part is to wait for its turn
//! (`busy_timeout`), to take the write lock before it reads what it is going to change, and never to
//! open the database file past SQLite: closing such a file would cancel the locks of the process. For
//! the same reason do not read, copy or probe it yourself while a pool has it open.
//!
//! Run it with `cargo run --example two_processes`.

use std::env;
use std::path::Path;
use std::process::{self, Command};
use std::thread;

use anyhow::{Context, Result, ensure};
use tenure::Pool;
use tenure::rusqlite::Connection;

const PROCESSES: usize = 2;
const THREADS: i64 = 4;
const CHANGES: i64 = 100;

/// Safe to run in every process that opens the file: only the first one finds something to do.
fn set_up(connection: &mut Connection) -> Result<(), tenure::BoxError> {
    connection.execute_batch(
        "BEGIN IMMEDIATE;
         CREATE TABLE IF NOT EXISTS counter (n INTEGER NOT NULL);
         INSERT INTO counter SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM counter);
         CREATE TABLE IF NOT EXISTS change (process INTEGER NOT NULL, n INTEGER NOT NULL UNIQUE);
         COMMIT",
    )?;
    Ok(())
}

/// The child: every thread reads the counter, adds one, and notes which number it made.
fn work(database: &Path) -> Result<()> {
    let pool = Pool::builder().database(database).setup(set_up).open()?;
    let change = || {
        pool.transaction(|tx| {
            let n: i64 = tx.query_one("SELECT n FROM counter", [], |row| row.get(0))?;
            tx.execute("UPDATE counter SET n = ?1", [n + 1])?;
            tx.execute("INSERT INTO change VALUES (?1, ?2)", (process::id(), n + 1))?;
            Ok(())
        })
    };
    thread::scope(|scope| {
        let work = || (0..CHANGES).try_for_each(|_| change());
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("no panic"))
    })?;
    Ok(())
}

fn main() -> Result<()> {
    if let Some(database) = env::args_os().nth(1) {
        return work(Path::new(&database));
    }
    let directory = tempfile::tempdir()?;
    let database = directory.path().join("shared.db");

    // Nobody has created the file yet: the children race for that, too.
    let this_program = env::current_exe().context("cannot find this program to start it again")?;
    let children: Vec<_> = (0..PROCESSES)
        .map(|_| Command::new(&this_program).arg(&database).spawn())
        .collect::<Result<_, _>>()?;
    for mut child in children {
        let status = child.wait()?;
        ensure!(status.success(), "a child process failed: {status}");
    }

    let pool = Pool::open(&database)?;
    let reader = pool.read()?;
    let counter: i64 = reader.query_one("SELECT n FROM counter", [], |row| row.get(0))?;
    let mut changes = reader.prepare("SELECT process, count(*) FROM change GROUP BY process")?;
    let mut rows = changes.query([])?;
    while let Some(row) = rows.next()? {
        let (process, changes): (u32, i64) = (row.get(0)?, row.get(1)?);
        println!("process {process} made {changes} changes with {THREADS} threads");
    }
    // Where the two took turns: the numbers of one process with a gap to the one before.
    let turns: i64 = reader.query_one(
        "SELECT count(*) FROM (
             SELECT process IS NOT lag(process) OVER (ORDER BY n) AS turn FROM change
         ) WHERE turn",
        [],
        |row| row.get(0),
    )?;
    println!("the turn went to and fro in {turns} runs");
    println!("the counter is {counter}: nothing was lost");
    ensure!(counter == PROCESSES as i64 * THREADS * CHANGES, "changes were lost");
    Ok(())
}
