// The transaction stays open while the task waits: every other writer waits as long, and work of
// other tasks on the thread lands in it where the connection is a thread's.
//@ error: none
//@ mentions: GuardBelongsToTheThreadThatCheckedItOut
//@ says: Send

use std::future::Future;

use tenure::{Error, Pool};

/// What the spawn function of an executor with several threads asks for.
fn spawn<F: Future + Send + 'static>(_task: F) {}

async fn charge_card(_order: i64) -> bool {
    true
}

async fn pay(pool: Pool, order: i64) -> Result<(), Error> {
    const PAID: &str = "UPDATE purchase SET paid = 1 WHERE id = ?1";

    #[cfg(misuse)]
    {
        let mut writer = pool.write()?;
        let tx = writer.transaction()?;
        if charge_card(order).await {
            tx.execute(PAID, [order])?;
        }
        tx.commit()?;
    }
    #[cfg(not(misuse))]
    if charge_card(order).await {
        pool.transaction(|tx| Ok(tx.execute(PAID, [order])?))?;
    }
    Ok(())
}

pub fn handle(pool: &Pool, order: i64) {
    spawn(pay(pool.clone(), order));
}
