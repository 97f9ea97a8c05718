// A migration that was given a reading connection fails on the first start of the new release,
// after half of its statements.
//@ error: E0599
//@ mentions: execute_batch
//@ mentions: ReadGuard

use tenure::{Error, Pool};

pub fn migrate(pool: &Pool) -> Result<(), Error> {
    #[cfg(misuse)]
    let session = pool.read()?;
    #[cfg(not(misuse))]
    let session = pool.write()?;
    session.execute_batch("ALTER TABLE task ADD COLUMN owner; PRAGMA user_version = 2")?;
    Ok(())
}
