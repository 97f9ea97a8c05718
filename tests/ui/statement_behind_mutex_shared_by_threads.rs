// One cursor for all threads, each query under a lock: between a query and the reading of its rows
// another thread runs its own, and rows of one request are returned to another.
//@ error: E0277
//@ mentions: Statement

use std::thread;

use tenure::{Error, Pool};

pub fn names(pool: &Pool, ids: [i64; 2]) -> Result<(), Error> {
    const NAME: &str = "SELECT name FROM property WHERE id = ?1";
    let reader = pool.read()?;
    #[cfg(misuse)]
    let statement = std::sync::Mutex::new(reader.prepare(NAME)?);
    #[cfg(not(misuse))]
    drop(reader);

    thread::scope(|scope| {
        for id in ids {
            #[cfg(misuse)]
            let statement = &statement;
            scope.spawn(move || -> Result<String, Error> {
                #[cfg(misuse)]
                let mut statement = statement.lock().unwrap();
                #[cfg(not(misuse))]
                let reader = pool.read()?;
                #[cfg(not(misuse))]
                let mut statement = reader.prepare_cached(NAME)?;
                Ok(statement.query_one([id], |row| row.get(0))?)
            });
        }
    });
    Ok(())
}
