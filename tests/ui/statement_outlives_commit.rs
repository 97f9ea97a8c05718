// A statement of a transaction that runs after COMMIT writes on its own, outside what the caller
// believes is one unit.
//@ error: E0505

use tenure::{Error, Pool};

pub fn transfer(pool: &Pool) -> Result<(), Error> {
    let mut writer = pool.write()?;
    let tx = writer.transaction()?;
    let mut add = tx.prepare("UPDATE account SET balance = balance + ?1 WHERE id = ?2")?;
    add.execute((-100, 1))?;

    #[cfg(misuse)]
    tx.commit()?;
    add.execute((100, 2))?;
    #[cfg(not(misuse))]
    drop(add);
    #[cfg(not(misuse))]
    tx.commit()?;
    Ok(())
}
