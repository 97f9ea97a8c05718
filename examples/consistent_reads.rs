//! Readers that see one state of the database, and a cache that belongs to one connection.
//!
//! A snapshot shows either all of a change or nothing of it. Objects loaded through a connection are
//! kept with that connection, and only its holder can reach them: there is no moment in which another
//! thread could see one that is only half loaded.
//!
//! Run it with `cargo run --example consistent_reads`.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use tenure::rusqlite;
use tenure::{Error, Pool, ReadSession};

const READERS: usize = 8;
const ROUNDS: usize = 2_000;
const LISTS: i64 = 4;

const SCHEMA: &str = "
    CREATE TABLE list (id INTEGER PRIMARY KEY, length INTEGER NOT NULL);
    INSERT INTO list VALUES (0, 0), (1, 0), (2, 0), (3, 0);
    CREATE TABLE entry (list INTEGER NOT NULL, text TEXT NOT NULL);
    CREATE INDEX entry_list ON entry (list);
";

/// The lists that were loaded through one connection.
#[derive(Default)]
struct Lists {
    /// Changes on this connection when another one has committed.
    data_version: i64,
    loaded: HashMap<i64, Vec<String>>,
    hits: u64,
}

impl Lists {
    /// Inside a snapshot the version cannot change between the question and the reading.
    fn entries(&mut self, session: &ReadSession, list: i64) -> rusqlite::Result<&[String]> {
        let version = session.query_one("PRAGMA data_version", [], |row| row.get(0))?;
        if self.data_version != version {
            self.loaded.clear();
            self.data_version = version;
        }
        match self.loaded.entry(list) {
            Entry::Occupied(place) => {
                self.hits += 1;
                Ok(place.into_mut())
            }
            Entry::Vacant(place) => {
                let mut select =
                    session.prepare_cached("SELECT text FROM entry WHERE list = ?1")?;
                let entries = select.query_map([list], |row| row.get(0))?;
                Ok(place.insert(entries.collect::<rusqlite::Result<_>>()?))
            }
        }
    }
}

/// What the list says of itself.
fn length(session: &ReadSession, list: i64) -> rusqlite::Result<usize> {
    let sql = "SELECT length FROM list WHERE id = ?1";
    session.query_one(sql, [list], |row| row.get::<_, u32>(0)).map(|length| length as usize)
}

/// A change of two tables.
fn replace(pool: &Pool, list: i64, length: i64) -> Result<(), Error> {
    pool.transaction(|tx| {
        tx.execute("UPDATE list SET length = ?2 WHERE id = ?1", [list, length])?;
        tx.execute("DELETE FROM entry WHERE list = ?1", [list])?;
        let mut insert = tx.prepare_cached("INSERT INTO entry VALUES (?1, 'entry ' || ?2)")?;
        (0..length).try_for_each(|n| insert.execute([list, n]).map(drop))?;
        Ok(())
    })
}

fn main() -> Result<(), Error> {
    let setup = |connection: &mut rusqlite::Connection| Ok(connection.execute_batch(SCHEMA)?);
    let pool = tenure::testing::temporary_with(Pool::builder().readers(2).setup(setup))?;
    let (torn_without, torn_within, hits) =
        (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));

    let read = || {
        for round in 0..ROUNDS {
            let list = round as i64 % LISTS;
            // Two queries, two states: a commit may come in between.
            let reader = pool.read()?;
            let length_before = length(&reader, list)?;
            let sql = "SELECT count(*) FROM entry WHERE list = ?1";
            let count = reader.query_one(sql, [list], |row| row.get::<_, u32>(0))? as usize;
            torn_without.fetch_add(u64::from(length_before != count), Ordering::Relaxed);
            drop(reader);

            // One snapshot, one state; and what was loaded before is used again.
            pool.snapshot(|snapshot| {
                let length = length(snapshot, list)?;
                snapshot.with_extension(|lists: &mut Lists| {
                    let torn = lists.entries(snapshot, list)?.len() != length;
                    torn_within.fetch_add(torn.into(), Ordering::Relaxed);
                    hits.fetch_add(std::mem::take(&mut lists.hits), Ordering::Relaxed);
                    Ok(())
                })
            })?;
        }
        Ok::<_, Error>(())
    };
    let mut changes = 0;
    thread::scope(|scope| {
        let readers: Vec<_> = (0..READERS).map(|_| scope.spawn(read)).collect();
        while !readers.iter().all(thread::ScopedJoinHandle::is_finished) {
            replace(&pool, changes % LISTS, changes % 10)?;
            changes += 1;
        }
        readers.into_iter().try_for_each(|reader| reader.join().expect("no panic"))
    })?;

    let (torn_without, torn_within) = (torn_without.into_inner(), torn_within.into_inner());
    println!("{} reads of each kind while {changes} changes were committed", READERS * ROUNDS);
    println!("two queries one after the other: {torn_without} saw half a change");
    println!("two queries in one snapshot: {torn_within} saw half a change");
    println!("{} of the snapshots found their list loaded already", hits.into_inner());
    assert_eq!(torn_within, 0);
    Ok(())
}
