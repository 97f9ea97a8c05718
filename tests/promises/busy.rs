//! A lock held outside the pool is waited for until the deadline, and every try is counted under the
//! pool and the operation that met it.

use std::thread;
use std::time::{Duration, Instant};

use tenure::rusqlite::{Connection, ErrorCode};
use tenure::{BeginError, Pool};

use crate::recorded::Recorded;
use crate::until::until;

fn pool(busy_timeout: Duration) -> Recorded {
    let pool = Recorded::with(
        Pool::builder().busy_timeout(busy_timeout).checkout_timeout(Duration::from_secs(60)),
    );
    pool.write().unwrap().execute_batch("CREATE TABLE task (title TEXT)").unwrap();
    pool
}

/// A connection that the pool knows nothing of, holding the write lock.
fn outsider(pool: &Pool) -> Connection {
    let outside = Connection::open(pool.read().unwrap().rusqlite().path().unwrap()).unwrap();
    outside.execute_batch("BEGIN IMMEDIATE").unwrap();
    outside
}

fn retries(pool: &Recorded, operation: &str) -> f64 {
    pool.value("tenure_busy_retries_total", &[("op", operation)])
}

fn timeouts(pool: &Recorded, operation: &str) -> f64 {
    pool.value("tenure_busy_timeouts_total", &[("op", operation)])
}

#[test]
fn a_lock_that_is_given_back_is_waited_for() {
    let pool = pool(Duration::from_secs(60));
    let outside = outsider(&pool);
    thread::scope(|scope| {
        scope.spawn(|| {
            // Ends only once the pool has met the lock: no time is involved.
            let outside = outside;
            until("the pool met the lock", || retries(&pool, "begin") > 0.0);
            outside.execute_batch("COMMIT").unwrap();
        });
        pool.transaction(|tx| Ok(tx.execute("INSERT INTO task VALUES ('a')", [])?)).unwrap();
    });
    assert_eq!(timeouts(&pool, "begin"), 0.0);
    assert_eq!(retries(&pool, "write"), 0.0, "BEGIN met it, nothing else");
}

#[test]
fn a_lock_that_stays_ends_in_an_error_at_the_deadline() {
    let pool = pool(Duration::from_millis(30));
    let _outside = outsider(&pool);
    let began = Instant::now();
    let error = pool.write().unwrap().transaction().unwrap_err();
    assert!(began.elapsed() >= Duration::from_millis(30), "after {:?}", began.elapsed());
    let BeginError::Busy { limit, .. } = error else { panic!("{error}") };
    assert_eq!(limit, Duration::from_millis(30));
    assert!(error.to_string().contains("another connection"), "{error}");
    assert_eq!(timeouts(&pool, "begin"), 1.0);
    assert!(retries(&pool, "begin") >= 1.0);
    assert_eq!(pool.transactions("immediate", "busy"), 1.0);
}

#[test]
fn a_raw_statement_counts_under_its_role() {
    let pool = pool(Duration::from_millis(5));
    let _outside = outsider(&pool);
    let error = pool.write().unwrap().execute("INSERT INTO task VALUES ('a')", []).unwrap_err();
    assert_eq!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy));
    assert_eq!((timeouts(&pool, "write"), timeouts(&pool, "begin")), (1.0, 0.0));
}

#[test]
fn two_pools_used_by_one_thread_are_counted_apart() {
    let (one, other) = (pool(Duration::from_millis(2)), pool(Duration::from_millis(2)));
    let _outside = outsider(&other);
    let (first, second) = (one.write().unwrap(), other.write().unwrap());
    for n in 0..10 {
        first.execute("INSERT INTO task VALUES (?1)", [n]).unwrap();
        second.execute("INSERT INTO task VALUES (?1)", [n]).unwrap_err();
    }
    assert_eq!((timeouts(&one, "write"), retries(&one, "write")), (0.0, 0.0));
    assert_eq!(timeouts(&other, "write"), 10.0);
}

#[test]
fn a_zero_timeout_asks_once() {
    let pool = pool(Duration::ZERO);
    let _outside = outsider(&pool);
    pool.write().unwrap().transaction().unwrap_err();
    assert_eq!((retries(&pool, "begin"), timeouts(&pool, "begin")), (0.0, 1.0));
}
