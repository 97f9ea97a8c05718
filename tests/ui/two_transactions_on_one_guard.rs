// SQLite has one transaction for each connection: the second BEGIN fails, or where the library
// hides that, the first commit ends both.
//@ error: E0499

use tenure::{Error, Pool};

pub fn two_units(pool: &Pool) -> Result<(), Error> {
    let mut writer = pool.write()?;

    let orders = writer.transaction()?;
    orders.execute("INSERT INTO purchase (item) VALUES (3)", [])?;
    #[cfg(not(misuse))]
    orders.commit()?;

    let stock = writer.transaction()?;
    stock.execute("UPDATE stock SET n = n - 1 WHERE item = 3", [])?;
    #[cfg(misuse)]
    orders.commit()?;
    stock.commit()?;
    Ok(())
}
