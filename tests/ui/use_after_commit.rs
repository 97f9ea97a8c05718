// A statement after COMMIT through the old transaction commits by itself: it is neither part of
// the unit nor undone by a rollback.
//@ error: E0382

use tenure::{Error, Pool};

pub fn ship(pool: &Pool) -> Result<(), Error> {
    const STOCK: &str = "UPDATE stock SET n = n - 1 WHERE item = 3";
    let mut writer = pool.write()?;
    let tx = writer.transaction()?;
    tx.execute("INSERT INTO shipment (item) VALUES (3)", [])?;
    #[cfg(not(misuse))]
    tx.execute(STOCK, [])?;
    tx.commit()?;
    #[cfg(misuse)]
    tx.execute(STOCK, [])?;
    Ok(())
}
