//! Errors work with the three usual ways to handle them, keep their causes, and say what to do.

use std::error::Error as _;

use tenure::{CheckoutErrorKind, Error, OpenError, Pool, testing};

use crate::until::until;

fn work(pool: &Pool) -> Result<i64, Error> {
    pool.transaction(|tx| {
        tx.execute_batch("CREATE TABLE IF NOT EXISTS task (title TEXT UNIQUE)")?;
        tx.execute("INSERT INTO task VALUES (?1)", ["a"])?;
        Ok(tx.last_insert_rowid())
    })
}

#[test]
fn with_anyhow() {
    fn run() -> anyhow::Result<i64> {
        let pool = testing::temporary()?;
        let mut writer = pool.write()?;
        let tx = writer.transaction()?;
        tx.execute_batch("CREATE TABLE task (title TEXT UNIQUE)")?;
        tx.commit()?;
        drop(writer);
        pool.transaction_with_error(|tx| {
            anyhow::ensure!(tx.table_exists(None, "task")?, "no table");
            Ok::<_, anyhow::Error>(())
        })?;
        Ok(work(&pool)?)
    }
    assert_eq!(run().unwrap(), 1);
}

#[test]
fn with_a_boxed_error() {
    fn run() -> Result<i64, Box<dyn std::error::Error>> {
        let pool = testing::temporary()?;
        let mut writer = pool.write()?;
        writer.transaction()?.commit()?;
        writer.transaction()?.rollback()?;
        drop(writer);
        pool.snapshot(|snapshot| Ok(snapshot.query_one("SELECT 1", [], |r| r.get::<_, i64>(0))?))?;
        Ok(work(&pool)?)
    }
    assert_eq!(run().unwrap(), 1);
}

#[test]
fn with_an_enum_of_the_callers_own() {
    #[derive(Debug, thiserror::Error)]
    enum TaskError {
        #[error("there is no task {0}")]
        NoSuchTask(i64),
        #[error(transparent)]
        Database(#[from] Error),
        #[error(transparent)]
        Sqlite(#[from] rusqlite::Error),
    }

    fn run(pool: &Pool) -> Result<(), TaskError> {
        pool.transaction_with_error(|tx| {
            let changed = tx.execute("UPDATE task SET title = 'b' WHERE rowid = 7", [])?;
            if changed == 0 { Err(TaskError::NoSuchTask(7)) } else { Ok(()) }
        })
    }
    let pool = testing::temporary().unwrap();
    assert!(matches!(run(&pool), Err(TaskError::Sqlite(_))));
    work(&pool).unwrap();
    assert!(matches!(run(&pool), Err(TaskError::NoSuchTask(7))));
}

#[test]
fn ones_own_error_comes_out_as_it_went_in() {
    let pool = testing::temporary().unwrap();
    let result: Result<(), Error> = pool.transaction(|_| Err(Error::other(std::fmt::Error)));
    assert!(result.unwrap_err().downcast_other::<std::fmt::Error>().is_ok());
    let other = Error::from(rusqlite::Error::InvalidQuery);
    assert!(matches!(other.downcast_other::<std::fmt::Error>(), Err(Error::Sqlite(_))));
}

#[test]
fn causes_can_be_followed() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("not-a-database.db");
    std::fs::write(&file, "x".repeat(4096)).unwrap();
    let error = anyhow::Error::from(Pool::open(&file).unwrap_err());
    let chain: Vec<_> = error.chain().map(ToString::to_string).collect();
    assert!(chain.len() >= 3, "{chain:#?}");
    assert!(chain[0].contains("not-a-database.db"), "{chain:#?}");
    assert!(error.chain().any(|cause| cause.is::<rusqlite::Error>()), "{chain:#?}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "x".repeat(4096), "the file was touched");
}

#[test]
fn what_may_succeed_later_is_told_from_what_will_not() {
    let pool = testing::temporary().unwrap();
    let _writer = pool.write().unwrap();
    assert!(Error::from(pool.try_write().unwrap_err()).is_overload());
    let never = [
        Error::other("mine"),
        Error::from(OpenError::InMemory),
        Error::from(rusqlite::Error::InvalidQuery),
    ];
    for error in never {
        assert!(!error.is_overload(), "{error}");
    }
}

#[test]
fn a_connection_that_cannot_be_opened_is_reported_with_its_cause() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    let broken = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&broken);
    let pool = testing::temporary_with(
        Pool::builder().readers(2).idle_limit(Duration::from_secs(1)).on_connect(move |_, _| {
            if flag.load(Ordering::Relaxed) {
                return Err("the key server is away".into());
            }
            Ok(())
        }),
    )
    .unwrap();
    broken.store(true, Ordering::Relaxed);
    until("the idle ones were closed", || pool.status().read.open == 1);
    let _only = pool.read().unwrap();
    let error = pool.read_timeout(Duration::from_millis(50)).unwrap_err();
    assert_eq!(error.kind(), CheckoutErrorKind::Connect);
    assert!(error.to_string().contains("the key server is away"), "{error}");
    assert!(error.source().is_some());

    broken.store(false, Ordering::Relaxed);
    assert!(pool.read_timeout(Duration::from_secs(60)).is_ok(), "the pool goes on once it can");
}

#[test]
fn a_panic_while_a_connection_is_opened_loses_no_place() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    let panics = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&panics);
    let pool = testing::temporary_with(
        Pool::builder().readers(2).idle_limit(Duration::from_secs(1)).on_connect(move |_, _| {
            if flag.load(Ordering::Relaxed) {
                std::panic::resume_unwind(Box::new("no key".to_owned()));
            }
            Ok(())
        }),
    )
    .unwrap();
    panics.store(true, Ordering::Relaxed);
    until("the idle ones were closed", || pool.status().read.open == 1);
    let _only = pool.read().unwrap();
    let error = pool.read_timeout(Duration::from_millis(50)).unwrap_err();
    assert!(error.to_string().contains("panicked: no key"), "{error}");
    panics.store(false, Ordering::Relaxed);
    assert!(pool.read_timeout(Duration::from_secs(60)).is_ok(), "the place is still there");
}
