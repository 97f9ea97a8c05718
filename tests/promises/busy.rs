//! A lock held outside the pool is waited for until the deadline, and every try is counted under the
//! pool and the operation that met it.

use std::thread;
use std::time::{Duration, Instant};

use tenure::rusqlite::{Connection, ErrorCode};
use tenure::{BeginError, Pool, rusqlite};

use crate::logged::logged;
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

fn refusals(pool: &Recorded, operation: &str) -> f64 {
    pool.value("tenure_busy_refusals_total", &[("op", operation)])
}

fn waits(pool: &Recorded, operation: &str) -> f64 {
    pool.value("tenure_busy_wait_seconds_count", &[("op", operation)])
}

#[test]
fn each_wait_is_measured_once() {
    let pool = pool(Duration::from_millis(5));
    let outside = outsider(&pool);
    for _ in 0..3 {
        pool.write().unwrap().transaction().unwrap_err();
        pool.write().unwrap().execute("INSERT INTO task VALUES ('a')", []).unwrap_err();
        // Met by a statement that passes nothing of the crate's.
        let writer = pool.write().unwrap();
        writer.rusqlite().execute("INSERT INTO task VALUES ('a')", []).unwrap_err();
    }
    assert_eq!((waits(&pool, "begin"), waits(&pool, "write")), (3.0, 6.0));
    let sum = pool.value("tenure_busy_wait_seconds_sum", &[("op", "begin")]);
    assert!(sum >= 0.015, "3 waits of 5 ms are {sum} s");
    outside.execute_batch("COMMIT").unwrap();
    pool.transaction(|tx| Ok(tx.execute("INSERT INTO task VALUES ('a')", [])?)).unwrap();
    assert_eq!(waits(&pool, "begin"), 3.0, "no lock was met");
}

#[test]
fn a_read_transaction_that_would_write_is_refused_at_once_and_counted_apart() {
    let pool = pool(Duration::from_secs(60));
    let other = Connection::open(pool.read().unwrap().rusqlite().path().unwrap()).unwrap();
    let writer = pool.write().unwrap();
    writer.execute_batch("BEGIN DEFERRED").unwrap();
    writer.query_one("SELECT count(*) FROM task", [], |row| row.get::<_, i64>(0)).unwrap();
    other.execute("INSERT INTO task VALUES ('came between')", []).unwrap();
    let error = writer.execute("INSERT INTO task VALUES ('a')", []).unwrap_err();
    assert_eq!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy));
    assert_eq!((refusals(&pool, "write"), timeouts(&pool, "write")), (1.0, 0.0));
    assert_eq!(waits(&pool, "write"), 0.0);
}

#[test]
fn a_busy_handler_that_somebody_has_replaced_is_noticed() {
    let pool = pool(Duration::from_millis(20));
    let _outside = outsider(&pool);
    let mut writer = pool.write().unwrap();
    writer.rusqlite().busy_handler(Some(|_| false)).unwrap();
    let began = Instant::now();
    let error = writer.transaction().unwrap_err();
    assert!(matches!(error, BeginError::Busy { .. }), "{error}");
    assert!(began.elapsed() >= Duration::from_millis(20), "the pool's own handler waited");
    assert_eq!(timeouts(&pool, "begin"), 1.0);
    assert_eq!(pool.repairs("busy_handler"), 1.0);
}

#[test]
fn a_busy_timeout_set_by_sql_lasts_for_the_checkout() {
    let pool = pool(Duration::from_millis(20));
    let _outside = outsider(&pool);
    let writer = pool.write().unwrap();
    writer.execute_batch("PRAGMA busy_timeout = 1").unwrap();
    drop(writer);
    assert_eq!(pool.repairs("busy_handler"), 1.0);
    let began = Instant::now();
    pool.write().unwrap().execute("INSERT INTO task VALUES ('a')", []).unwrap_err();
    assert!(began.elapsed() >= Duration::from_millis(20));
    assert_eq!(timeouts(&pool, "write"), 1.0);
}

/// What one thread saw in the contest: by its own errors, and by the log, which names each retry.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Tally {
    retries: [u32; 2],
    timeouts: [u32; 2],
    refusals: u32,
}

impl Tally {
    /// Counts an error under its operation: 0 = begin, 1 = write.
    fn error(&mut self, operation: usize, code: Option<i32>) {
        match code {
            Some(rusqlite::ffi::SQLITE_BUSY) => self.timeouts[operation] += 1,
            None => {}
            Some(other) => panic!("error {other}"),
        }
    }
}

fn code(error: &rusqlite::Error) -> i32 {
    error.sqlite_error().unwrap().extended_code
}

/// One thread of a pool: transactions, session statements, raw statements and doomed upgrades.
fn contend(pool: &Pool, file: &str, rounds: u32) -> Tally {
    let mut tally = Tally::default();
    let ((), entries) = logged(|| {
        for round in 0..rounds {
            let mut writer = pool.write().unwrap();
            match round % 4 {
                0 => {
                    let begun = writer.transaction();
                    match begun {
                        Ok(tx) => {
                            tx.execute("INSERT INTO task VALUES ('tx')", []).unwrap();
                            thread::sleep(Duration::from_millis(3));
                            tx.commit().unwrap();
                        }
                        Err(BeginError::Busy { source, .. }) => tally.error(0, Some(code(&source))),
                        Err(error) => panic!("{error}"),
                    }
                }
                1 => {
                    let result = writer.execute("INSERT INTO task VALUES ('session')", []);
                    tally.error(1, result.err().as_ref().map(code));
                }
                2 => {
                    let result = writer.rusqlite().execute("INSERT INTO task VALUES ('raw')", []);
                    tally.error(1, result.err().as_ref().map(code));
                }
                _ => {
                    writer.execute_batch("BEGIN DEFERRED").unwrap();
                    writer.query_one("SELECT count(*) FROM task", [], |_| Ok(())).unwrap();
                    // Another connection of this very thread comes between.
                    let outside = Connection::open(file).unwrap();
                    outside.busy_timeout(Duration::from_secs(60)).unwrap();
                    outside.execute("INSERT INTO task VALUES ('between')", []).unwrap();
                    // With the same code as after a wait, when the lock is taken right now.
                    writer.execute("INSERT INTO task VALUES ('late')", []).unwrap_err();
                    tally.refusals += 1;
                }
            }
        }
    });
    for entry in entries.iter().filter(|entry| entry.message() == "busy") {
        let operation = ["begin", "write"].iter().position(|op| entry.field("operation") == *op);
        tally.retries[operation.expect("begin or write")] += 1;
    }
    tally
}

#[test]
fn in_a_contest_of_two_pools_every_busy_is_counted_exactly() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("contest.db");
    let open = || {
        Recorded::opened(|| {
            let builder = Pool::builder()
                .busy_timeout(Duration::from_millis(2))
                .checkout_timeout(Duration::from_secs(60))
                .synchronous(tenure::Synchronous::Off);
            builder.readers(1).database(&file).open().unwrap()
        })
    };
    let pools = [open(), open()];
    pools[0].write().unwrap().execute("CREATE TABLE task (title TEXT)", []).unwrap();
    let path = file.to_str().unwrap();
    let tallies = thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|n| {
                let pool: &Pool = &pools[n % 2];
                (n % 2, scope.spawn(move || contend(pool, path, 40)))
            })
            .collect();
        let mut tallies = [Tally::default(); 2];
        for (which, thread) in threads {
            let tally = thread.join().unwrap();
            let sum = &mut tallies[which];
            for operation in 0..2 {
                sum.retries[operation] += tally.retries[operation];
                sum.timeouts[operation] += tally.timeouts[operation];
            }
            sum.refusals += tally.refusals;
        }
        tallies
    });
    for (pool, tally) in pools.iter().zip(tallies) {
        let counted = Tally {
            retries: [retries(pool, "begin") as u32, retries(pool, "write") as u32],
            timeouts: [timeouts(pool, "begin") as u32, timeouts(pool, "write") as u32],
            refusals: refusals(pool, "write") as u32,
        };
        assert_eq!(counted, tally);
        assert_eq!(refusals(pool, "begin"), 0.0);
        assert!(tally.refusals >= 10, "{tally:?}");
    }
    let met: u32 = tallies.iter().map(|t| t.retries.iter().sum::<u32>()).sum();
    assert!(met > 20, "it was no contest: {tallies:?}");
}
