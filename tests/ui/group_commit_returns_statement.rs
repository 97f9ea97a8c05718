// The statement belongs to the connection of whoever led, on that caller's thread.
//@ error: E0277

use tenure::{Error, Pool};

pub fn rows(pool: &Pool) -> Result<(), Error> {
    #[cfg(misuse)]
    let rows = pool.group_commit(|tx| Ok(tx.prepare("SELECT 1")?))?;
    #[cfg(not(misuse))]
    let rows = pool.group_commit(|tx| Ok(tx.prepare("SELECT 1")?.column_count()))?;
    drop(rows);
    Ok(())
}
