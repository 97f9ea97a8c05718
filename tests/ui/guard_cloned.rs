// A second handle on one connection, made as one would of an `Arc`: two owners, each of whom gives
// it back.
//@ error: E0599
//@ mentions: clone
//@ mentions: ReadGuard

use tenure::{Error, Pool};

pub fn two_readers(pool: &Pool) -> Result<(), Error> {
    let reader = pool.read()?;
    #[cfg(misuse)]
    let second = reader.clone();
    #[cfg(not(misuse))]
    let second = pool.clone().read_owned()?;
    reader.query_one("SELECT count(*) FROM task", [], |row| row.get::<_, i64>(0))?;
    second.query_one("SELECT count(*) FROM task", [], |row| row.get::<_, i64>(0))?;
    Ok(())
}
