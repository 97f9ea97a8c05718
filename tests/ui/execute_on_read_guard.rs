// A write on a reading connection fails only when it runs, in production, or goes through and
// competes with the writer for the lock.
//@ error: E0599
//@ mentions: execute
//@ mentions: ReadGuard

use tenure::{Error, Pool};

pub fn count_view(pool: &Pool) -> Result<(), Error> {
    #[cfg(misuse)]
    let session = pool.read()?;
    #[cfg(not(misuse))]
    let session = pool.write()?;
    session.execute("UPDATE page SET views = views + 1 WHERE path = '/'", [])?;
    Ok(())
}
