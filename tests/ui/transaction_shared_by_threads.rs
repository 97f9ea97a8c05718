// Parallel work inside one transaction: the first thread that fails rolls back what the others go
// on to add, and their rows are committed one by one, outside it.
//@ error: E0277
//@ mentions: GuardBelongsToTheThreadThatCheckedItOut

use std::thread;

use tenure::{Error, Pool};

pub fn import(pool: &Pool, files: Vec<String>) -> Result<(), Error> {
    pool.transaction(|tx| {
        #[cfg(misuse)]
        thread::scope(|scope| {
            for file in &files {
                let tx = &*tx;
                scope.spawn(move || tx.execute("INSERT INTO line (text) VALUES (?1)", [file]));
            }
        });
        #[cfg(not(misuse))]
        {
            let upper = thread::scope(|scope| {
                let work: Vec<_> =
                    files.iter().map(|file| scope.spawn(move || file.to_uppercase())).collect();
                work.into_iter().filter_map(|thread| thread.join().ok()).collect::<Vec<_>>()
            });
            for file in upper {
                tx.execute("INSERT INTO line (text) VALUES (?1)", [file])?;
            }
        }
        Ok(())
    })
}
