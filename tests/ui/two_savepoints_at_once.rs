// Savepoints are a stack: with two held side by side, releasing the first releases the second, and
// rolling the second back then fails.
//@ error: E0499

use tenure::{Error, Pool};

pub fn import_both(pool: &Pool) -> Result<(), Error> {
    pool.transaction(|tx| {
        let first = tx.savepoint()?;
        first.execute("INSERT INTO line (text) VALUES ('one')", [])?;
        #[cfg(not(misuse))]
        first.commit()?;

        let second = tx.savepoint()?;
        second.execute("INSERT INTO line (text) VALUES ('two')", [])?;
        #[cfg(misuse)]
        first.commit()?;
        second.commit()?;
        Ok(())
    })
}
