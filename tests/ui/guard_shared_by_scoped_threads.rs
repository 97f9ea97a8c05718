// Two threads query through one connection at once: `last_insert_rowid` and `changes` answer with
// what the other one did.
//@ error: E0277
//@ mentions: GuardBelongsToTheThreadThatCheckedItOut

use std::thread;

use tenure::{Error, Pool};

pub fn import(pool: &Pool, names: &[String]) -> Result<(), Error> {
    const INSERT: &str = "INSERT INTO customer (name) VALUES (?1)";

    #[cfg(misuse)]
    let writer = &pool.write()?;

    thread::scope(|scope| {
        for half in names.chunks(names.len().div_ceil(2).max(1)) {
            scope.spawn(move || -> Result<(), Error> {
                #[cfg(not(misuse))]
                let writer = pool.write()?;
                for name in half {
                    writer.execute(INSERT, [name])?;
                }
                Ok(())
            });
        }
    });
    Ok(())
}
