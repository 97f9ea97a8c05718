// A transaction in a global lock: the second request overwrites the first one's, a failed one is
// committed, and a bystander's insert is rolled back.
//@ error: E0277
//@ mentions: GuardBelongsToTheThreadThatCheckedItOut

use std::sync::Mutex;

use tenure::{Error, Transaction};

#[cfg(misuse)]
static CURRENT: Mutex<Option<Transaction<'static>>> = Mutex::new(None);
#[cfg(not(misuse))]
static CURRENT: Mutex<Option<tenure::Pool>> = Mutex::new(None);

#[cfg(misuse)]
pub fn finish() -> Result<(), Error> {
    if let Some(tx) = CURRENT.lock().unwrap().take() {
        book(&tx)?;
        tx.commit()?;
    }
    Ok(())
}

#[cfg(not(misuse))]
pub fn finish() -> Result<(), Error> {
    let pool = CURRENT.lock().unwrap().clone();
    pool.map_or(Ok(()), |pool| pool.transaction(|tx| book(tx)))
}

fn book(tx: &Transaction<'_>) -> Result<(), Error> {
    tx.execute("INSERT INTO booking (seat) VALUES (7)", [])?;
    Ok(())
}
