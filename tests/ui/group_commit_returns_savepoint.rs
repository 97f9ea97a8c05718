// The savepoint ended with the closure, and another caller's runs on its connection.
//@ error: E0277
//@ mentions: GuardBelongsToTheThreadThatCheckedItOut

use tenure::{Error, Pool};

pub fn rows(pool: &Pool) -> Result<(), Error> {
    #[cfg(misuse)]
    let kept = pool.group_commit(|tx| Ok(tx))?;
    #[cfg(not(misuse))]
    let kept = pool.group_commit(|tx| Ok(tx.changes()))?;
    drop(kept);
    Ok(())
}
