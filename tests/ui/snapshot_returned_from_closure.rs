// The view ends with the closure: one that is kept reads whatever the connection shows its next
// borrower.
//@ error: none
//@ says: lifetime

use tenure::{Error, Pool};

pub fn balance(pool: &Pool) -> Result<i64, Error> {
    const BALANCE: &str = "SELECT balance FROM account WHERE id = 1";

    #[cfg(misuse)]
    let balance =
        pool.snapshot(|snapshot| Ok(snapshot))?.query_one(BALANCE, [], |row| row.get(0))?;
    #[cfg(not(misuse))]
    let balance =
        pool.snapshot(|snapshot| Ok(snapshot.query_one(BALANCE, [], |row| row.get(0))?))?;
    Ok(balance)
}
