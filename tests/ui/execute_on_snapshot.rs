// A read transaction that begins to write is answered BUSY at once, whatever the time-out, when
// another writer came in between.
//@ error: E0599
//@ mentions: execute
//@ mentions: Snapshot

use tenure::{Error, Pool};

pub fn claim(pool: &Pool) -> Result<(), Error> {
    const NEXT: &str = "SELECT min(id) FROM job WHERE owner IS NULL";
    const CLAIM: &str = "UPDATE job SET owner = 1 WHERE id = ?1";

    #[cfg(misuse)]
    let result = pool.snapshot(|snapshot| {
        let id: i64 = snapshot.query_one(NEXT, [], |row| row.get(0))?;
        snapshot.execute(CLAIM, [id])?;
        Ok(())
    });
    #[cfg(not(misuse))]
    let result = pool.transaction(|tx| {
        let id: i64 = tx.query_one(NEXT, [], |row| row.get(0))?;
        tx.execute(CLAIM, [id])?;
        Ok(())
    });
    result
}
