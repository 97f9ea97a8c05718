// A statement steps on its connection: the thread it went to and the thread that holds the guard
// are inside SQLite with one handle.
//@ error: E0277
//@ mentions: Statement

use std::thread;

use tenure::{Error, Pool};

pub fn mark_all_read(pool: &Pool) -> Result<(), Error> {
    const MARK: &str = "UPDATE message SET seen = 1";
    let writer = pool.write()?;

    #[cfg(misuse)]
    let mut statement = writer.prepare(MARK)?;
    #[cfg(not(misuse))]
    let detached = writer.detach();

    thread::scope(|scope| {
        scope.spawn(move || {
            #[cfg(not(misuse))]
            let writer = detached.attach();
            #[cfg(not(misuse))]
            let mut statement = writer.prepare(MARK).expect("the table exists");
            statement.execute([]).expect("nobody else writes")
        });
    });
    Ok(())
}
