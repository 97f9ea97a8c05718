// Two transactions on one connection, one begun behind the back of the other: the first COMMIT
// ends both.
//@ error: E0502

use tenure::{Error, Pool};

pub fn two_units(pool: &Pool) -> Result<(), Error> {
    let mut writer = pool.write()?;
    let old = writer.rusqlite().unchecked_transaction()?;
    old.execute("UPDATE stock SET n = n - 1", [])?;
    #[cfg(not(misuse))]
    old.commit()?;
    let new = writer.transaction()?;
    new.execute("INSERT INTO purchase (item) VALUES (3)", [])?;
    #[cfg(misuse)]
    old.commit()?;
    new.commit()?;
    Ok(())
}
