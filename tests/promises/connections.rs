//! Every connection is made alike, the ones opened later too.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tenure::rusqlite::functions::FunctionFlags;
use tenure::rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use tenure::{Pool, ReadSession, Role, Synchronous, WriteGuard, testing};

use crate::until::until;

fn pragma(session: &ReadSession, name: &str) -> i64 {
    session.pragma_query_value(None, name, |row| row.get(0)).unwrap()
}

/// Every pragma that the defaults promise.
fn assert_configured(session: &ReadSession, role: Role) {
    let mode: String = session.pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
    assert_eq!(mode, "wal");
    let expected = [
        ("synchronous", 2),
        ("foreign_keys", 1),
        ("trusted_schema", 0),
        ("cell_size_check", 1),
        ("cache_size", -2000),
        ("mmap_size", 0),
        ("query_only", i64::from(role == Role::Read)),
    ];
    for (name, value) in expected {
        assert_eq!(pragma(session, name), value, "{role} {name}");
    }
    // Shadow tables and the schema itself are what DEFENSIVE protects.
    let defensive =
        session.rusqlite().db_config(tenure::rusqlite::config::DbConfig::SQLITE_DBCONFIG_DEFENSIVE);
    assert!(defensive.unwrap(), "{role}");
    // Loading code into the process needs to be asked for.
    let loads = session
        .prepare("SELECT load_extension('libnothing')")
        .and_then(|mut statement| statement.query_row([], |_| Ok(())));
    assert!(loads.is_err());
}

/// Leaves the connection in a state that only closing it can mend.
fn spoil(guard: &WriteGuard<'_>) {
    guard.execute_batch("BEGIN").unwrap();
    let no_rollback = |context: AuthContext<'_>| match context.action {
        AuthAction::Transaction { .. } => Authorization::Deny,
        _ => Authorization::Allow,
    };
    guard.rusqlite().authorizer(Some(no_rollback)).unwrap();
}

#[test]
fn all_have_the_settings_and_what_on_connect_gives() {
    let connects = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connects);
    let pool =
        testing::temporary_with(Pool::builder().readers(3).on_connect(move |connection, role| {
            counted.fetch_add(1, Ordering::Relaxed);
            let name = role.name();
            connection.create_scalar_function(
                "role",
                0,
                FunctionFlags::SQLITE_UTF8,
                move |_| Ok(name),
            )?;
            Ok(())
        }))
        .unwrap();
    let readers: Vec<_> = (0..3).map(|_| pool.read().unwrap()).collect();
    for reader in &readers {
        assert_configured(reader, Role::Read);
        assert_eq!(
            reader.query_one("SELECT role()", [], |r| r.get::<_, String>(0)).unwrap(),
            "read"
        );
    }
    let writer = pool.write().unwrap();
    assert_configured(&writer, Role::Write);

    let before = connects.load(Ordering::Relaxed);
    spoil(&writer);
    drop(writer);
    let writer = pool.write().unwrap();
    assert_configured(&writer, Role::Write);
    assert_eq!(writer.query_one("SELECT role()", [], |r| r.get::<_, String>(0)).unwrap(), "write");
    assert_eq!(connects.load(Ordering::Relaxed), before + 1, "it is a new one");
}

#[test]
fn a_connection_closed_for_a_fault_is_opened_again_without_being_asked_for() {
    let pool = testing::temporary().unwrap();
    let writer = pool.write().unwrap();
    spoil(&writer);
    drop(writer);
    until("it was opened again", || pool.status().write.unwrap().idle == 1);
    assert!(pool.try_write().is_ok());
}

#[test]
fn each_setting_can_be_switched() {
    let pool = testing::temporary_with(
        Pool::builder()
            .synchronous(Synchronous::Off)
            .foreign_keys(false)
            .trusted_schema(true)
            .defensive(false)
            .cell_size_check(false)
            .cache_size_kib(512)
            .mmap_size_mib(1),
    )
    .unwrap();
    let expected = [
        ("synchronous", 0),
        ("foreign_keys", 0),
        ("trusted_schema", 1),
        ("cell_size_check", 0),
        ("cache_size", -512),
        ("mmap_size", 1 << 20),
    ];
    let (reader, writer) = (pool.read().unwrap(), pool.write().unwrap());
    for (name, value) in expected {
        assert_eq!(pragma(&reader, name), value, "reader {name}");
        assert_eq!(pragma(&writer, name), value, "writer {name}");
    }
    let defensive = tenure::rusqlite::config::DbConfig::SQLITE_DBCONFIG_DEFENSIVE;
    assert!(!writer.rusqlite().db_config(defensive).unwrap());
}

#[test]
fn what_the_pool_is_set_to_holds_whatever_on_connect_does() {
    let seen = Arc::new(AtomicUsize::new(0));
    let looked = Arc::clone(&seen);
    let pool = testing::temporary_with(Pool::builder().on_connect(move |connection, _| {
        // The first one sees the file before anything was read from it.
        let mode: String = connection.pragma_query_value(None, "journal_mode", |r| r.get(0))?;
        looked.fetch_add(usize::from(mode == "delete"), Ordering::Relaxed);
        connection.execute_batch(
            "ATTACH ':memory:' AS scratch; PRAGMA cache_size = 5; PRAGMA foreign_keys = OFF;",
        )?;
        Ok(())
    }))
    .unwrap();
    assert_eq!(seen.load(Ordering::Relaxed), 1);
    assert_configured(&pool.read().unwrap(), Role::Read);
    let writer = pool.write().unwrap();
    assert_configured(&writer, Role::Write);
    writer.execute_batch("CREATE TABLE scratch.note (n)").unwrap();
}

#[test]
fn a_reader_cannot_write() {
    let pool = testing::temporary().unwrap();
    pool.write().unwrap().execute_batch("CREATE TABLE task (title TEXT)").unwrap();
    let reader = pool.read().unwrap();
    let error = reader.prepare("DELETE FROM task").unwrap().execute([]).unwrap_err();
    assert_eq!(error.sqlite_error_code(), Some(tenure::rusqlite::ErrorCode::ReadOnly));
}

#[test]
fn a_reader_sees_a_table_that_was_made_after_it_was_opened() {
    let pool = testing::temporary_with(Pool::builder().readers(1)).unwrap();
    let exists = || pool.read().unwrap().table_exists(None, "task").unwrap();
    assert!(!exists());
    pool.write().unwrap().execute_batch("CREATE TABLE task (title TEXT)").unwrap();
    assert!(exists());
    let reader = pool.read().unwrap();
    assert!(reader.column_exists(None, "task", "title").unwrap());
    assert!(reader.column_metadata(None, "task", "title").is_ok());
}

#[test]
fn connections_idle_too_long_are_closed_but_for_one() {
    let builder = Pool::builder().readers(3).idle_limit(std::time::Duration::from_secs(1));
    let pool = testing::temporary_with(builder).unwrap();
    assert_eq!(pool.status().read.open, 3);
    until("the idle ones were closed", || pool.status().read.open == 1);
    assert_eq!(pool.status().write.unwrap().open, 1);
    let guards: Vec<_> = (0..3).map(|_| pool.read().unwrap()).collect();
    assert_eq!((guards.len(), pool.status().read.open), (3, 3), "opened again when needed");
}
