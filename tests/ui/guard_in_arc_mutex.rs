// A lock around the connection lets one thread in between two statements of another, into its open
// transaction, where its own work is then rolled back.
//@ error: E0277
//@ mentions: GuardBelongsToTheThreadThatCheckedItOut

use std::sync::{Arc, Mutex};
use std::thread;

use tenure::{Error, Pool};

pub fn record_visits(pool: &Pool) -> Result<(), Error> {
    const VISIT: &str = "INSERT INTO visit (at) VALUES (unixepoch())";

    #[cfg(misuse)]
    let shared = Arc::new(Mutex::new(pool.write_owned()?));
    #[cfg(not(misuse))]
    let shared = Arc::new(Mutex::new(Some(pool.write_owned()?.detach())));

    let worker = Arc::clone(&shared);
    thread::spawn(move || -> Result<(), Error> {
        #[cfg(misuse)]
        worker.lock().unwrap().execute(VISIT, [])?;
        #[cfg(not(misuse))]
        if let Some(detached) = worker.lock().unwrap().take() {
            detached.attach().execute(VISIT, [])?;
        }
        Ok(())
    });
    Ok(())
}
