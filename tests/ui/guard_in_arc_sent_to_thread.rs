// Two threads step statements on one connection: one reads rows of the other's query, and a
// rollback by one undoes what the other was told is saved.
//@ error: E0277
//@ mentions: GuardBelongsToTheThreadThatCheckedItOut

use std::sync::Arc;
use std::thread;

use tenure::{Error, Pool};

pub fn purge_in_background(pool: &Pool) -> Result<(), Error> {
    const PURGE: &str = "DELETE FROM session WHERE expires < unixepoch()";

    #[cfg(misuse)]
    {
        let writer = Arc::new(pool.write_owned()?);
        let shared = Arc::clone(&writer);
        thread::spawn(move || shared.execute(PURGE, []));
        writer.execute("INSERT INTO log (text) VALUES ('purging')", [])?;
    }
    #[cfg(not(misuse))]
    {
        let shared = Arc::new(pool.clone());
        let pool = Arc::clone(&shared);
        thread::spawn(move || -> Result<usize, Error> { Ok(pool.write()?.execute(PURGE, [])?) });
        shared.write()?.execute("INSERT INTO log (text) VALUES ('purging')", [])?;
    }
    Ok(())
}
