//! Holds the crate to: every call has a transaction of its own, which ends as that call ends.
//!
//! A decorator kept one transaction object for all calls of a request handler. The next request
//! overwrote the connection of the one before; a transaction that failed was committed by its
//! neighbour; an insert reported as stored went with somebody else's rollback.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;

use tenure::rusqlite::{self, Connection, ErrorCode};
use tenure::{Error, Pool, ReadSession, Session};

use crate::{PATIENCE, at_once, bare_connection, bare_database, pool, wait_until, waiting_writers};

const SCHEMA: &str = "
    CREATE TABLE note (id INTEGER PRIMARY KEY, value INTEGER NOT NULL);
    CREATE TABLE copy (value INTEGER NOT NULL);
    CREATE TABLE counter (n INTEGER NOT NULL);
    INSERT INTO counter VALUES (0);
";

fn insert(session: &Session, value: i64) -> rusqlite::Result<i64> {
    session.execute("INSERT INTO note (value) VALUES (?1)", [value])?;
    Ok(session.last_insert_rowid())
}

fn values(pool: &Pool) -> Vec<i64> {
    let reader = pool.read().unwrap();
    let mut statement = reader.prepare("SELECT value FROM note ORDER BY value").unwrap();
    let values = statement.query_map([], |row| row.get(0)).unwrap();
    values.collect::<rusqlite::Result<_>>().unwrap()
}

fn counter(session: &ReadSession) -> rusqlite::Result<i64> {
    session.query_one("SELECT n FROM counter", [], |row| row.get(0))
}

#[test]
fn of_ten_concurrent_calls_all_ten_are_right() {
    let pool = pool(SCHEMA);
    let handler = |value: i64| {
        pool.transaction(|tx| {
            let id = insert(tx, value)?;
            thread::yield_now();
            Ok(tx.query_one("SELECT value FROM note WHERE id = ?1", [id], |row| row.get(0))?)
        })
    };
    let returned: Vec<i64> = at_once(10, |request| handler(request.into()).unwrap());
    assert_eq!(returned, Vec::from_iter(0..10));
    assert_eq!(values(&pool), Vec::from_iter(0..10));
}

#[test]
fn of_four_transactions_only_the_failing_one_is_undone() {
    let pool = pool(SCHEMA);
    for failing in 0..4 {
        pool.write().unwrap().execute("DELETE FROM note", []).unwrap();
        let results = at_once(4, |request| {
            pool.transaction(|tx| {
                insert(tx, request.into())?;
                thread::yield_now();
                if request == failing { Err(Error::other("only mine")) } else { Ok(()) }
            })
        });
        let failed: Vec<_> = (0..4u32)
            .zip(&results)
            .filter(|(_, result)| result.is_err())
            .map(|(request, _)| request)
            .collect();
        assert_eq!(failed, [failing]);
        let others: Vec<i64> = (0..4).filter(|value| *value != i64::from(failing)).collect();
        assert_eq!(values(&pool), others);
    }
}

/// One transaction object for all calls, which counts how often it was entered: the first BEGINs, the
/// last one to leave decides.
struct SharedTransaction {
    connection: Mutex<(Connection, usize)>,
}

impl SharedTransaction {
    fn enter(&self) {
        let (connection, depth) = &mut *self.connection.lock().unwrap();
        if *depth == 0 {
            connection.execute_batch("BEGIN").unwrap();
        }
        *depth += 1;
    }

    fn insert(&self, value: i64) {
        let (connection, _) = &*self.connection.lock().unwrap();
        connection.execute("INSERT INTO note (value) VALUES (?1)", [value]).unwrap();
    }

    fn leave(&self, end: &str) {
        let (connection, depth) = &mut *self.connection.lock().unwrap();
        *depth -= 1;
        if *depth == 0 {
            connection.execute_batch(end).unwrap();
        }
    }
}

#[test]
fn control_a_shared_transaction_object_commits_what_failed() {
    let directory = tempfile::tempdir().unwrap();
    let connection = bare_database(directory.path(), SCHEMA);
    let shared = SharedTransaction { connection: (connection, 0).into() };
    let (first_is_in, second_may_enter) = channel();
    let (second_is_in, first_may_fail) = channel();
    let (first_has_failed, second_may_leave) = channel();
    thread::scope(|scope| {
        let shared = &shared;
        scope.spawn(move || {
            shared.enter();
            shared.insert(1);
            first_is_in.send(()).unwrap();
            first_may_fail.recv().unwrap();
            shared.leave("ROLLBACK");
            first_has_failed.send(()).unwrap();
        });
        second_may_enter.recv().unwrap();
        shared.enter();
        shared.insert(2);
        second_is_in.send(()).unwrap();
        second_may_leave.recv().unwrap();
        shared.leave("COMMIT");
    });
    let (connection, _) = shared.connection.into_inner().unwrap();
    let sum: i64 =
        connection.query_one("SELECT sum(value) FROM note", [], |row| row.get(0)).unwrap();
    assert_eq!(sum, 1 + 2, "the transaction of 1 was rolled back, and 1 is there");
}

#[test]
fn a_bystanders_insert_survives_my_rollback() {
    let pool = pool(SCHEMA);
    for panics in [false, true] {
        pool.write().unwrap().execute("DELETE FROM note", []).unwrap();
        thread::scope(|scope| {
            // The bystander has no transaction; it asks for the writer while mine is open.
            let (mine_is_open, bystander_may_ask) = channel();
            let bystander = scope.spawn(|| {
                let bystander_may_ask = bystander_may_ask;
                bystander_may_ask.recv().unwrap();
                insert(&pool.write().unwrap(), 2)
            });
            let mine = || {
                pool.transaction(|tx| {
                    insert(tx, 1)?;
                    mine_is_open.send(()).unwrap();
                    wait_until(|| waiting_writers(&pool) == 1);
                    assert!(!panics, "mine panics");
                    Err::<(), _>(Error::other("mine fails"))
                })
            };
            let ended = catch_unwind(AssertUnwindSafe(mine));
            assert!(!matches!(ended, Ok(Ok(()))));
            bystander.join().unwrap().unwrap();
        });
        assert_eq!(values(&pool), [2]);
    }
}

#[test]
fn a_forgotten_transaction_does_not_become_the_next_ones() {
    let pool = pool(SCHEMA);
    let mut writer = pool.write().unwrap();
    let tx = writer.transaction().unwrap();
    insert(&tx, 1).unwrap();
    std::mem::forget(tx);
    drop(writer);

    let next = pool.write().unwrap();
    assert!(next.is_autocommit());
    insert(&next, 2).unwrap();
    drop(next);
    assert_eq!(values(&pool), [2], "read by another connection, so it is committed");
}

#[test]
fn read_modify_writes_of_four_threads_all_count() {
    let pool = pool(SCHEMA);
    let errors: Vec<Vec<Error>> = at_once(4, |_| {
        let add_one = || {
            pool.transaction(|tx| {
                let n = counter(tx)?;
                tx.execute("UPDATE counter SET n = ?1", [n + 1])?;
                Ok(())
            })
        };
        (0..1_000).filter_map(|_| add_one().err()).collect()
    });
    assert!(errors.iter().all(Vec::is_empty), "{errors:?}");
    assert_eq!(counter(&pool.read().unwrap()).unwrap(), 4_000);
}

#[test]
fn control_a_deferred_read_modify_write_is_refused_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let one = bare_database(directory.path(), SCHEMA);
    let other = bare_connection(&directory.path().join("control.db"));
    other.busy_timeout(PATIENCE).unwrap(); // It will not be asked.
    let read = |connection: &Connection| -> i64 {
        connection.execute_batch("BEGIN").unwrap();
        connection.query_one("SELECT n FROM counter", [], |row| row.get(0)).unwrap()
    };
    let (n, m) = (read(&one), read(&other));
    one.execute("UPDATE counter SET n = ?1", [n + 1]).unwrap();
    one.execute_batch("COMMIT").unwrap();
    let refused = other.execute("UPDATE counter SET n = ?1", [m + 1]).unwrap_err();
    assert_eq!(refused.sqlite_error_code(), Some(ErrorCode::DatabaseBusy));
}

/// Runs `work` on a thread of its own, so that a deadlock fails the test instead of hanging it.
fn without_deadlock(work: impl FnOnce() + Send + 'static) {
    let (done, ended) = channel::<()>();
    let worker = thread::spawn(move || {
        let _done = done; // Hangs up at the end, also when that is a panic.
        work();
    });
    assert_eq!(ended.recv_timeout(PATIENCE), Err(RecvTimeoutError::Disconnected), "a deadlock");
    worker.join().unwrap();
}

/// Copies the notes while it iterates over them, and looks at the copies with a third statement.
fn copy_while_iterating(session: &Session) -> rusqlite::Result<()> {
    let mut notes = session.prepare("SELECT value FROM note ORDER BY value")?;
    let mut rows = notes.query([])?;
    let mut read = 0;
    while let Some(row) = rows.next()? {
        let value: i64 = row.get(0)?;
        assert_eq!(value, read);
        session.execute("INSERT INTO copy VALUES (?1)", [value])?;
        let copied: i64 = session.query_one("SELECT count(*) FROM copy", [], |row| row.get(0))?;
        read += 1;
        assert_eq!(copied, read);
    }
    assert_eq!(read, 100);
    Ok(())
}

#[test]
fn iterating_and_executing_at_the_same_time_goes_well() {
    let pool = pool(SCHEMA);
    let filled = pool.transaction(|tx| {
        for value in 0..100 {
            insert(tx, value)?;
        }
        Ok(())
    });
    filled.unwrap();
    let copies = {
        let pool = pool.clone();
        move || -> i64 {
            let reader = pool.read().unwrap();
            reader.query_one("SELECT count(*) FROM copy", [], |row| row.get(0)).unwrap()
        }
    };

    let in_a_transaction = {
        let (pool, copies) = (pool.clone(), copies.clone());
        move || {
            let copied = pool.transaction(|tx| {
                copy_while_iterating(tx)?;
                assert_eq!(copies(), 0, "nobody sees the copies before they are committed");
                Ok(())
            });
            copied.unwrap();
            assert_eq!(copies(), 100);
        }
    };
    without_deadlock(in_a_transaction);

    let on_the_guard = move || {
        let writer = pool.write().unwrap();
        writer.execute("DELETE FROM copy", []).unwrap();
        copy_while_iterating(&writer).unwrap();
        drop(writer);
        assert_eq!(copies(), 100);
    };
    without_deadlock(on_the_guard);
}

#[test]
fn two_statements_of_one_reader_keep_their_own_place() {
    let pool = pool(SCHEMA);
    let filled =
        pool.transaction(|tx| Ok((0..10).try_for_each(|value| insert(tx, value).map(drop))?));
    filled.unwrap();
    let reader = pool.read().unwrap();
    let mut up = reader.prepare("SELECT value FROM note ORDER BY value").unwrap();
    let mut down = reader.prepare("SELECT value FROM note ORDER BY value DESC").unwrap();
    let up = up.query_map([], |row| row.get::<_, i64>(0)).unwrap();
    let down = down.query_map([], |row| row.get::<_, i64>(0)).unwrap();
    for ((up, down), n) in up.zip(down).zip(0..) {
        assert_eq!((up.unwrap(), down.unwrap()), (n, 9 - n));
    }
}
