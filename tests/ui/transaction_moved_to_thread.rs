// The thread that began the transaction no longer knows whether it was committed, and whoever
// rolls back on an error there undoes work that was reported done.
//@ error: E0277
//@ mentions: GuardBelongsToTheThreadThatCheckedItOut

use std::thread;

use tenure::{Error, Pool};

pub fn archive(pool: &Pool) -> Result<(), Error> {
    const ARCHIVE: &str = "INSERT INTO archive SELECT * FROM message WHERE seen = 1";

    #[cfg(misuse)]
    let mut writer = pool.write()?;
    #[cfg(misuse)]
    let tx = writer.transaction()?;
    #[cfg(not(misuse))]
    let detached = pool.write()?.detach();

    thread::scope(|scope| {
        scope.spawn(move || -> Result<(), Error> {
            #[cfg(not(misuse))]
            let mut writer = detached.attach();
            #[cfg(not(misuse))]
            let tx = writer.transaction()?;
            tx.execute(ARCHIVE, [])?;
            Ok(tx.commit()?)
        });
    });
    Ok(())
}
