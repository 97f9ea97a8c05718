// A query on the guard is taken for a look at the present, and answers from the snapshot that is
// still open on the connection.
//@ error: E0502

use tenure::{Error, Pool};

pub fn compare(pool: &Pool) -> Result<bool, Error> {
    const COUNT: &str = "SELECT count(*) FROM task";
    let mut reader = pool.read()?;

    let snapshot = reader.snapshot()?;
    let then: i64 = snapshot.query_one(COUNT, [], |row| row.get(0))?;
    #[cfg(not(misuse))]
    drop(snapshot);
    let now: i64 = reader.query_one(COUNT, [], |row| row.get(0))?;
    #[cfg(misuse)]
    drop(snapshot);
    Ok(then == now)
}
