// A connection that changes threads unannounced takes what belongs to its thread with it: whoever
// looks for the holder finds the wrong one, and thread-local state of handlers is another's.
//@ error: E0277
//@ mentions: GuardBelongsToTheThreadThatCheckedItOut

use std::thread;

use tenure::{Error, Pool};

pub fn vacuum_later(pool: &Pool) -> Result<(), Error> {
    let writer = pool.write_owned()?;

    #[cfg(misuse)]
    thread::spawn(move || writer.execute_batch("VACUUM"));

    #[cfg(not(misuse))]
    {
        let detached = writer.detach();
        thread::spawn(move || detached.attach().execute_batch("VACUUM"));
    }
    Ok(())
}
