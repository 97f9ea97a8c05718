//! What the children write, and what the parent looks for.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

use anyhow::{Context, ensure};
use tenure::rusqlite::Connection;

/// One commit: two rows, and the counter two more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Commit {
    pub(crate) run: u32,
    pub(crate) thread: u32,
    pub(crate) number: i64,
}

impl Commit {
    /// The number of what is never committed.
    pub(crate) const NEVER: i64 = -1;
}

impl fmt::Display for Commit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.run, self.thread, self.number)
    }
}

impl FromStr for Commit {
    type Err = anyhow::Error;

    fn from_str(line: &str) -> anyhow::Result<Self> {
        let mut words = line.split(' ');
        let mut word = || words.next().with_context(|| format!("half a line: {line:?}"));
        Ok(Self { run: word()?.parse()?, thread: word()?.parse()?, number: word()?.parse()? })
    }
}

pub(crate) fn create(database: &Path) -> anyhow::Result<()> {
    Connection::open(database)?.execute_batch(
        "PRAGMA journal_mode = wal;
         CREATE TABLE entry (run, thread, number, half, PRIMARY KEY (run, thread, number, half));
         CREATE TABLE counter (n); INSERT INTO counter VALUES (0);",
    )?;
    Ok(())
}

pub(crate) struct Found {
    /// Acknowledged, and not there.
    pub(crate) lost: usize,
    /// There, and not acknowledged: the child was killed in between.
    pub(crate) unsaid: usize,
}

/// Looks at what a killed child has left, and makes room for the next.
pub(crate) fn check(database: &Path, run: u32, said: &[Commit]) -> anyhow::Result<Found> {
    let connection = Connection::open(database)?;
    let integrity: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
    ensure!(integrity == "ok", "integrity_check: {integrity}");
    let sums = "SELECT (SELECT count(*) FROM entry), (SELECT n FROM counter)";
    let (rows, counted): (i64, i64) =
        connection.query_row(sums, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
    ensure!(rows == counted, "there are {rows} rows and the counter is {counted}");

    let mut select =
        connection.prepare("SELECT run, thread, number, count(*) FROM entry GROUP BY 1, 2, 3")?;
    let found = select.query_map([], |row| {
        Ok((Commit { run: row.get(0)?, thread: row.get(1)?, number: row.get(2)? }, row.get(3)?))
    })?;
    let found = found.collect::<Result<HashMap<Commit, i64>, _>>()?;
    for (commit, halves) in &found {
        ensure!(*halves == 2, "half of commit {commit} is there");
        ensure!(
            commit.number != Commit::NEVER,
            "a closure that failed has left something: {commit}"
        );
        ensure!(commit.run == run, "commit {commit} has come back");
    }
    let lost = said.iter().filter(|commit| !found.contains_key(commit)).count();
    let unsaid = found.len() - (said.len() - lost);
    drop(select);
    connection.execute_batch("BEGIN; DELETE FROM entry; UPDATE counter SET n = 0; COMMIT")?;
    Ok(Found { lost, unsaid })
}
