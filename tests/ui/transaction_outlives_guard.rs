// The connection goes back to the pool with the transaction open: the next borrower's writes go
// into it, and are undone when it ends.
//@ error: E0515

use tenure::{Error, Transaction};

#[cfg(misuse)]
pub fn begin(pool: &tenure::Pool) -> Result<Transaction<'_>, Error> {
    let mut writer = pool.write()?;
    let tx = writer.transaction()?;
    tx.execute("UPDATE counter SET n = n + 1", [])?;
    Ok(tx)
}

#[cfg(not(misuse))]
pub fn begin<'g>(writer: &'g mut tenure::WriteGuard<'_>) -> Result<Transaction<'g>, Error> {
    let tx = writer.transaction()?;
    tx.execute("UPDATE counter SET n = n + 1", [])?;
    Ok(tx)
}
