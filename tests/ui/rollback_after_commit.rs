// The rollback in the error branch comes after the commit: it undoes nothing, or the work of
// whoever has begun a transaction since.
//@ error: E0382

use tenure::{Error, Pool};

pub fn save(pool: &Pool, mailed: bool) -> Result<(), Error> {
    let mut writer = pool.write()?;
    let tx = writer.transaction()?;
    tx.execute("UPDATE account SET notified = 1", [])?;
    #[cfg(misuse)]
    {
        tx.commit()?;
        if !mailed {
            tx.rollback()?;
        }
    }
    #[cfg(not(misuse))]
    {
        if mailed {
            tx.commit()?;
        } else {
            tx.rollback()?;
        }
    }
    Ok(())
}
