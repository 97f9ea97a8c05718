//! A transaction for each request, and part of one that can fail by itself.
//!
//! The handler is a function that is given a transaction. There is no object that two requests could
//! share, so no request can end, or take part in, the transaction of another. What a handler calls
//! takes `&mut Transaction` or `&Session` and works inside the same transaction.
//!
//! Run it with `cargo run --example transaction_per_request`.

use std::sync::Barrier;
use std::thread;

use tenure::rusqlite;
use tenure::{Error, Pool, Session, Transaction};

const REQUESTS: i64 = 10;

const SCHEMA: &str = "
    CREATE TABLE account (name TEXT PRIMARY KEY, cents INTEGER NOT NULL CHECK (cents >= 0));
    INSERT INTO account VALUES ('ada', 500), ('bob', 0);
    CREATE TABLE receipt (request INTEGER PRIMARY KEY, cents INTEGER NOT NULL);
    CREATE TABLE voucher (code TEXT PRIMARY KEY);
    INSERT INTO voucher VALUES ('WELCOME');
";

#[derive(Debug, thiserror::Error)]
#[error("ada has only {0} cents left")]
struct TooLittle(i64);

/// What one request does; `Ok` commits it, an error or a panic rolls all of it back.
fn handle(tx: &mut Transaction<'_>, request: i64) -> Result<String, Error> {
    let price = 90;
    // Written down first, on purpose: if the transfer fails this row must vanish with it.
    tx.execute("INSERT INTO receipt VALUES (?1, ?2)", [request, price])?;

    // A savepoint: if the voucher cannot be used, that part alone is undone.
    let savepoint = tx.savepoint()?;
    let discount = match use_voucher(&savepoint, "WELCOME") {
        Ok(discount) => {
            savepoint.commit()?;
            discount
        }
        Err(_) => {
            savepoint.rollback()?;
            0
        }
    };
    transfer(tx, "ada", "bob", price - discount)?;
    Ok(format!("paid {} cents", price - discount))
}

/// Takes a voucher out and fails if there was none.
fn use_voucher(session: &Session, code: &str) -> rusqlite::Result<i64> {
    let sql = "DELETE FROM voucher WHERE code = ?1 RETURNING 50";
    session.query_one(sql, [code], |row| row.get(0))
}

/// Reads and then writes, which is safe: the transaction has had the write lock since it began.
fn transfer(tx: &Transaction<'_>, from: &str, to: &str, cents: i64) -> Result<(), Error> {
    let sql = "SELECT cents FROM account WHERE name = ?1";
    let left: i64 = tx.query_one(sql, [from], |row| row.get(0))?;
    if left < cents {
        return Err(Error::other(TooLittle(left)));
    }
    let mut add = tx.prepare_cached("UPDATE account SET cents = cents + ?2 WHERE name = ?1")?;
    add.execute((from, -cents))?;
    add.execute((to, cents))?;
    Ok(())
}

fn main() -> Result<(), Error> {
    let setup = |connection: &mut rusqlite::Connection| Ok(connection.execute_batch(SCHEMA)?);
    let pool = tenure::testing::temporary_with(Pool::builder().setup(setup))?;

    let arrival = Barrier::new(REQUESTS as usize);
    let serve = |request| {
        arrival.wait();
        pool.transaction(|tx| handle(tx, request))
    };
    let answers: Vec<_> = thread::scope(|scope| {
        let serve = &serve;
        let threads: Vec<_> =
            (0..REQUESTS).map(|request| scope.spawn(move || serve(request))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });

    let mut paid = 0;
    for (request, answer) in answers.into_iter().enumerate() {
        match answer {
            Ok(receipt) => {
                paid += 1;
                println!("request {request}: {receipt}");
            }
            Err(error) => {
                let refused = error.downcast_other::<TooLittle>()?;
                println!("request {request}: refused, {refused}");
            }
        }
    }
    let (receipts, ada, bob): (i64, i64, i64) = pool.read()?.query_one(
        "SELECT (SELECT count(*) FROM receipt),
                (SELECT cents FROM account WHERE name = 'ada'),
                (SELECT cents FROM account WHERE name = 'bob')",
        [],
        |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
    )?;
    println!("{paid} paid, {receipts} receipts; ada has {ada} cents, bob has {bob}");
    assert_eq!((receipts, ada + bob), (paid, 500));
    Ok(())
}
