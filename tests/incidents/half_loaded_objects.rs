//! Holds the crate to: what is read in one snapshot is one state, and what is kept with a connection
//! is seen by its holder alone.
//!
//! An object database let threads share a connection and the objects loaded through it. An object was
//! marked as loaded before it was, and another thread listed it in between: short listings, silently.

use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Mutex, PoisonError};
use std::thread;

use tenure::rusqlite;
use tenure::{Error, Pool, ReadSession};

use crate::{on_another_thread, pool, settings};

const SCHEMA: &str = "
    CREATE TABLE debit (n INTEGER NOT NULL);
    CREATE TABLE credit (n INTEGER NOT NULL);
    INSERT INTO debit VALUES (0);
    INSERT INTO credit VALUES (0);
    CREATE TABLE object (id INTEGER PRIMARY KEY, generation INTEGER NOT NULL, length INTEGER NOT NULL);
    CREATE TABLE part (object INTEGER NOT NULL, generation INTEGER NOT NULL);
    CREATE INDEX part_object ON part (object);
";

fn debit(session: &ReadSession) -> rusqlite::Result<i64> {
    session.query_one("SELECT n FROM debit", [], |row| row.get(0))
}

fn credit(session: &ReadSession) -> rusqlite::Result<i64> {
    session.query_one("SELECT n FROM credit", [], |row| row.get(0))
}

/// Keeps the two equal, in a change that takes two statements.
fn add_to_both(pool: &Pool) {
    let added = pool.transaction(|tx| {
        tx.execute("UPDATE debit SET n = n + 1", [])?;
        thread::yield_now();
        tx.execute("UPDATE credit SET n = n + 1", [])?;
        Ok(())
    });
    added.unwrap();
}

/// Runs `change` again and again for as long as one of the readers is at work.
fn beside_a_writer<T: Send>(
    readers: usize,
    read: impl Fn() -> T + Sync,
    mut change: impl FnMut(),
) -> Vec<T> {
    thread::scope(|scope| {
        let readers: Vec<_> = (0..readers).map(|_| scope.spawn(&read)).collect();
        while !readers.iter().all(thread::ScopedJoinHandle::is_finished) {
            change();
        }
        readers.into_iter().map(|reader| reader.join().unwrap()).collect()
    })
}

#[test]
fn a_snapshot_never_shows_half_a_change() {
    let pool = pool(SCHEMA);
    let read = || {
        let mut states = HashSet::new();
        let mut last = 0;
        for round in 0..1_000 {
            let seen = pool.snapshot(|snapshot| {
                let debit = debit(snapshot)?;
                if round % 4 == 0 {
                    thread::yield_now();
                }
                Ok((debit, credit(snapshot)?))
            });
            let (debit, credit) = seen.unwrap();
            assert_eq!(debit, credit, "half a change");
            assert!(debit >= last, "back in time: {debit} after {last}");
            last = debit;
            states.insert(debit);
        }
        states.len()
    };
    let states = beside_a_writer(4, read, || add_to_both(&pool));
    assert!(states.iter().all(|states| *states > 1), "nothing changed meanwhile: {states:?}");
}

#[test]
fn a_snapshot_keeps_its_state_and_the_next_one_has_the_new() {
    let pool = pool(SCHEMA);
    let mut reader = pool.read().unwrap();
    let snapshot = reader.snapshot().unwrap();
    on_another_thread(|| add_to_both(&pool));
    assert_eq!((debit(&snapshot).unwrap(), credit(&snapshot).unwrap()), (0, 0));
    drop(snapshot);
    let snapshot = reader.snapshot().unwrap();
    assert_eq!((debit(&snapshot).unwrap(), credit(&snapshot).unwrap()), (1, 1));
}

#[test]
fn control_two_reads_without_a_snapshot_see_half_a_change() {
    let pool = pool(SCHEMA);
    let reader = pool.read().unwrap();
    let debit = debit(&reader).unwrap();
    on_another_thread(|| add_to_both(&pool));
    assert_eq!((debit, credit(&reader).unwrap()), (0, 1));
}

/// The generation of each part.
type Object = Vec<i64>;

/// Objects loaded through one connection.
struct Objects {
    /// The state of the database that they were loaded from.
    data_version: i64,
    loaded: HashMap<i64, Object>,
}

static CACHES: AtomicUsize = AtomicUsize::new(0);

impl Default for Objects {
    fn default() -> Self {
        CACHES.fetch_add(1, Ordering::Relaxed);
        Self { data_version: -1, loaded: HashMap::new() }
    }
}

impl Objects {
    /// The object, and whether it was there already.
    fn object(&mut self, session: &ReadSession, id: i64) -> rusqlite::Result<(Object, bool)> {
        let now = session.query_one("PRAGMA data_version", [], |row| row.get(0))?;
        if self.data_version != now {
            self.loaded.clear();
            self.data_version = now;
        }
        if let Some(object) = self.loaded.get(&id) {
            return Ok((object.clone(), true));
        }
        // As in the object database: there before it is filled.
        let object = self.loaded.entry(id).or_default();
        let mut parts = session.prepare_cached("SELECT generation FROM part WHERE object = ?1")?;
        let mut rows = parts.query([id])?;
        while let Some(row) = rows.next()? {
            object.push(row.get(0)?);
            if object.len() == 10 {
                thread::yield_now();
            }
        }
        Ok((object.clone(), false))
    }
}

#[test]
fn objects_kept_with_a_connection_are_never_seen_half_loaded() {
    const OBJECTS: i64 = 5;
    let pool = pool(SCHEMA);
    let replace = |id: i64, generation: i64| {
        let length = 20 + generation % 10;
        let replaced = pool.transaction(|tx| {
            tx.execute("REPLACE INTO object VALUES (?1, ?2, ?3)", (id, generation, length))?;
            tx.execute("DELETE FROM part WHERE object = ?1", [id])?;
            for _ in 0..length {
                tx.execute("INSERT INTO part VALUES (?1, ?2)", (id, generation))?;
            }
            Ok(())
        });
        replaced.unwrap();
    };
    (0..OBJECTS).for_each(|id| replace(id, 0));

    // More threads than connections: caches change hands all the time.
    let read = || {
        let mut found = 0;
        for round in 0..250 {
            let id = round % OBJECTS;
            let seen = pool.snapshot(|snapshot| {
                let (generation, length): (i64, u32) = snapshot.query_one(
                    "SELECT generation, length FROM object WHERE id = ?1",
                    [id],
                    |row| Ok((row.get(0)?, row.get(1)?)),
                )?;
                snapshot.with_extension(|objects: &mut Objects| {
                    // The second time it comes from the cache.
                    let (object, _) = objects.object(snapshot, id)?;
                    let (again, hit) = objects.object(snapshot, id)?;
                    assert_eq!(object, again);
                    found += usize::from(hit);
                    Ok((object, vec![generation; length as usize]))
                })
            });
            let (object, whole) = seen.unwrap();
            assert_eq!(object, whole, "half loaded, or of another state");
        }
        found
    };
    let mut generation = 0;
    let found = beside_a_writer(8, read, || {
        generation += 1;
        replace(generation % OBJECTS, generation);
    });
    assert_eq!(found, [250; 8]);
    assert!(generation > 1);
    let caches = CACHES.load(Ordering::Relaxed);
    assert!((1..=4).contains(&caches), "{caches} caches for 4 connections");
}

#[test]
fn an_object_whose_loading_panicked_is_loaded_anew() {
    #[derive(Default)]
    struct Parts(Vec<i64>);
    let pool = tenure::testing::temporary_with(settings().readers(1)).unwrap();
    let kept = |pool: &Pool| pool.read().unwrap().with_extension(|parts: &mut Parts| parts.0.len());

    let load_half = || {
        let reader = pool.read().unwrap();
        reader.with_extension(|parts: &mut Parts| {
            parts.0.push(1);
            panic!("interrupted");
        })
    };
    assert!(catch_unwind(AssertUnwindSafe(load_half)).is_err());
    assert_eq!(kept(&pool), 0, "half an object was kept");

    pool.read().unwrap().with_extension(|parts: &mut Parts| parts.0.extend([1, 2]));
    assert_eq!(kept(&pool), 2, "a whole one is");
}

#[test]
fn a_reader_that_fails_leaves_the_snapshot_to_nobody() {
    let pool = tenure::testing::temporary_with(
        settings().readers(1).setup(|connection| Ok(connection.execute_batch(SCHEMA)?)),
    );
    let pool = pool.unwrap();
    let failed = pool.snapshot(|snapshot| {
        debit(snapshot)?;
        Err::<(), _>(Error::other("the caller has enough"))
    });
    assert!(failed.is_err());
    add_to_both(&pool);
    // The same connection: there is only one.
    assert_eq!(debit(&pool.read().unwrap()).unwrap(), 1);
}

#[test]
fn control_an_object_marked_before_it_is_loaded_is_listed_short() {
    /// An object of a shared connection, with a lock for each access.
    #[derive(Default)]
    struct Shared {
        loaded: AtomicBool,
        parts: Mutex<Vec<i64>>,
    }
    impl Shared {
        fn list(&self, load: impl FnOnce(&Mutex<Vec<i64>>)) -> usize {
            if !self.loaded.swap(true, Ordering::SeqCst) {
                load(&self.parts);
            }
            self.parts.lock().unwrap_or_else(PoisonError::into_inner).len()
        }
    }
    let shared = Shared::default();
    let (marked, other_may_list) = channel();
    let (listed, may_load) = channel();
    thread::scope(|scope| {
        let shared = &shared;
        let loader = scope.spawn(move || {
            shared.list(|parts| {
                marked.send(()).unwrap();
                may_load.recv().unwrap();
                parts.lock().unwrap().extend(0..3000);
            })
        });
        other_may_list.recv().unwrap();
        let short = shared.list(|_| unreachable!("it is marked as loaded"));
        listed.send(()).unwrap();
        assert_eq!((short, loader.join().unwrap()), (0, 3000));
    });
}
