// A function that was lent the connection to read begins a transaction on it, inside one that its
// caller has open.
//@ error: E0596

use tenure::{Error, Pool, WriteGuard};

#[cfg(misuse)]
fn touch(writer: &WriteGuard<'_>) -> Result<(), Error> {
    let tx = writer.transaction()?;
    tx.execute("UPDATE session SET seen = unixepoch()", [])?;
    Ok(tx.commit()?)
}

#[cfg(not(misuse))]
fn touch(writer: &mut WriteGuard<'_>) -> Result<(), Error> {
    let tx = writer.transaction()?;
    tx.execute("UPDATE session SET seen = unixepoch()", [])?;
    Ok(tx.commit()?)
}

pub fn handle(pool: &Pool) -> Result<(), Error> {
    touch(&mut pool.write()?)
}
