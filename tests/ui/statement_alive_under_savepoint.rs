// A statement of the outer transaction that runs under a savepoint is undone with the savepoint,
// without its author's knowledge.
//@ error: E0502

use tenure::{Error, Transaction};

pub fn import(tx: &mut Transaction<'_>) -> Result<(), Error> {
    let mut tried = tx.prepare("UPDATE import SET tries = tries + 1")?;
    #[cfg(not(misuse))]
    {
        tried.execute([])?;
        drop(tried);
    }
    let savepoint = tx.savepoint()?;
    savepoint.execute("INSERT INTO line SELECT * FROM upload", [])?;
    #[cfg(misuse)]
    tried.execute([])?;
    savepoint.rollback()?;
    Ok(())
}
