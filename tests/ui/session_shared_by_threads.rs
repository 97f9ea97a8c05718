// Borrowing what the guard dereferences to gets round a guard that is only itself kept on its
// thread: two threads are on one connection again.
//@ error: E0277

use std::thread;

use tenure::{Error, Pool, ReadSession};

fn count(session: &ReadSession, table: &str) -> i64 {
    let sql = format!("SELECT count(*) FROM {table}");
    session.query_one(&sql, [], |row| row.get(0)).expect("the table exists")
}

pub fn report(pool: &Pool) -> Result<(i64, i64), Error> {
    let reader = pool.read()?;
    #[cfg(misuse)]
    let session: &ReadSession = &reader;

    let counts = thread::scope(|scope| {
        #[cfg(misuse)]
        let orders = scope.spawn(|| count(session, "purchase"));
        #[cfg(not(misuse))]
        let orders = scope.spawn(|| pool.read().map_or(0, |reader| count(&reader, "purchase")));

        (count(&reader, "customer"), orders.join().unwrap_or_default())
    });
    Ok(counts)
}
