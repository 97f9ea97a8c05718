// A connection between two owners is used by code that has not said it is one: the receiver and it
// are on it together.
//@ error: E0599
//@ mentions: query_one
//@ mentions: Detached

use tenure::{Detached, Error, ReadGuard};

pub fn peek(detached: Detached<ReadGuard<'static>>) -> Result<i64, Error> {
    const COUNT: &str = "SELECT count(*) FROM task";
    #[cfg(misuse)]
    let count = detached.query_one(COUNT, [], |row| row.get(0))?;
    #[cfg(not(misuse))]
    let count = detached.attach().query_one(COUNT, [], |row| row.get(0))?;
    Ok(count)
}
