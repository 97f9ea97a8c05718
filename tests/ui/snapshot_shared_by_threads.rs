// One view read by two threads through one connection: a cursor of one is reset by the other, and
// short lists are taken for the truth.
//@ error: E0277
//@ mentions: GuardBelongsToTheThreadThatCheckedItOut

use std::thread;

use tenure::{Error, Pool};

const INVOICED: &str = "SELECT total(amount) FROM invoice";
const PAID: &str = "SELECT total(amount) FROM payment";

pub fn totals(pool: &Pool) -> Result<(f64, f64), Error> {
    let mut reader = pool.read()?;
    let snapshot = reader.snapshot()?;

    let totals = thread::scope(|scope| {
        #[cfg(misuse)]
        let paid = scope.spawn(|| snapshot.query_one(PAID, [], |row| row.get(0)));
        #[cfg(not(misuse))]
        let paid = scope.spawn(|| pool.read().unwrap().query_one(PAID, [], |row| row.get(0)));

        let invoiced = snapshot.query_one(INVOICED, [], |row| row.get(0))?;
        Ok::<_, Error>((invoiced, paid.join().unwrap()?))
    })?;
    Ok(totals)
}
