// A connection that this thread has checked out would be used on another caller's.
//@ error: E0277
//@ mentions: GuardBelongsToTheThreadThatCheckedItOut

use tenure::{Error, Pool, ReadGuard};

pub fn copy(pool: &Pool, reader: ReadGuard<'static>) -> Result<usize, Error> {
    #[cfg(misuse)]
    let work = move |tx: &mut tenure::Savepoint<'_>| {
        let title: String = reader.query_one("SELECT title FROM task", [], |row| row.get(0))?;
        Ok(tx.execute("INSERT INTO task VALUES (?1)", [title])?)
    };
    #[cfg(not(misuse))]
    let title: String = reader.query_one("SELECT title FROM task", [], |row| row.get(0))?;
    #[cfg(not(misuse))]
    let work = move |tx: &mut tenure::Savepoint<'_>| {
        Ok(tx.execute("INSERT INTO task VALUES (?1)", [title])?)
    };
    pool.group_commit(work)
}
