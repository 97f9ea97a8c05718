// The transaction was committed when the closure returned; what is done through the kept one goes
// to a connection that somebody else has.
//@ error: E0521

use tenure::{Error, Pool, Transaction};

pub fn count(pool: &Pool) -> Result<i64, Error> {
    const COUNT: &str = "SELECT count(*) FROM task";

    #[cfg(misuse)]
    {
        let mut kept: Option<&mut Transaction<'_>> = None;
        pool.transaction(|tx| {
            kept = Some(tx);
            Ok(())
        })?;
        let tx = kept.ok_or_else(|| Error::other("no transaction"))?;
        return Ok(tx.query_one(COUNT, [], |row| row.get(0))?);
    }
    #[cfg(not(misuse))]
    pool.transaction(|tx: &mut Transaction<'_>| Ok(tx.query_one(COUNT, [], |row| row.get(0))?))
}
