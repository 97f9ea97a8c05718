// Rows that are fetched lazily, after the statement or the view they belong to has ended, mix two
// states of the database or come from freed memory.
//@ error: E0515

use tenure::{Error, Pool, Snapshot};

#[cfg(misuse)]
fn titles<'s>(snapshot: &'s Snapshot<'_>) -> Result<tenure::rusqlite::Rows<'s>, Error> {
    let mut statement = snapshot.prepare("SELECT title FROM task")?;
    Ok(statement.query([])?)
}

#[cfg(not(misuse))]
fn titles(snapshot: &Snapshot<'_>) -> Result<Vec<String>, Error> {
    let mut statement = snapshot.prepare("SELECT title FROM task")?;
    Ok(statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?)
}

pub fn print_titles(pool: &Pool) -> Result<(), Error> {
    pool.snapshot(|snapshot| titles(snapshot).map(drop))
}
