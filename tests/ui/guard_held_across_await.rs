// The task goes on on another thread with the connection of the first, and keeps the writer while
// it waits for something that has nothing to do with the database.
//@ error: none
//@ mentions: GuardBelongsToTheThreadThatCheckedItOut
//@ says: Send

use std::future::Future;

use tenure::{Error, Pool};

/// What the spawn function of an executor with several threads asks for.
fn spawn<F: Future + Send + 'static>(_task: F) {}

async fn send_mail(_address: &str) {}

async fn register(pool: Pool, address: String) -> Result<(), Error> {
    const INSERT: &str = "INSERT INTO account (address) VALUES (?1)";
    const SENT: &str = "UPDATE account SET mailed = 1 WHERE address = ?1";

    #[cfg(misuse)]
    {
        let writer = pool.write()?;
        writer.execute(INSERT, [&address])?;
        send_mail(&address).await;
        writer.execute(SENT, [&address])?;
    }
    #[cfg(not(misuse))]
    {
        pool.write()?.execute(INSERT, [&address])?;
        send_mail(&address).await;
        pool.write()?.execute(SENT, [&address])?;
    }
    Ok(())
}

pub fn handle(pool: &Pool, address: String) {
    spawn(register(pool.clone(), address));
}
