//! `setup` runs once, before anybody can check out, on a connection that nobody else gets.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use rusqlite_migration::{M, Migrations};
use tenure::{OpenError, Pool, testing};

mod embedded {
    refinery::embed_migrations!("tests/promises/migrations");
}

#[test]
fn it_runs_once_and_its_connection_never_enters_the_pool() {
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&runs);
    let pool = testing::temporary_with(Pool::builder().readers(3).setup(move |connection| {
        counted.fetch_add(1, Ordering::Relaxed);
        connection.execute_batch("CREATE TABLE task (title TEXT); CREATE TEMP TABLE mark (n)")?;
        Ok(())
    }))
    .unwrap();
    assert_eq!(runs.load(Ordering::Relaxed), 1);
    let readers: Vec<_> = (0..3).map(|_| pool.read().unwrap()).collect();
    let writer = pool.write().unwrap();
    for session in readers.iter().map(|reader| &**reader).chain([&**writer]) {
        assert!(session.table_exists(None, "task").unwrap());
        assert!(!session.table_exists(Some("temp"), "mark").unwrap(), "its connection was lent");
    }
}

#[test]
fn a_pool_may_be_opened_on_another_thread_than_it_was_described_on() {
    let builder = Pool::builder().setup(|connection| {
        connection.execute_batch("CREATE TABLE task (title TEXT)")?;
        Ok(())
    });
    let pool = thread::spawn(|| testing::temporary_with(builder).unwrap()).join().unwrap();
    assert!(pool.read().unwrap().table_exists(None, "task").unwrap());
}

#[test]
fn with_rusqlite_migration() {
    let directory = tempfile::tempdir().unwrap();
    let open = |steps: Vec<M<'static>>| {
        let migrations = Migrations::new(steps);
        let builder = Pool::builder().database(directory.path().join("app.db"));
        builder.setup(move |connection| Ok(migrations.to_latest(connection)?)).open().unwrap()
    };
    let first = || M::up("CREATE TABLE task (title TEXT)");
    drop(open(vec![first()]));
    let pool = open(vec![first(), M::up("ALTER TABLE task ADD COLUMN done INTEGER")]);
    assert!(pool.read().unwrap().column_exists(None, "task", "done").unwrap());
}

#[test]
fn with_refinery() {
    let pool = testing::temporary_with(Pool::builder().setup(|connection| {
        embedded::migrations::runner().run(connection)?;
        Ok(())
    }))
    .unwrap();
    let reader = pool.read().unwrap();
    assert!(reader.column_exists(None, "task", "done").unwrap());
    let history = "SELECT count(*) FROM refinery_schema_history";
    assert_eq!(reader.query_one(history, [], |row| row.get::<_, i64>(0)).unwrap(), 2);
}

#[test]
fn an_error_of_its_own_comes_out() {
    let error =
        testing::temporary_with(Pool::builder().setup(|_| Err("version 9 is too new".into())));
    let error = error.unwrap_err();
    assert!(matches!(error, OpenError::Setup { .. }), "{error}");
    assert!(error.to_string().contains("version 9 is too new"), "{error}");
}

#[test]
fn a_transaction_left_open_is_an_error_and_not_lost_silently() {
    let result = testing::temporary_with(Pool::builder().setup(|connection| {
        connection.execute_batch("BEGIN; CREATE TABLE task (title TEXT)")?;
        Ok(())
    }));
    assert!(matches!(result, Err(OpenError::SetupLeftTransaction)));

    let result = testing::temporary_with(Pool::builder().on_connect(|connection, _| {
        connection.execute_batch("BEGIN")?;
        Ok(())
    }));
    assert!(matches!(result, Err(OpenError::Connect { .. })));
}
