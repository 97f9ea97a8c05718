//! A queue kept in a table: filled by some threads, drained by others, some of whom fail.
//!
//! Taking items out and applying them is one transaction. Nobody can come between looking and taking,
//! and when applying fails, the items are back in their place.
//!
//! Run it with `cargo run --example feedback_queue`.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use tenure::rusqlite;
use tenure::{Error, Pool, Transaction};

const SENDERS: usize = 2;
const CONSUMERS: usize = 4;
const ITEMS: i64 = 200;

const SCHEMA: &str = "
    CREATE TABLE feedback (id INTEGER PRIMARY KEY AUTOINCREMENT, score INTEGER NOT NULL);
    CREATE TABLE rating (count INTEGER NOT NULL, sum INTEGER NOT NULL);
    INSERT INTO rating VALUES (0, 0);
";

/// Takes the oldest items out, in the order in which they came in.
fn take(tx: &Transaction<'_>, limit: i64) -> rusqlite::Result<Vec<i64>> {
    let mut delete = tx.prepare_cached(
        "DELETE FROM feedback WHERE id IN (SELECT id FROM feedback ORDER BY id LIMIT ?1)
         RETURNING id, score",
    )?;
    let taken = delete.query_map([limit], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let mut taken = taken.collect::<rusqlite::Result<Vec<(i64, i64)>>>()?;
    taken.sort_unstable(); // RETURNING promises no order.
    Ok(taken.into_iter().map(|(_, score)| score).collect())
}

/// Applies some items, `Ok(0)` when there were none; or fails halfway.
fn consume(pool: &Pool, fail: bool) -> Result<usize, Error> {
    pool.transaction(|tx| {
        let scores = take(tx, 10)?;
        for (n, score) in scores.iter().enumerate() {
            if fail && n == scores.len() / 2 {
                return Err(Error::other("the model cannot be reached"));
            }
            tx.execute("UPDATE rating SET count = count + 1, sum = sum + ?1", [score])?;
        }
        Ok(scores.len())
    })
}

fn main() -> Result<(), Error> {
    let setup = |connection: &mut rusqlite::Connection| Ok(connection.execute_batch(SCHEMA)?);
    let pool = tenure::testing::temporary_with(Pool::builder().setup(setup))?;
    let senders_left = AtomicUsize::new(SENDERS);

    let send = || {
        let sent = (1..=ITEMS).try_for_each(|score| {
            pool.write()?.execute("INSERT INTO feedback (score) VALUES (?1)", [score])?;
            Ok::<_, Error>(())
        });
        senders_left.fetch_sub(1, Ordering::Release);
        sent
    };
    let drain = |consumer: usize| {
        let (mut applied, mut failures) = (0, 0);
        for attempt in 0.. {
            // Asked first: what was sent by then is found by the attempt.
            let all_sent = senders_left.load(Ordering::Acquire) == 0;
            match consume(&pool, (consumer + attempt).is_multiple_of(3)) {
                Ok(0) if all_sent => break,
                Ok(0) => thread::yield_now(),
                Ok(items) => applied += items,
                Err(Error::Other(_)) => failures += 1, // The items are in the queue again.
                Err(error) => return Err(error),
            }
        }
        Ok((applied, failures))
    };

    thread::scope(|scope| {
        let drain = &drain;
        let senders: Vec<_> = (0..SENDERS).map(|_| scope.spawn(send)).collect();
        let consumers: Vec<_> =
            (0..CONSUMERS).map(|consumer| scope.spawn(move || drain(consumer))).collect();
        for sender in senders {
            sender.join().expect("no panic")?;
        }
        for (number, consumer) in consumers.into_iter().enumerate() {
            let (applied, failures) = consumer.join().expect("no panic")?;
            println!("consumer {number} applied {applied} items and failed {failures} times");
        }
        Ok::<_, Error>(())
    })?;

    let sql = "SELECT count, sum, (SELECT count(*) FROM feedback) FROM rating";
    let (count, sum, left): (i64, i64, i64) =
        pool.read()?.query_one(sql, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    println!("{} items were sent: {count} applied, their sum {sum}, {left} left", 2 * ITEMS);
    assert_eq!((count, sum, left), (2 * ITEMS, ITEMS * (ITEMS + 1), 0));
    Ok(())
}
