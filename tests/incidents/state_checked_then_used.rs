//! Holds the crate to: nothing comes between looking and acting in one transaction, and what a failed
//! transaction took out of the database is back in it.
//!
//! A server kept its sessions in a dictionary, its feedback in a list and looked before it acted. Two
//! sessions were made for one key and one was lost; a list found filled was empty at `pop`; feedback
//! that could not be applied was gone.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Barrier;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use tenure::rusqlite::{self, OptionalExtension};
use tenure::{Error, Pool, ReadSession, Session, Transaction};

use crate::{at_once, pool};

/// Without a single UNIQUE, so that only the transaction can prevent duplicates.
const SCHEMA: &str = "
    CREATE TABLE client (key INTEGER NOT NULL, creator INTEGER NOT NULL);
    CREATE TABLE feedback (id INTEGER PRIMARY KEY AUTOINCREMENT, item INTEGER NOT NULL);
    CREATE TABLE applied (item INTEGER NOT NULL);
";

fn creator(session: &ReadSession, key: u32) -> rusqlite::Result<Option<u32>> {
    let sql = "SELECT creator FROM client WHERE key = ?1";
    session.query_one(sql, [key], |row| row.get(0)).optional()
}

fn create(session: &Session, key: u32, creator: u32) -> rusqlite::Result<()> {
    session.execute("INSERT INTO client VALUES (?1, ?2)", [key, creator]).map(drop)
}

fn count(pool: &Pool, sql: &str) -> i64 {
    pool.read().unwrap().query_one(sql, [], |row| row.get(0)).unwrap()
}

#[test]
fn of_many_who_create_what_is_absent_one_does() {
    const KEYS: u32 = 25;
    let pool = pool(SCHEMA);
    for key in 0..KEYS {
        let results = at_once(16, |thread| {
            let result = pool.transaction(|tx| match creator(tx, key)? {
                Some(creator) => Ok((creator, false)),
                None => {
                    thread::yield_now();
                    create(tx, key, thread)?;
                    Ok((thread, true))
                }
            });
            result.unwrap()
        });
        let creators: Vec<_> = results.iter().filter(|(_, created)| *created).collect();
        assert_eq!(creators.len(), 1, "{results:?}");
        assert!(results.iter().all(|(creator, _)| *creator == creators[0].0), "{results:?}");
    }
    assert_eq!(count(&pool, "SELECT count(*) FROM client"), i64::from(KEYS));
}

#[test]
fn control_looking_and_creating_in_two_steps_creates_twice() {
    const THREADS: u32 = 16;
    let pool = pool(SCHEMA);
    let all_have_looked = Barrier::new(THREADS as usize);
    at_once(THREADS, |thread| {
        let found = creator(&pool.read().unwrap(), 1);
        all_have_looked.wait();
        if found.unwrap().is_none() {
            create(&pool.write().unwrap(), 1, thread).unwrap();
        }
    });
    assert_eq!(count(&pool, "SELECT count(*) FROM client"), i64::from(THREADS));
}

fn put(pool: &Pool, items: impl IntoIterator<Item = u32>) {
    let put = pool.transaction(|tx| {
        for item in items {
            tx.execute("INSERT INTO feedback (item) VALUES (?1)", [item])?;
        }
        Ok(())
    });
    put.unwrap();
}

/// Takes the oldest items out of the queue, in their order.
fn take(tx: &Transaction<'_>, limit: u32) -> rusqlite::Result<Vec<u32>> {
    let mut statement = tx.prepare_cached(
        "DELETE FROM feedback WHERE id IN (SELECT id FROM feedback ORDER BY id LIMIT ?1)
         RETURNING id, item",
    )?;
    let taken = statement.query_map([limit], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let mut taken: Vec<(i64, u32)> = taken.collect::<rusqlite::Result<_>>()?;
    taken.sort_unstable(); // SQLite returns deleted rows in any order.
    Ok(taken.into_iter().map(|(_, item)| item).collect())
}

fn apply(tx: &Transaction<'_>, item: u32) -> rusqlite::Result<()> {
    tx.execute("INSERT INTO applied VALUES (?1)", [item]).map(drop)
}

fn applied(pool: &Pool) -> Vec<u32> {
    let reader = pool.read().unwrap();
    let mut statement = reader.prepare("SELECT item FROM applied ORDER BY rowid").unwrap();
    let items = statement.query_map([], |row| row.get(0)).unwrap();
    items.collect::<rusqlite::Result<_>>().unwrap()
}

#[test]
fn a_queue_filled_by_two_and_drained_by_four_loses_nothing() {
    const FILLERS: u32 = 2;
    const DRAINERS: u32 = 4;
    const ITEMS: u32 = 500;
    let pool = pool(SCHEMA);
    let fillers_left = AtomicU32::new(FILLERS);

    /// Counts down even when its thread panics, so that the drainers come to an end.
    struct Filling<'a>(&'a AtomicU32);
    impl Drop for Filling<'_> {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::Release);
        }
    }
    let fill = |filler: u32| {
        let _filling = Filling(&fillers_left);
        for n in 0..ITEMS {
            put(&pool, [filler * ITEMS + n]);
        }
        0
    };
    let drain = || {
        let (mut batches, mut failures) = (0, 0);
        loop {
            // Asked before looking: what was put in by then is seen.
            let filled = fillers_left.load(Ordering::Acquire) == 0;
            let drained = pool.transaction(|tx| {
                let items = take(tx, 5)?;
                for (n, item) in items.iter().enumerate() {
                    if batches % 3 == 2 && n == items.len() / 2 {
                        return Err(Error::other("this one cannot be applied now"));
                    }
                    apply(tx, *item)?;
                }
                Ok(items.len())
            });
            match drained {
                Ok(0) if filled => return failures,
                Ok(0) => thread::yield_now(),
                Ok(_) => batches += 1,
                Err(Error::Other(_)) => (batches, failures) = (batches + 1, failures + 1),
                Err(error) => panic!("{error}"),
            }
        }
    };
    let failures = at_once(FILLERS + DRAINERS, |n| if n < FILLERS { fill(n) } else { drain() });

    let mut items = applied(&pool);
    items.sort_unstable();
    assert_eq!(items, Vec::from_iter(0..FILLERS * ITEMS), "lost or applied twice");
    assert_eq!(count(&pool, "SELECT count(*) FROM feedback"), 0);
    assert!(failures.iter().sum::<u32>() > 0, "no consumer has failed");
}

#[test]
fn a_failing_consumer_loses_nothing() {
    let pool = pool(SCHEMA);
    put(&pool, 0..10);

    let consume = |failing_at: Option<u32>, how: fn() -> Error| {
        pool.transaction(|tx| {
            for item in take(tx, 10)? {
                if Some(item) == failing_at {
                    return Err(how());
                }
                apply(tx, item)?;
            }
            Ok(())
        })
    };
    let failed = consume(Some(3), || Error::other("cannot be applied"));
    assert_eq!(failed.unwrap_err().to_string(), "cannot be applied");
    let panicked = || consume(Some(7), || panic!("a bug in applying"));
    assert!(catch_unwind(AssertUnwindSafe(panicked)).is_err());
    assert_eq!(applied(&pool), <[u32; 0]>::default());
    assert_eq!(count(&pool, "SELECT count(*) FROM feedback"), 10);

    consume(None, || unreachable!()).unwrap();
    assert_eq!(applied(&pool), Vec::from_iter(0..10), "the order of arrival is kept");
    assert_eq!(count(&pool, "SELECT count(*) FROM feedback"), 0);
}

#[test]
fn control_taking_in_two_steps_applies_an_item_twice() {
    let pool = pool(SCHEMA);
    put(&pool, [7]);
    let both_have_looked = Barrier::new(2);
    at_once(2, |_| {
        let oldest = pool.read().unwrap().query_one(
            "SELECT id, item FROM feedback ORDER BY id LIMIT 1",
            [],
            |row| Ok((row.get::<_, i64>(0)?, row.get::<_, u32>(1)?)),
        );
        both_have_looked.wait();
        let (id, item) = oldest.unwrap();
        let applied = pool.transaction(|tx| {
            tx.execute("DELETE FROM feedback WHERE id = ?1", [id])?;
            Ok(apply(tx, item)?)
        });
        applied.unwrap();
    });
    assert_eq!(applied(&pool), [7, 7]);
}
