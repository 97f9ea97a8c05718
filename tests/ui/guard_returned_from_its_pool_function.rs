// A pool opened and a connection taken in a helper: the pool is gone when the helper returns, and
// the connection has nowhere to be given back to.
//@ error: E0515

use tenure::{Error, Pool, ReadGuard};

#[cfg(misuse)]
pub fn reader<'p>(path: &str) -> Result<ReadGuard<'p>, Error> {
    let pool = Pool::open(path)?;
    Ok(pool.read()?)
}

#[cfg(not(misuse))]
pub fn reader(path: &str) -> Result<ReadGuard<'static>, Error> {
    let pool = Pool::open(path)?;
    Ok(pool.read_owned()?)
}
