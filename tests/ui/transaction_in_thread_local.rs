// A transaction left in a thread-local belongs to nobody: the next request on that thread of the
// server writes into it.
//@ error: E0597

use std::cell::Cell;

use tenure::{Error, Pool};

#[cfg(misuse)]
type Kept = tenure::Transaction<'static>;
#[cfg(not(misuse))]
type Kept = i64;

thread_local! {
    static CURRENT: Cell<Option<Kept>> = const { Cell::new(None) };
}

pub fn begin_request(pool: &Pool) -> Result<(), Error> {
    let mut writer = pool.write_owned()?;
    let tx = writer.transaction()?;
    tx.execute("INSERT INTO request (at) VALUES (unixepoch())", [])?;

    #[cfg(misuse)]
    CURRENT.set(Some(tx));
    #[cfg(not(misuse))]
    {
        CURRENT.set(Some(tx.last_insert_rowid()));
        tx.commit()?;
    }
    Ok(())
}
