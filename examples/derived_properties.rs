//! A cache of computed properties, asked by many threads at once.
//!
//! Look up; compute while holding nothing; store what is still missing in one transaction: whoever
//! comes second gets the row of whoever came first. Rows are read through a connection that nobody
//! else has meanwhile, so they are the answer to the query that was asked.
//!
//! Run it with `cargo run --example derived_properties`.

use std::collections::BTreeMap;
use std::sync::Barrier;
use std::thread;

use tenure::rusqlite;
use tenure::{Error, Pool, ReadSession};

const THREADS: i64 = 16;
const NUMBERS: std::ops::Range<i64> = 100_000..100_024;

const SCHEMA: &str = "
    CREATE TABLE number (id INTEGER PRIMARY KEY, value INTEGER NOT NULL UNIQUE);
    CREATE TABLE divisor (number INTEGER NOT NULL REFERENCES number, value INTEGER NOT NULL);
    CREATE INDEX divisor_number ON divisor (number, value);
";

#[derive(Clone, Debug, PartialEq)]
struct Property {
    id: i64,
    divisors: Vec<i64>,
}

/// The property of `number`, computed if need be, and whether it was this call that stored it.
fn get_or_compute(pool: &Pool, number: i64) -> Result<(Property, bool), Error> {
    if let Some(property) = look_up(&*pool.read()?, number)? {
        return Ok((property, false));
    }
    // The reader is back in the pool: nobody waits for a connection because this takes long.
    let divisors: Vec<i64> = (1..=number).filter(|divisor| number % divisor == 0).collect();

    pool.transaction(|tx| {
        let insert = "INSERT INTO number (value) VALUES (?1) ON CONFLICT DO NOTHING";
        let stored = tx.execute(insert, [number])? == 1;
        if stored {
            let id = tx.last_insert_rowid(); // Of our row: no other can have come in between.
            let mut insert = tx.prepare_cached("INSERT INTO divisor VALUES (?1, ?2)")?;
            for divisor in &divisors {
                insert.execute([id, *divisor])?;
            }
        }
        let property = look_up(tx, number)?.expect("stored by this thread or by another");
        Ok((property, stored))
    })
}

/// Takes any session: a reader, or the transaction that has just stored the row.
fn look_up(session: &ReadSession, number: i64) -> rusqlite::Result<Option<Property>> {
    let mut statement = session.prepare_cached(
        "SELECT id, divisor.value FROM number JOIN divisor ON divisor.number = id
         WHERE number.value = ?1 ORDER BY divisor.value",
    )?;
    let mut rows = statement.query([number])?;
    let mut property: Option<Property> = None;
    while let Some(row) = rows.next()? {
        let id = row.get(0)?;
        let property = property.get_or_insert(Property { id, divisors: Vec::new() });
        property.divisors.push(row.get(1)?);
    }
    Ok(property)
}

fn main() -> Result<(), Error> {
    let setup = |connection: &mut rusqlite::Connection| Ok(connection.execute_batch(SCHEMA)?);
    let pool = tenure::testing::temporary_with(Pool::builder().setup(setup))?;

    // All threads ask for the same numbers, in the same order, from the same moment on.
    let start = Barrier::new(THREADS as usize);
    let ask_for_all = || {
        start.wait();
        NUMBERS.map(|number| get_or_compute(&pool, number)).collect::<Result<Vec<_>, _>>()
    };
    let answers = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(ask_for_all)).collect();
        let answers = threads.into_iter().map(|thread| thread.join().expect("no panic"));
        answers.collect::<Result<Vec<_>, _>>()
    })?;

    let mut properties = BTreeMap::new();
    let mut stored = 0;
    for (property, by_this_call) in answers.iter().flatten() {
        stored += i64::from(*by_this_call);
        let first = properties.entry(property.id).or_insert(property);
        assert_eq!(*first, property, "all threads have the same answer");
    }
    let sql = "SELECT count(*) FROM number";
    let rows: i64 = pool.read()?.query_one(sql, [], |row| row.get(0))?;
    println!("{THREADS} threads asked for {} numbers each, {stored} were stored", NUMBERS.count());
    println!("{rows} rows, {} distinct ids among the answers, no error", properties.len());
    let (property, _) = get_or_compute(&pool, NUMBERS.start)?;
    println!("the divisors of {}: {:?}", NUMBERS.start, property.divisors);
    assert_eq!((rows, stored), (24, 24));
    Ok(())
}
