// A savepoint is a mark in its transaction's order: released from another thread, it ends whatever
// mark is on top by then.
//@ error: E0277
//@ mentions: GuardBelongsToTheThreadThatCheckedItOut

use std::thread;

use tenure::{Error, Transaction};

pub fn import(tx: &mut Transaction<'_>, lines: &str) -> Result<(), Error> {
    const IMPORT: &str = "INSERT INTO line (text) VALUES (upper(?1))";
    let savepoint = tx.savepoint()?;

    #[cfg(misuse)]
    thread::scope(|scope| {
        scope.spawn(move || -> Result<(), Error> {
            savepoint.execute(IMPORT, [lines])?;
            Ok(savepoint.commit()?)
        });
    });
    #[cfg(not(misuse))]
    {
        let upper = thread::scope(|scope| scope.spawn(|| lines.to_uppercase()).join());
        savepoint.execute(IMPORT, [upper.unwrap_or_default()])?;
        savepoint.commit()?;
    }
    Ok(())
}
