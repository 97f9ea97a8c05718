//! Work whose author allows it is run again when a lock was in the way, and only then.

use std::time::Duration;

use tenure::rusqlite::Connection;
use tenure::{CommitError, Error, JournalMode, Pool};

use crate::recorded::Recorded;

fn pool() -> Recorded {
    let builder = Pool::builder().busy_timeout(Duration::from_millis(2)).readers(1);
    let pool = Recorded::with(builder);
    pool.write().unwrap().execute_batch("CREATE TABLE task (title TEXT UNIQUE)").unwrap();
    pool
}

fn outsider(pool: &Pool) -> Connection {
    Connection::open(pool.read().unwrap().rusqlite().path().unwrap()).unwrap()
}

fn count(pool: &Pool) -> i64 {
    let sql = "SELECT count(*) FROM task";
    pool.read().unwrap().query_one(sql, [], |row| row.get(0)).unwrap()
}

#[test]
fn a_lost_snapshot_is_read_anew() {
    let pool = pool();
    let outside = outsider(&pool);
    let mut runs = 0;
    pool.transaction_with_retry(|tx| {
        runs += 1;
        if runs == 1 {
            // As if the transaction had begun DEFERRED and another writer had come first: SQLite
            // answers BUSY_SNAPSHOT, without asking the busy handler.
            tx.rusqlite().execute_batch("ROLLBACK; BEGIN DEFERRED")?;
            tx.query_one("SELECT count(*) FROM task", [], |_| Ok(()))?;
            outside.execute("INSERT INTO task VALUES ('in between')", [])?;
        }
        tx.execute("INSERT INTO task VALUES ('mine')", [])?;
        Ok(())
    })
    .unwrap();
    assert_eq!((runs, count(&pool)), (2, 2));
}

#[test]
fn it_ends_after_five_tries_and_says_what_was_in_the_way() {
    let pool = pool();
    let outside = outsider(&pool);
    outside.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = pool.transaction_with_retry(|_| Ok(())).unwrap_err();
    assert!(matches!(error, Error::Begin(_)) && error.is_overload(), "{error}");
    assert_eq!(pool.transactions("immediate", "busy"), 5.0);

    outside.execute_batch("COMMIT").unwrap();
    pool.transaction_with_retry(|_| Ok(())).unwrap();
    assert_eq!(pool.transactions("immediate", "commit"), 1.0, "no more than needed");
}

#[test]
fn other_errors_are_not_repeated() {
    let pool = pool();
    let mut runs = 0;
    let mut run = |work: &dyn Fn(&tenure::Transaction<'_>) -> Result<(), Error>| {
        runs = 0;
        let result = pool.transaction_with_retry(|tx| {
            runs += 1;
            work(tx)
        });
        (result.unwrap_err(), runs)
    };
    let (error, runs) = run(&|_| Err(Error::other("mine")));
    assert_eq!((error.to_string().as_str(), runs), ("mine", 1));
    let (_, runs) = run(&|tx| {
        tx.execute("INSERT INTO task VALUES ('a'), ('a')", [])?;
        Ok(())
    });
    assert_eq!(runs, 1, "a constraint is not a lock");
    let (error, runs) = run(&|tx| Ok(tx.rusqlite().execute_batch("COMMIT")?));
    assert!(matches!(error, Error::Commit(CommitError::NotOpen)));
    assert_eq!(runs, 1, "what became of it is not certain");
}

#[test]
fn a_commit_that_stayed_busy_is_repeated_as_a_whole() {
    let builder = Pool::builder()
        .journal_mode(JournalMode::Truncate)
        .busy_timeout(Duration::from_millis(2))
        .readers(1);
    let pool = Recorded::with(builder);
    pool.write().unwrap().execute_batch("CREATE TABLE task (title TEXT UNIQUE)").unwrap();
    let outside = outsider(&pool);
    outside.execute_batch("BEGIN; SELECT * FROM task").unwrap();
    let mut runs = 0;
    pool.transaction_with_retry(|tx| {
        runs += 1;
        if runs == 3 {
            outside.execute_batch("COMMIT")?;
        }
        tx.execute("INSERT INTO task VALUES ('mine')", [])?;
        Ok(())
    })
    .unwrap();
    assert_eq!((runs, count(&pool)), (3, 1));
    assert_eq!(pool.transactions("immediate", "busy"), 2.0);
}
