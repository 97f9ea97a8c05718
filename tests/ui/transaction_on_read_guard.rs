// A transaction on a reading connection takes the write lock beside the writer, out of turn, or
// fails at its first write.
//@ error: E0599
//@ mentions: transaction
//@ mentions: ReadGuard

use tenure::{Error, Pool};

pub fn totals(pool: &Pool) -> Result<i64, Error> {
    let mut reader = pool.read()?;
    #[cfg(misuse)]
    let view = reader.transaction()?;
    #[cfg(not(misuse))]
    let view = reader.snapshot()?;
    Ok(view.query_one("SELECT total(amount) FROM invoice", [], |row| row.get(0))?)
}
