// The connection is given back with a statement alive: the next borrower's connection is read by
// the last one, and its snapshot keeps the WAL growing.
//@ error: E0515

use tenure::Error;
use tenure::rusqlite::Statement;

#[cfg(misuse)]
pub fn open_tasks(pool: &tenure::Pool) -> Result<Statement<'_>, Error> {
    let reader = pool.read()?;
    Ok(reader.prepare("SELECT id FROM task WHERE done = 0")?)
}

#[cfg(not(misuse))]
pub fn open_tasks<'g>(reader: &'g tenure::ReadGuard<'_>) -> Result<Statement<'g>, Error> {
    Ok(reader.prepare("SELECT id FROM task WHERE done = 0")?)
}
