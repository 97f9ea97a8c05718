// Releasing the outer savepoint takes the inner one with it, so the inner one's rollback is
// refused and its work kept.
//@ error: E0505

use tenure::{Error, Transaction};

pub fn nested(tx: &mut Transaction<'_>) -> Result<(), Error> {
    let mut outer = tx.savepoint()?;
    outer.execute("INSERT INTO chapter (title) VALUES ('one')", [])?;
    let inner = outer.savepoint()?;
    inner.execute("INSERT INTO page (text) VALUES ('draft')", [])?;

    #[cfg(misuse)]
    {
        outer.commit()?;
        inner.rollback()?;
    }
    #[cfg(not(misuse))]
    {
        inner.rollback()?;
        outer.commit()?;
    }
    Ok(())
}
