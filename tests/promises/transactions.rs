//! A transaction is begun once, ended once, and its outcome is what the caller is told.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use tenure::rusqlite::{self, Connection};
use tenure::{BeginError, CommitError, Error, JournalMode, Pool};

use crate::recorded::Recorded;
use crate::until::until;

pub(crate) fn pool() -> Recorded {
    let pool = Recorded::with(Pool::builder().readers(1));
    pool.write().unwrap().execute_batch("CREATE TABLE task (title TEXT UNIQUE)").unwrap();
    pool
}

pub(crate) fn titles(pool: &Pool) -> String {
    let sql = "SELECT coalesce(group_concat(title, ' '), '') FROM (SELECT title FROM task ORDER BY rowid)";
    pool.read().unwrap().query_one(sql, [], |row| row.get(0)).unwrap()
}

pub(crate) fn insert(session: &tenure::Session, title: &str) -> rusqlite::Result<usize> {
    session.execute("INSERT INTO task VALUES (?1)", [title])
}

#[test]
fn commit_keeps_and_everything_else_does_not() {
    let pool = pool();
    let mut writer = pool.write().unwrap();
    let tx = writer.transaction().unwrap();
    insert(&tx, "committed").unwrap();
    tx.commit().unwrap();
    let tx = writer.transaction().unwrap();
    insert(&tx, "rolled-back").unwrap();
    tx.rollback().unwrap();
    let tx = writer.exclusive_transaction().unwrap();
    insert(&tx, "dropped").unwrap();
    drop(tx);
    drop(writer);
    assert_eq!(titles(&pool), "committed");
    assert_eq!(pool.transactions("immediate", "commit"), 1.0);
    assert_eq!(pool.transactions("immediate", "rollback"), 1.0);
    assert_eq!(pool.transactions("exclusive", "rollback"), 1.0);
}

#[test]
fn a_transaction_holds_the_write_lock_from_its_beginning() {
    let pool = pool();
    let mut writer = pool.write().unwrap();
    let tx = writer.transaction().unwrap();
    let path = tx.rusqlite().path().unwrap().to_owned();
    let outside = Connection::open(path).unwrap();
    outside.busy_timeout(Duration::ZERO).unwrap();
    let error = outside.execute_batch("BEGIN IMMEDIATE").unwrap_err();
    assert_eq!(error.sqlite_error_code(), Some(rusqlite::ErrorCode::DatabaseBusy));
    drop(tx);
    outside.execute_batch("BEGIN IMMEDIATE").unwrap();
}

#[test]
fn an_error_in_the_closure_rolls_back_and_comes_out_as_it_is() {
    let pool = pool();
    let result = pool.transaction(|tx| {
        insert(tx, "a")?;
        insert(tx, "a")?;
        Ok(())
    });
    let Err(Error::Sqlite(error)) = result else { panic!("{result:?}") };
    assert_eq!(error.sqlite_error_code(), Some(rusqlite::ErrorCode::ConstraintViolation));
    assert_eq!(titles(&pool), "");
}

#[test]
fn a_failed_rollback_does_not_hide_the_first_error() {
    let pool = pool();
    let result = pool.transaction(|tx| {
        insert(tx, "a")?;
        // From here on SQLite refuses ROLLBACK.
        tx.rusqlite().authorizer(Some(
            |context: rusqlite::hooks::AuthContext<'_>| match context.action {
                rusqlite::hooks::AuthAction::Transaction { .. } => {
                    rusqlite::hooks::Authorization::Deny
                }
                _ => rusqlite::hooks::Authorization::Allow,
            },
        ))?;
        Err::<(), _>(Error::other("the first error"))
    });
    assert_eq!(result.unwrap_err().to_string(), "the first error");
    assert_eq!(titles(&pool), "", "closing the connection has undone it");
    pool.transaction(|tx| Ok(insert(tx, "b")?)).unwrap();
    assert_eq!(titles(&pool), "b", "the pool goes on");
}

#[test]
fn a_panic_in_the_closure_rolls_back_and_gives_the_connection_back() {
    let pool = pool();
    let panicking = AssertUnwindSafe(|| {
        pool.transaction(|tx| -> Result<(), Error> {
            insert(tx, "a")?;
            std::panic::resume_unwind(Box::new("oh"));
        })
    });
    let panic = catch_unwind(panicking).unwrap_err();
    assert_eq!(panic.downcast_ref(), Some(&"oh"), "the panic is the closure's own");
    assert_eq!(pool.transactions("immediate", "panic"), 1.0);
    assert_eq!(pool.status().write.unwrap().held.len(), 0);
    pool.transaction(|tx| Ok(insert(tx, "b")?)).unwrap();
    assert_eq!(titles(&pool), "b");

    let panicking = AssertUnwindSafe(|| {
        pool.snapshot(|_| -> Result<(), Error> { std::panic::resume_unwind(Box::new("oh")) })
    });
    catch_unwind(panicking).unwrap_err();
    assert_eq!(pool.transactions("snapshot", "panic"), 1.0);
    assert!(pool.try_read().is_ok(), "the only reader came back");
}

#[test]
fn hooks_run_in_order_after_commit_and_never_after_rollback() {
    let pool = pool();
    let log = Rc::new(RefCell::new(Vec::new()));
    let hook = |what: &'static str| {
        let log = Rc::clone(&log);
        move || log.borrow_mut().push(what)
    };
    pool.transaction(|tx| {
        tx.on_commit(hook("first"));
        let mut kept = tx.savepoint()?;
        kept.on_commit(hook("in a savepoint"));
        let undone = kept.savepoint()?;
        undone.on_commit(hook("in a savepoint rolled back"));
        undone.rollback()?;
        kept.commit()?;
        tx.savepoint()?.on_commit(hook("in a savepoint dropped"));
        tx.on_commit(hook("last"));
        assert!(log.borrow().is_empty(), "not before COMMIT");
        Ok(())
    })
    .unwrap();
    assert_eq!(log.take(), ["first", "in a savepoint", "last"]);

    let _ = pool.transaction(|tx| {
        tx.on_commit(hook("after an error"));
        Err::<(), _>(Error::other("no"))
    });
    let mut writer = pool.write().unwrap();
    let tx = writer.transaction().unwrap();
    tx.on_commit(hook("after rollback"));
    tx.rollback().unwrap();
    let tx = writer.transaction().unwrap();
    tx.on_commit(hook("after drop"));
    drop(tx);
    let tx = writer.transaction().unwrap();
    tx.on_commit(hook("after a commit that failed"));
    tx.rusqlite().execute_batch("ROLLBACK").unwrap();
    tx.commit().unwrap_err();
    assert!(log.borrow().is_empty(), "{:?}", log.borrow());
}

#[test]
fn hooks_of_a_closure_run_when_the_writer_is_back() {
    let pool = pool();
    let other = pool.pool.clone();
    pool.transaction(|tx| {
        insert(tx, "a")?;
        tx.on_commit(move || {
            other.transaction(|tx| Ok(insert(tx, "from the hook")?)).unwrap();
        });
        Ok(())
    })
    .unwrap();
    assert_eq!(titles(&pool), "a from the hook");
}

#[test]
fn a_panic_in_a_hook_stops_neither_the_commit_nor_the_other_hooks() {
    let pool = pool();
    let ran = Rc::new(RefCell::new(false));
    let panicking = AssertUnwindSafe(|| {
        pool.transaction(|tx| {
            insert(tx, "a")?;
            tx.on_commit(|| std::panic::resume_unwind(Box::new("hook")));
            let ran = Rc::clone(&ran);
            tx.on_commit(move || *ran.borrow_mut() = true);
            Ok(())
        })
    });
    let panic = catch_unwind(panicking).unwrap_err();
    assert_eq!(panic.downcast_ref(), Some(&"hook"));
    assert!(*ran.borrow());
    assert_eq!(titles(&pool), "a");
    assert!(pool.try_write().is_ok());
}

#[test]
fn savepoints_nest_and_undo_only_their_own() {
    let pool = pool();
    pool.transaction(|tx| {
        insert(tx, "outer")?;
        let mut first = tx.savepoint()?;
        insert(&first, "first")?;
        let second = first.savepoint()?;
        insert(&second, "second")?;
        drop(second);
        insert(&first, "after-second")?;
        first.commit()?;
        let third = tx.savepoint()?;
        insert(&third, "third")?;
        third.rollback()?;
        insert(tx, "end")?;
        Ok(())
    })
    .unwrap();
    assert_eq!(titles(&pool), "outer first after-second end");
}

#[test]
fn a_commit_that_is_refused_gives_the_transaction_back() {
    let pool = pool();
    let mut writer = pool.write().unwrap();
    writer
        .execute_batch(
            "CREATE TABLE team (id INTEGER PRIMARY KEY);
             CREATE TABLE member (team REFERENCES team DEFERRABLE INITIALLY DEFERRED)",
        )
        .unwrap();
    let tx = writer.transaction().unwrap();
    tx.execute("INSERT INTO member VALUES (1)", []).unwrap();
    let refused = tx.try_commit().unwrap_err();
    assert!(matches!(refused.error(), CommitError::Refused { .. }), "{refused}");
    let tx = refused.into_transaction();
    tx.execute("INSERT INTO team VALUES (1)", []).unwrap();
    tx.commit().unwrap();

    let tx = writer.transaction().unwrap();
    tx.execute("INSERT INTO member VALUES (2)", []).unwrap();
    let error = tx.commit().unwrap_err();
    assert!(error.is_undone(), "{error}");
    let members: i64 =
        writer.query_one("SELECT count(*) FROM member", [], |row| row.get(0)).unwrap();
    assert_eq!(members, 1, "commit() rolls back what it could not commit");
}

#[test]
fn a_commit_that_meets_a_reader_waits_and_then_commits_without_the_body_again() {
    let builder = Pool::builder().journal_mode(JournalMode::Delete).readers(1);
    let pool = Recorded::with(builder);
    pool.write().unwrap().execute_batch("CREATE TABLE task (title TEXT)").unwrap();
    let path = pool.read().unwrap().rusqlite().path().unwrap().to_owned();
    let outside = Connection::open(path).unwrap();
    outside.execute_batch("BEGIN; SELECT * FROM task").unwrap();
    // The reader ends once the commit has been told to try again: no time is involved.
    let mut runs = 0;
    std::thread::scope(|scope| {
        let (begun, told) = std::sync::mpsc::channel();
        let pool = &pool;
        scope.spawn(move || {
            told.recv().unwrap();
            until("the commit met the reader", || {
                pool.value("tenure_busy_retries_total", &[("op", "commit")]) > 0.0
            });
            outside.execute_batch("COMMIT").unwrap();
        });
        pool.transaction(|tx| {
            runs += 1;
            tx.execute("INSERT INTO task VALUES ('a')", [])?;
            begun.send(()).unwrap();
            Ok(())
        })
        .unwrap();
    });
    assert_eq!(runs, 1);
    assert_eq!(titles(&pool), "a");
}

#[test]
fn a_commit_that_stays_busy_says_so_and_can_be_tried_again() {
    let builder = Pool::builder()
        .journal_mode(JournalMode::Delete)
        .busy_timeout(Duration::from_millis(5))
        .readers(1);
    let pool = Recorded::with(builder);
    pool.write().unwrap().execute_batch("CREATE TABLE task (title TEXT)").unwrap();
    let mut writer = pool.write().unwrap();
    let outside = Connection::open(writer.rusqlite().path().unwrap()).unwrap();
    outside.execute_batch("BEGIN; SELECT * FROM task").unwrap();

    let tx = writer.transaction().unwrap();
    tx.execute("INSERT INTO task VALUES ('a')", []).unwrap();
    let refused = tx.try_commit().unwrap_err();
    assert!(matches!(refused.error(), CommitError::Busy { .. }), "{refused}");
    assert_eq!(pool.value("tenure_busy_timeouts_total", &[("op", "commit")]), 1.0);
    outside.execute_batch("COMMIT").unwrap();
    refused.into_transaction().commit().unwrap();
    drop(writer);
    assert_eq!(titles(&pool), "a");
}

#[test]
fn what_sql_text_or_sqlite_ended_is_not_reported_as_committed() {
    let pool = pool();
    let mut writer = pool.write().unwrap();
    let tx = writer.transaction().unwrap();
    insert(&tx, "a").unwrap();
    tx.execute("INSERT OR ROLLBACK INTO task VALUES ('a')", []).unwrap_err();
    assert!(matches!(tx.commit(), Err(CommitError::NotOpen)));

    let mut tx = writer.transaction().unwrap();
    let savepoint = tx.savepoint().unwrap();
    savepoint.rusqlite().execute_batch("ROLLBACK").unwrap();
    savepoint.commit().unwrap_err();
    assert!(tx.savepoint().is_err(), "a savepoint would begin a transaction of its own");
    assert!(matches!(tx.commit(), Err(CommitError::NotOpen)));
    drop(writer);
    assert_eq!(titles(&pool), "");
    assert_eq!(pool.transactions("immediate", "error"), 2.0);
}

#[test]
fn work_that_was_kept_is_never_said_to_be_undone() {
    let pool = pool();
    // SQLite has ended the transaction, and what follows commits by itself: a prepared statement.
    let result = pool.transaction(|tx| {
        insert(tx, "a")?;
        let mut add = tx.prepare("INSERT INTO task VALUES ('b')")?;
        let _ = tx.execute("INSERT OR ROLLBACK INTO task VALUES ('a')", []);
        add.execute([])?;
        Ok(())
    });
    let Err(Error::Commit(error)) = result else { panic!("{result:?}") };
    assert!(!error.is_undone(), "{error}");
    assert_eq!(titles(&pool), "b");

    let result = pool.transaction(|tx| {
        insert(tx, "c")?;
        Ok(tx.rusqlite().execute_batch("COMMIT")?)
    });
    let Err(Error::Commit(error)) = result else { panic!("{result:?}") };
    assert!(!error.is_undone(), "{error}");
    assert_eq!(titles(&pool), "b c");

    // What runs after a commit can fail; the commit stands.
    fn failing<const CODE: i32>(_: &rusqlite::hooks::Wal, _: i32) -> rusqlite::Result<()> {
        Err(rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(CODE), None))
    }
    type Hook = fn(&rusqlite::hooks::Wal, i32) -> rusqlite::Result<()>;
    let hooks: [(&str, Hook); 4] = [
        ("error", failing::<{ rusqlite::ffi::SQLITE_ERROR }>),
        ("full", failing::<{ rusqlite::ffi::SQLITE_FULL }>),
        ("constraint", failing::<{ rusqlite::ffi::SQLITE_CONSTRAINT_UNIQUE }>),
        ("busy", failing::<{ rusqlite::ffi::SQLITE_BUSY }>),
    ];
    for (title, hook) in hooks {
        let result = pool.transaction(|tx| {
            tx.rusqlite().wal_hook(Some(hook));
            Ok(insert(tx, title)?)
        });
        let Err(Error::Commit(error)) = result else { panic!("{result:?}") };
        assert!(matches!(error, CommitError::Unknown { .. }), "{error}");
        assert!(!error.is_undone(), "{error}");
    }
    assert_eq!(titles(&pool), "b c error full constraint busy");
    let full = failing::<{ rusqlite::ffi::SQLITE_FULL }> as Hook;
    let on_connect = move |connection: &mut Connection, _| {
        connection.wal_hook(Some(full));
        Ok(())
    };
    let pool = Recorded::with(Pool::builder().readers(1).on_connect(on_connect));
    let _ = pool.write().unwrap().execute_batch("CREATE TABLE task (title TEXT UNIQUE)");
    for (number, title) in ["a", "b"].into_iter().enumerate() {
        let result = match number {
            0 => pool.transaction(|tx| Ok(insert(tx, title)?)),
            _ => pool.group_commit(move |tx| Ok(insert(tx, title)?)),
        };
        let Err(Error::Commit(error)) = result else { panic!("{result:?}") };
        assert!(!error.is_undone(), "{error}");
    }
    assert_eq!(titles(&pool), "a b");
}

#[test]
fn a_commit_that_fails_is_said_to_be_undone_only_where_that_is_certain() {
    let pool = pool();
    let result = pool.transaction(|tx| {
        insert(tx, "kept?")?;
        tx.rusqlite().commit_hook(Some(|| true))?;
        Ok(())
    });
    // It is undone, which cannot be told from a hook that has failed after the commit.
    assert!(matches!(result, Err(Error::Commit(CommitError::Unknown { .. }))), "{result:?}");
    let pool = Recorded::with(Pool::builder().readers(1).on_connect(|connection, _| {
        connection.execute_batch("ATTACH ':memory:' AS other")?;
        connection.commit_hook(Some(|| true))?;
        Ok(())
    }));
    let result = pool.transaction(|tx| Ok(tx.execute_batch("CREATE TABLE task (n)")?));
    assert!(matches!(result, Err(Error::Commit(CommitError::Refused { .. }))), "{result:?}");
}

#[test]
fn after_a_commit_that_failed_for_good_the_guard_can_be_used() {
    let pool = pool();
    let mut writer = pool.write().unwrap();
    insert(&writer, "a").unwrap();
    let tx = writer.transaction().unwrap();
    let _ = tx.execute("INSERT OR ROLLBACK INTO task VALUES ('a')", []);
    let error = tx.try_commit().map(drop).map_err(tenure::TryCommitError::into_error).unwrap_err();
    assert!(matches!(error, CommitError::NotOpen), "{error}");
    insert(&writer, "b").unwrap();
    let tx = writer.transaction().unwrap();
    insert(&tx, "c").unwrap();
    tx.commit().unwrap();
    drop(writer);
    assert_eq!(titles(&pool), "a b c");
}

#[test]
fn rows_that_were_forgotten_do_not_hold_the_commit_up() {
    let pool = pool();
    pool.transaction(|tx| {
        let mut insert = tx.prepare("INSERT INTO task VALUES ('a'), ('b') RETURNING title")?;
        let mut rows = insert.query([])?;
        rows.next()?;
        std::mem::forget(rows);
        std::mem::forget(insert);
        Ok(())
    })
    .unwrap();
    assert_eq!(titles(&pool), "a b");
    assert_eq!(pool.repairs("unfinished_statement"), 1.0);
    let forgets_blob = |tx: &tenure::Session| -> Result<(), Error> {
        std::mem::forget(tx.blob_open("main", "file", "bytes", 1, false)?);
        Ok(())
    };
    let file = "CREATE TABLE file (bytes BLOB); INSERT INTO file VALUES (x'01')";
    pool.write().unwrap().execute_batch(file).unwrap();
    pool.transaction(|tx| forgets_blob(tx)).unwrap();
    pool.group_commit(move |tx| forgets_blob(tx)).unwrap();
    assert_eq!(pool.repairs("unfinished_statement"), 3.0);
}

#[test]
fn of_sql_that_changes_no_rows_none_are_said_to_be_changed() {
    let pool = pool();
    let writer = pool.write().unwrap();
    assert_eq!(writer.execute("INSERT INTO task VALUES ('a'), ('b')", []).unwrap(), 2);
    assert_eq!(writer.execute("CREATE TABLE other (n)", []).unwrap(), 0);
    assert_eq!(writer.execute("DELETE FROM task", []).unwrap(), 2);
    assert_eq!(writer.execute("DELETE FROM task", []).unwrap(), 0);
}

#[test]
fn what_became_of_a_transaction_is_counted_as_it_was() {
    let builder = Pool::builder()
        .journal_mode(JournalMode::Truncate)
        .busy_timeout(Duration::from_millis(5))
        .readers(1);
    let pool = Recorded::with(builder);
    pool.write().unwrap().execute_batch("CREATE TABLE task (title TEXT)").unwrap();
    let mut reader = pool.read().unwrap();
    let snapshot = reader.snapshot().unwrap();
    let result = pool.transaction(|tx| Ok(tx.execute("INSERT INTO task VALUES ('a')", [])?));
    assert!(result.unwrap_err().is_overload());
    assert_eq!(pool.transactions("immediate", "busy"), 1.0);
    drop(snapshot);

    let mut writer = pool.write().unwrap();
    let tx = writer.exclusive_transaction().unwrap();
    let error = reader.snapshot().unwrap_err();
    assert!(matches!(error, BeginError::Busy { .. }), "{error}");
    assert_eq!(pool.transactions("snapshot", "busy"), 1.0);
    assert_eq!(pool.transactions("snapshot", "commit"), 1.0);
    tx.commit().unwrap();
    assert!(reader.snapshot().is_ok(), "the reader goes on");
}

#[test]
fn a_raw_begin_on_the_guard_is_named() {
    let pool = pool();
    let mut writer = pool.write().unwrap();
    writer.execute_batch("BEGIN").unwrap();
    assert!(matches!(writer.transaction(), Err(BeginError::AlreadyOpen)));
    assert!(matches!(writer.exclusive_transaction(), Err(BeginError::AlreadyOpen)));
    let mut reader = pool.read().unwrap();
    // Reading a pragma's text is all a reader can do here, but BEGIN is a statement like others.
    reader.prepare("BEGIN").unwrap().raw_execute().unwrap();
    assert!(matches!(reader.snapshot(), Err(BeginError::AlreadyOpen)));
}
