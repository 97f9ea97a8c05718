// The connection is given back first and the transaction ended later: by then the next borrower
// has written into it.
//@ error: E0505

use tenure::{Error, Pool};

pub fn publish(pool: &Pool) -> Result<(), Error> {
    let mut writer = pool.write()?;
    let tx = writer.transaction()?;
    tx.execute("UPDATE post SET public = 1 WHERE id = 4", [])?;

    #[cfg(misuse)]
    {
        drop(writer);
        tx.commit()?;
    }
    #[cfg(not(misuse))]
    {
        tx.commit()?;
        drop(writer);
    }
    Ok(())
}
