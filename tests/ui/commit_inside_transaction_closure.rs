// The body ends the transaction and goes on: what follows commits by itself, and an error later
// cannot undo the first half.
//@ error: E0507

use tenure::{Error, Pool};

pub fn place_order(pool: &Pool) -> Result<(), Error> {
    pool.transaction(|tx| {
        tx.execute("INSERT INTO purchase (item) VALUES (3)", [])?;
        #[cfg(misuse)]
        tx.commit()?;
        #[cfg(not(misuse))]
        tx.on_commit(|| println!("the order is placed"));
        tx.execute("UPDATE stock SET n = n - 1 WHERE item = 3", [])?;
        Ok(())
    })
}
