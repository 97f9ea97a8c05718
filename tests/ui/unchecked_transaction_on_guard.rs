// A transaction that does not borrow its connection mutably leaves the way open to statements
// beside it, which it commits or undoes with its own.
//@ error: E0599
//@ mentions: unchecked_transaction
//@ mentions: WriteGuard

use tenure::{Error, Pool};

pub fn save(pool: &Pool) -> Result<(), Error> {
    let mut writer = pool.write()?;
    #[cfg(misuse)]
    let tx = writer.unchecked_transaction()?;
    #[cfg(not(misuse))]
    let tx = writer.transaction()?;
    tx.execute("UPDATE draft SET text = 'final'", [])?;
    tx.commit()?;
    Ok(())
}
