// What the author meant to save at once, outside the transaction, is inside it and rolled back
// with it: the audit entry of a failed payment is gone.
//@ error: E0502

use tenure::{Error, Pool};

pub fn pay(pool: &Pool) -> Result<(), Error> {
    const AUDIT: &str = "INSERT INTO audit (text) VALUES ('payment tried')";
    let mut writer = pool.write()?;

    #[cfg(not(misuse))]
    writer.execute(AUDIT, [])?;
    let tx = writer.transaction()?;
    #[cfg(misuse)]
    writer.execute(AUDIT, [])?;
    tx.execute("UPDATE account SET balance = balance - 5 WHERE id = 1", [])?;
    tx.commit()?;
    Ok(())
}
