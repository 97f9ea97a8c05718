// A statement kept for later is one on a connection that was given back: it reads in the middle of
// the next borrower's transaction.
//@ error: E0521

use tenure::{Error, Pool};

pub fn titles(pool: &Pool) -> Result<Vec<String>, Error> {
    const TITLES: &str = "SELECT title FROM task";
    let mut kept = None;
    pool.transaction(|tx| {
        let mut statement = tx.prepare(TITLES)?;
        #[cfg(misuse)]
        let result = statement;
        #[cfg(not(misuse))]
        let result = statement.query_map([], |row| row.get(0))?.collect::<Result<Vec<_>, _>>()?;
        kept = Some(result);
        Ok(())
    })?;
    let kept = kept.ok_or_else(|| Error::other("nothing was read"))?;
    #[cfg(misuse)]
    let mut statement = kept;
    #[cfg(misuse)]
    let kept = statement.query_map([], |row| row.get(0))?.collect::<Result<Vec<_>, _>>()?;
    Ok(kept)
}
