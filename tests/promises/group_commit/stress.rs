//! Thirty-two threads of everything at once, and a tally that must be exact.
//!
//! `TENURE_GROUP_SECONDS=20` works for so long; usually it is half a second.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tenure::{CheckoutErrorKind, CommitError, Error, Pool};

use super::{checkout_refusal, ended, panic};
use crate::recorded::Recorded;

const THREADS: usize = 32;

#[derive(Default)]
struct Tally {
    rows: AtomicI64,
    kept: AtomicI64,
    failed: AtomicI64,
    panicked: AtomicI64,
    aborted: AtomicI64,
    culprits: AtomicI64,
    plain: AtomicI64,
}

fn add(counter: &AtomicI64, by: i64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

fn get(counter: &AtomicI64) -> i64 {
    counter.load(Ordering::Relaxed)
}

/// Two rows and the count of them.
fn write(session: &tenure::Session) -> Result<(), Error> {
    session.execute("INSERT INTO task DEFAULT VALUES", [])?;
    session.execute("UPDATE counter SET rows = rows + 2", [])?;
    session.execute("INSERT INTO task DEFAULT VALUES", [])?;
    Ok(())
}

fn work(pool: &Pool, tally: &Tally, random: &mut fastrand::Rng) {
    let group = |result: Result<(), Error>| match result {
        Ok(()) => {
            add(&tally.kept, 1);
            add(&tally.rows, 2);
        }
        Err(Error::Commit(error @ CommitError::AbortedWithBatch { .. })) => {
            assert!(error.is_undone());
            add(&tally.aborted, 1);
        }
        Err(error) => panic!("{error}"),
    };
    match random.u32(0..100) {
        0..50 => group(pool.group_commit(|tx| write(tx))),
        50..60 => {
            pool.transaction(|tx| write(tx)).unwrap();
            add(&tally.rows, 2);
            add(&tally.plain, 1);
        }
        60..70 => match pool.group_commit(|tx| {
            write(tx)?;
            Err::<(), _>(Error::other("fails"))
        }) {
            Err(Error::Other(_)) => add(&tally.failed, 1),
            other => group(other),
        },
        70..80 => {
            let panicking = AssertUnwindSafe(|| {
                pool.group_commit(|tx| -> Result<(), Error> {
                    write(tx)?;
                    panic("oh")
                })
            });
            let panic = catch_unwind(panicking).unwrap_err();
            assert_eq!(panic.downcast_ref(), Some(&"oh"));
            add(&tally.panicked, 1);
        }
        80..90 => {
            let inside = pool.clone();
            group(pool.group_commit(move |tx| {
                let nested = inside.group_commit(|_| Ok(()));
                assert_eq!(checkout_refusal(nested), CheckoutErrorKind::WouldDeadlock);
                let undone = tx.savepoint()?;
                write(&undone)?;
                undone.rollback()?;
                write(tx)
            }));
        }
        90..96 => {
            let _reader = pool.read().unwrap();
            group(pool.group_commit(|tx| write(tx)));
        }
        96..98 => {
            let result = pool.group_commit(|tx| {
                write(tx)?;
                Ok(tx.execute_batch("PRAGMA cache_size = 100")?)
            });
            group(result);
        }
        _ => match pool.group_commit(|tx| {
            write(tx)?;
            Ok(tx.execute_batch("INSERT OR ROLLBACK INTO counter VALUES (1, 1)")?)
        }) {
            Err(Error::Sqlite(_)) => add(&tally.culprits, 1),
            other => panic!("{other:?}"),
        },
    }
}

#[test]
fn everything_at_once_is_exact() {
    let seconds = std::env::var("TENURE_GROUP_SECONDS").ok().and_then(|text| text.parse().ok());
    let length = seconds.map_or(Duration::from_millis(500), Duration::from_secs);
    let builder = Pool::builder().readers(THREADS).synchronous(tenure::Synchronous::Off);
    let pool =
        Recorded::with(builder.checkout_timeout(Duration::from_secs(60)).setup(|connection| {
            let tables = "CREATE TABLE task (id INTEGER PRIMARY KEY);
                      CREATE TABLE counter (id INTEGER PRIMARY KEY, rows);
                      INSERT INTO counter VALUES (1, 0)";
            Ok(connection.execute_batch(tables)?)
        }));
    let tally = Arc::new(Tally::default());
    let end = Instant::now() + length;
    let threads: Vec<_> = (0..THREADS)
        .map(|number| {
            let (pool, tally) = (pool.pool.clone(), Arc::clone(&tally));
            thread::spawn(move || {
                let mut random = fastrand::Rng::with_seed(number as u64);
                while Instant::now() < end {
                    work(&pool, &tally, &mut random);
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());

    let sums = "SELECT (SELECT count(*) FROM task), (SELECT rows FROM counter)";
    let sums =
        pool.read().unwrap().query_one(sums, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    assert_eq!(sums, (get(&tally.rows), get(&tally.rows)));
    let counted =
        ["commit", "rollback", "panic", "aborted", "error"].map(|it| ended(&pool, it) as i64);
    let told =
        [&tally.kept, &tally.failed, &tally.panicked, &tally.aborted, &tally.culprits].map(get);
    assert_eq!(counted, told);
    assert_eq!(pool.transactions("immediate", "commit") as i64, get(&tally.plain));
    assert!(told.iter().all(|count| *count > 0) || length < Duration::from_secs(1), "{told:?}");
    assert_eq!(
        (pool.status().group_commit.callers, pool.status().write.unwrap().held.len()),
        (0, 0)
    );
    let begun: i64 = told.iter().sum();
    let shared = pool.value("tenure_group_commit_size_sum", &[]) as i64;
    assert_eq!(shared, begun);
    println!(
        "{begun} closures in {} batches: {told:?}",
        pool.value("tenure_group_commit_size_count", &[])
    );
}
