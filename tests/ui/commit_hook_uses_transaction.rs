// A hook that runs after COMMIT and still writes through the transaction writes outside it, on a
// connection that may be somebody else's.
//@ error: E0521

use tenure::{Error, Transaction};

pub fn register(tx: &Transaction<'_>) -> Result<(), Error> {
    const MAILED: &str = "UPDATE account SET mailed = 1";
    tx.execute("INSERT INTO account (name) VALUES ('ada')", [])?;

    #[cfg(misuse)]
    tx.on_commit(move || drop(tx.execute(MAILED, [])));
    #[cfg(not(misuse))]
    {
        tx.execute(MAILED, [])?;
        tx.on_commit(|| println!("ada is registered"));
    }
    Ok(())
}
