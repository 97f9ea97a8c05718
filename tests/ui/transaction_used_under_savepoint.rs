// What is done through the outer transaction while a savepoint is set is undone with the
// savepoint, though its author meant to keep it.
//@ error: E0502

use tenure::{Error, Pool};

pub fn import(pool: &Pool) -> Result<(), Error> {
    const TRIED: &str = "UPDATE import SET tries = tries + 1";
    pool.transaction(|tx| {
        #[cfg(not(misuse))]
        tx.execute(TRIED, [])?;
        let savepoint = tx.savepoint()?;
        let imported = savepoint.execute("INSERT INTO line SELECT * FROM upload", []);
        #[cfg(misuse)]
        tx.execute(TRIED, [])?;
        match imported {
            Ok(_) => savepoint.commit()?,
            Err(_) => savepoint.rollback()?,
        }
        Ok(())
    })
}
