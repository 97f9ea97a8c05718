// COMMIT releases the savepoint with it: the rollback that follows finds no savepoint, and what it
// was to undo is in the file.
//@ error: E0505

use tenure::{Error, Pool};

pub fn import(pool: &Pool) -> Result<(), Error> {
    let mut writer = pool.write()?;
    let mut tx = writer.transaction()?;
    let savepoint = tx.savepoint()?;
    savepoint.execute("INSERT INTO line SELECT * FROM upload", [])?;

    #[cfg(misuse)]
    {
        tx.commit()?;
        savepoint.rollback()?;
    }
    #[cfg(not(misuse))]
    {
        savepoint.rollback()?;
        tx.commit()?;
    }
    Ok(())
}
