// The second COMMIT ends a transaction that somebody else began on the connection in between, half
// done.
//@ error: E0382

use tenure::{Error, Pool};

pub fn save(pool: &Pool) -> Result<(), Error> {
    let mut writer = pool.write()?;
    let tx = writer.transaction()?;
    tx.execute("UPDATE draft SET text = 'final'", [])?;
    tx.commit()?;
    #[cfg(misuse)]
    tx.commit()?;
    #[cfg(not(misuse))]
    writer.transaction()?.commit()?;
    Ok(())
}
