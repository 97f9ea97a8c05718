// After a COMMIT that failed the transaction is still open: what is written on the connection now
// is not saved at once, but goes into it.
//@ error: E0502

use tenure::{Error, Pool};

pub fn save(pool: &Pool) -> Result<(), Error> {
    let mut writer = pool.write()?;
    let tx = writer.transaction()?;
    tx.execute("INSERT INTO member (team) VALUES (1)", [])?;
    if let Err(refused) = tx.try_commit() {
        #[cfg(not(misuse))]
        let tx = refused.into_transaction();
        #[cfg(misuse)]
        writer.execute("INSERT INTO team (id) VALUES (1)", [])?;
        #[cfg(not(misuse))]
        tx.execute("INSERT INTO team (id) VALUES (1)", [])?;
        #[cfg(misuse)]
        let tx = refused.into_transaction();
        tx.commit()?;
    }
    Ok(())
}
