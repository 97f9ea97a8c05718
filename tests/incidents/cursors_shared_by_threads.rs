//! Holds the crate to: rows go to whoever asked for them, and a transaction has one author.
//!
//! A store of computed properties had one cursor for sixteen server threads, so a thread could fetch
//! the rows of another thread's query. Giving each thread a cursor of its own on the one connection
//! mixes their transactions instead: both are shown here going wrong.

use std::collections::{BTreeSet, HashSet};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Barrier, Mutex};
use std::thread;

use tenure::rusqlite::{self, Connection, ErrorCode, OptionalExtension};
use tenure::{Error, Pool, ReadSession};

use crate::{at_once, bare_database, on_another_thread, pool, wait_until, waiting_writers};

const SCHEMA: &str = "
    CREATE TABLE property (parent INTEGER NOT NULL, position INTEGER NOT NULL);
    CREATE INDEX property_parent ON property (parent, position);
    CREATE TABLE item (id INTEGER PRIMARY KEY, owner TEXT NOT NULL);
    CREATE TABLE derived (id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, value TEXT NOT NULL);
";

const PARENTS: i64 = 64;
const QUERY: &str =
    "SELECT parent, position FROM property WHERE parent = ?1 AND position >= 0 ORDER BY position";

type Property = (i64, i64);

fn property(row: &rusqlite::Row<'_>) -> rusqlite::Result<Property> {
    Ok((row.get(0)?, row.get(1)?))
}

/// What the query for `parent` has to return: two to eight rows, no other parent's.
fn answer(parent: i64) -> Vec<Property> {
    (0..2 + parent % 7).map(|position| (parent, position)).collect()
}

fn fill(connection: &Connection) {
    let mut insert = connection.prepare("INSERT INTO property VALUES (?1, ?2)").unwrap();
    for row in (0..PARENTS).flat_map(answer) {
        insert.execute(row).unwrap();
    }
}

fn filled_pool() -> Pool {
    let pool = pool(SCHEMA);
    let filled = pool.transaction(|tx| {
        fill(tx.rusqlite());
        Ok(())
    });
    filled.unwrap();
    pool
}

fn ask(session: &ReadSession, parent: i64) -> rusqlite::Result<Vec<Property>> {
    session.prepare_cached(QUERY)?.query_map([parent], property)?.collect()
}

#[test]
fn every_result_set_belongs_to_its_query() {
    const THREADS: u32 = 16;
    const QUERIES: i64 = 2_000;
    let pool = filled_pool();
    let wrong: Vec<usize> = at_once(THREADS, |thread| {
        // Of any two threads, one always asks for what the other does not.
        let parents = (0..QUERIES).map(|query| (query * 16 + i64::from(thread)) % PARENTS);
        parents
            .filter(|&parent| ask(&pool.read().unwrap(), parent).unwrap() != answer(parent))
            .count()
    });
    assert_eq!(wrong, [0; THREADS as usize]);
}

#[test]
fn a_query_in_between_does_not_move_the_rows_being_read() {
    let pool = filled_pool();
    let (a_reads, b_may_ask) = channel();
    let (b_has_asked, a_may_go_on) = channel();
    thread::scope(|scope| {
        let pool = &pool;
        scope.spawn(move || {
            b_may_ask.recv().unwrap();
            assert_eq!(ask(&pool.read().unwrap(), 2).unwrap(), answer(2));
            b_has_asked.send(()).unwrap();
        });
        let reader = pool.read().unwrap();
        let mut statement = reader.prepare_cached(QUERY).unwrap();
        let mut rows = statement.query_map([1], property).unwrap();
        let mut read = vec![rows.next().unwrap().unwrap()];
        a_reads.send(()).unwrap();
        a_may_go_on.recv().unwrap();
        read.extend(rows.map(Result::unwrap));
        assert_eq!(read, answer(1));
    });
}

/// A cursor as scripting languages have it: any thread may call it, the calls are run one at a time,
/// and fetching goes on with what was executed last, whoever did so.
#[derive(Clone)]
struct SharedCursor {
    calls: Sender<Call>,
}

enum Call {
    Execute(i64),
    FetchOne(Sender<Option<Property>>),
}

impl SharedCursor {
    fn execute(&self, parent: i64) {
        self.calls.send(Call::Execute(parent)).unwrap();
    }

    fn fetch_all(&self) -> Vec<Property> {
        let fetch_one = || {
            let (reply, row) = channel();
            self.calls.send(Call::FetchOne(reply)).unwrap();
            row.recv().unwrap()
        };
        std::iter::from_fn(fetch_one).collect()
    }
}

/// Runs the calls on one SQLite statement, which takes the place of a lock held for each call.
fn run_cursor(connection: &Connection, calls: &Receiver<Call>) {
    let mut statement = connection.prepare(QUERY).unwrap();
    let mut executed = None;
    while let Some(parent) = executed.take().or_else(|| first_execute(calls)) {
        let mut rows = statement.query([parent]).unwrap();
        while let Ok(call) = calls.recv() {
            match call {
                Call::FetchOne(reply) => {
                    let row = rows.next().unwrap().map(|row| property(row).unwrap());
                    reply.send(row).unwrap();
                }
                Call::Execute(parent) => {
                    executed = Some(parent);
                    break;
                }
            }
        }
    }
}

fn first_execute(calls: &Receiver<Call>) -> Option<i64> {
    calls.iter().find_map(|call| if let Call::Execute(parent) = call { Some(parent) } else { None })
}

#[test]
fn control_a_shared_cursor_answers_with_another_threads_rows() {
    let directory = tempfile::tempdir().unwrap();
    let connection = bare_database(directory.path(), SCHEMA);
    fill(&connection);
    thread::scope(|scope| {
        let (sender, calls) = channel();
        let a = SharedCursor { calls: sender };
        let b = a.clone();
        scope.spawn(move || run_cursor(&connection, &calls));

        // One thread after the other has it to itself: no call is torn, and yet...
        a.execute(1);
        on_another_thread(|| b.execute(2));
        let rows_of_a = a.fetch_all();
        let rows_of_b = on_another_thread(|| b.fetch_all());

        assert_ne!(rows_of_a, answer(1));
        assert_eq!(rows_of_a, answer(2));
        assert_eq!(rows_of_b, []);
    });
}

fn insert(session: &tenure::Session, owner: &str) -> rusqlite::Result<i64> {
    session.execute("INSERT INTO item (owner) VALUES (?1)", [owner])?;
    thread::yield_now();
    Ok(session.last_insert_rowid())
}

fn owners(pool: &Pool) -> Vec<String> {
    let reader = pool.read().unwrap();
    let mut statement = reader.prepare("SELECT owner FROM item ORDER BY owner").unwrap();
    let owners = statement.query_map([], |row| row.get(0)).unwrap();
    owners.collect::<rusqlite::Result<_>>().unwrap()
}

#[test]
fn a_rollback_takes_only_its_own_rows() {
    let pool = pool(SCHEMA);
    thread::scope(|scope| {
        let mut writer = pool.write().unwrap();
        let tx = writer.transaction().unwrap();
        insert(&tx, "a").unwrap();
        let b = scope.spawn(|| pool.transaction(|tx| Ok(insert(tx, "b")?)));
        wait_until(|| waiting_writers(&pool) == 1);
        tx.rollback().unwrap();
        drop(writer);
        b.join().unwrap().unwrap();
    });
    assert_eq!(owners(&pool), ["b"]);
}

#[test]
fn rollbacks_among_many_threads_take_only_their_own_rows() {
    let pool = pool(SCHEMA);
    at_once(16, |thread| {
        for round in 0..50 {
            let name = format!("{thread} {round}");
            let kept = pool.transaction(|tx| {
                insert(tx, &name)?;
                if round % 2 == 0 { Ok(()) } else { Err(Error::other("not this one")) }
            });
            assert_eq!(kept.is_ok(), round % 2 == 0);
        }
    });
    let committed: BTreeSet<String> = (0..16)
        .flat_map(|thread| (0..50).step_by(2).map(move |round| format!("{thread} {round}")))
        .collect();
    assert_eq!(owners(&pool), Vec::from_iter(committed));
}

#[test]
fn the_last_rowid_in_a_transaction_is_ones_own() {
    let pool = pool(SCHEMA);
    let ids = at_once(16, |thread| {
        let mine = format!("thread {thread}");
        let insert = || pool.transaction(|tx| Ok(insert(tx, &mine)?)).unwrap();
        (mine.clone(), (0..50).map(|_| insert()).collect::<Vec<_>>())
    });
    let reader = pool.read().unwrap();
    let mut statement = reader.prepare("SELECT owner FROM item WHERE id = ?1").unwrap();
    for (inserter, ids) in &ids {
        for id in ids {
            let owner: String = statement.query_one([id], |row| row.get(0)).unwrap();
            assert_eq!(&owner, inserter);
        }
    }
    let distinct: HashSet<i64> = ids.iter().flat_map(|(_, ids)| ids).copied().collect();
    assert_eq!(distinct.len(), 16 * 50);
}

/// One connection for all threads, locked for each call: every statement has its own cursor, but the
/// transaction and the last rowid are everybody's.
struct SharedConnection {
    connection: Mutex<Connection>,
}

impl SharedConnection {
    fn execute(&self, sql: &str) -> rusqlite::Result<usize> {
        self.connection.lock().unwrap().execute(sql, [])
    }

    fn last_insert_rowid(&self) -> i64 {
        self.connection.lock().unwrap().last_insert_rowid()
    }

    fn count(&self) -> i64 {
        let connection = self.connection.lock().unwrap();
        connection.query_one("SELECT count(*) FROM item", [], |row| row.get(0)).unwrap()
    }
}

#[test]
fn control_on_a_shared_connection_a_rollback_takes_a_bystanders_row() {
    let directory = tempfile::tempdir().unwrap();
    let shared = SharedConnection { connection: bare_database(directory.path(), SCHEMA).into() };
    let b = |sql| on_another_thread(|| shared.execute(sql));

    shared.execute("BEGIN").unwrap();
    shared.execute("INSERT INTO item (owner) VALUES ('a')").unwrap();
    let of_a = shared.last_insert_rowid();
    assert_eq!(b("INSERT INTO item (owner) VALUES ('b')"), Ok(1), "b is told that it is stored");
    assert_ne!(shared.last_insert_rowid(), of_a, "a asks for its rowid and gets b's");
    let refused = b("BEGIN").unwrap_err().to_string();
    assert!(refused.contains("within a transaction"), "{refused}");
    assert_eq!(shared.count(), 2);
    shared.execute("ROLLBACK").unwrap();
    assert_eq!(shared.count(), 0, "b's row went with a's");
}

#[test]
fn a_batch_that_fails_in_the_middle_leaves_nothing() {
    let pool = pool(SCHEMA);
    let result = pool.transaction(|tx| {
        for (id, owner) in [(1, "a"), (2, "b"), (1, "c"), (3, "d")] {
            tx.execute("INSERT INTO item (id, owner) VALUES (?1, ?2)", (id, owner))?;
            // A statement of the batch cannot go past it, through another writer, either.
            assert!(pool.try_write().is_err());
        }
        Ok(())
    });
    let Err(Error::Sqlite(cause)) = result else { panic!("{result:?} is not SQLite's refusal") };
    assert_eq!(cause.sqlite_error_code(), Some(ErrorCode::ConstraintViolation));
    assert_eq!(owners(&pool), <[&str; 0]>::default());

    let next = pool.transaction(|tx| Ok(insert(tx, "e")?));
    assert_eq!(next.unwrap(), 1);
    assert_eq!(owners(&pool), ["e"]);
}

fn look_up(session: &ReadSession, key: &str) -> rusqlite::Result<Option<i64>> {
    session.query_one("SELECT id FROM derived WHERE key = ?1", [key], |row| row.get(0)).optional()
}

#[test]
fn threads_that_compute_the_same_property_agree_on_one_row() {
    const THREADS: u32 = 16;
    let pool = pool(SCHEMA);
    for key in ["chip 1", "chip 2", "chip 3"] {
        let all_have_looked = Barrier::new(THREADS as usize);
        let results = at_once(THREADS, |thread| {
            let found = look_up(&pool.read().unwrap(), key);
            // Nobody stores before everybody has missed: the race is certain.
            all_have_looked.wait();
            assert_eq!(found.unwrap(), None);
            let value = format!("computed by {thread}");
            let stored = pool.transaction(|tx| {
                let new = tx.execute(
                    "INSERT INTO derived (key, value) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
                    (key, &value),
                )?;
                Ok((look_up(tx, key)?.expect("it is stored by now"), new))
            });
            stored.unwrap()
        });
        let ids: HashSet<i64> = results.iter().map(|(id, _)| *id).collect();
        assert_eq!(ids.len(), 1, "different rows for {key}: {results:?}");
        assert_eq!(results.iter().map(|(_, new)| new).sum::<usize>(), 1);
    }
    let rows: i64 = pool
        .read()
        .unwrap()
        .query_one("SELECT count(*) FROM derived", [], |row| row.get(0))
        .unwrap();
    assert_eq!(rows, 3);
}
