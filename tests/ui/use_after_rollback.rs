// After the rollback the old handle still writes, and what was meant to be undone with the rest is
// in the file.
//@ error: E0382

use tenure::{Error, Pool};

pub fn cancel(pool: &Pool) -> Result<(), Error> {
    const NOTE: &str = "INSERT INTO note (text) VALUES ('cancelled')";
    let mut writer = pool.write()?;
    let tx = writer.transaction()?;
    tx.execute("DELETE FROM booking WHERE id = 9", [])?;
    tx.rollback()?;
    #[cfg(misuse)]
    tx.execute(NOTE, [])?;
    #[cfg(not(misuse))]
    writer.execute(NOTE, [])?;
    Ok(())
}
