//! What the application has set up in `on_connect` stays, and nobody takes it away from the next holder.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use tenure::rusqlite::config::DbConfig;
use tenure::rusqlite::functions::FunctionFlags;
use tenure::rusqlite::hooks::{AuthContext, Authorization};
use tenure::rusqlite::limits::Limit;
use tenure::rusqlite::{Connection, ErrorCode};
use tenure::{Pool, Session};

use super::{pool_with, reasons};

#[test]
fn a_function_in_the_place_of_the_applications_own_is_not_inherited() {
    let flags = FunctionFlags::SQLITE_UTF8;
    let pool = pool_with(Pool::builder().on_connect(move |connection, _| {
        Ok(connection.create_scalar_function("whose", 0, flags, |_| Ok("everyone's"))?)
    }));
    let whose = || -> String {
        pool.write().unwrap().query_one("SELECT whose()", [], |row| row.get(0)).unwrap()
    };
    assert_eq!(whose(), "everyone's");
    let writer = pool.write().unwrap();
    writer.rusqlite().create_scalar_function("whose", 0, flags, |_| Ok("mine")).unwrap();
    drop(writer);
    assert_eq!(whose(), "everyone's");
    assert_eq!(reasons(&pool), ["raw"]);
}

#[test]
fn the_applications_authorizer_cannot_be_taken_away() {
    let pool = pool_with(Pool::builder().on_connect(|connection, _| {
        let no_drop = |context: AuthContext<'_>| match context.action {
            tenure::rusqlite::hooks::AuthAction::DropTable { .. } => Authorization::Deny,
            _ => Authorization::Allow,
        };
        Ok(connection.authorizer(Some(no_drop))?)
    }));
    let writer = pool.write().unwrap();
    writer.rusqlite().authorizer(None::<fn(AuthContext<'_>) -> Authorization>).unwrap();
    drop(writer);
    let error = pool.write().unwrap().execute("DROP TABLE task", []).unwrap_err();
    assert_eq!(error.sqlite_error_code(), Some(ErrorCode::AuthorizationForStatementDenied));
    assert_eq!(reasons(&pool), ["raw"]);
}

#[test]
fn hooks_of_on_connect_are_no_leak_and_outlive_raw_use() {
    let updates = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&updates);
    let pool = pool_with(Pool::builder().on_connect(move |connection, _| {
        let counted = Arc::clone(&counted);
        let count = move |_, _: &str, _: &str, _| {
            counted.fetch_add(1, Relaxed);
        };
        Ok(connection.update_hook(Some(count))?)
    }));
    let add = || pool.write().unwrap().execute("INSERT INTO task VALUES ('a')", []).unwrap();
    add();
    assert_eq!(updates.load(Relaxed), 1);
    pool.write().unwrap().rusqlite().query_row("SELECT 1", [], |_| Ok(())).unwrap();
    add();
    assert_eq!(updates.load(Relaxed), 2, "the hook is still there, on whichever connection");
    assert_eq!(reasons(&pool), ["raw"], "that it is the same could not be known");
}

#[test]
fn what_on_connect_set_up_is_no_leak() {
    let directory = tempfile::tempdir().unwrap();
    let other = directory.path().join("other.db");
    // It is not made by ATTACH: the pool's connections create no files.
    Connection::open(&other).unwrap().execute_batch("CREATE TABLE t (n)").unwrap();
    let pool = pool_with(Pool::builder().on_connect(move |connection, _| {
        connection.execute_batch(&format!(
            "ATTACH '{}' AS other; CREATE TEMP TABLE scratch (n); PRAGMA cache_size = 77;
             PRAGMA recursive_triggers = ON; PRAGMA case_sensitive_like = ON",
            other.display()
        ))?;
        let flags = FunctionFlags::SQLITE_UTF8;
        connection.create_scalar_function("one", 0, flags, |_| Ok(1))?;
        connection.create_collation("reverse", |a, b| b.cmp(a))?;
        connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, 1_000_000)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, false)?;
        Ok(())
    }));
    for _ in 0..3 {
        let writer = pool.write().unwrap();
        writer.execute_batch("PRAGMA recursive_triggers = ON").unwrap();
        writer.execute("CREATE TABLE IF NOT EXISTS t (n)", []).unwrap();
        drop(writer);
        pool.write().unwrap().rusqlite().query_row("SELECT one()", [], |_| Ok(())).unwrap();
        pool.read().unwrap().rusqlite().query_row("SELECT one()", [], |_| Ok(())).unwrap();
    }
    assert_eq!(reasons(&pool), [""; 0]);
    assert_eq!(pool.repairs("discarded"), 0.0);
}

#[test]
fn detaching_what_on_connect_attached_is_found() {
    let pool = pool_with(
        Pool::builder()
            .on_connect(|connection, _| Ok(connection.execute_batch("ATTACH ':memory:' AS m")?)),
    );
    pool.write().unwrap().execute("DETACH m", []).unwrap();
    assert_eq!(reasons(&pool), ["attached_database"]);
    let writer = pool.write().unwrap();
    writer.execute("CREATE TABLE m.t (n)", []).unwrap();
}

#[test]
fn settings_of_what_on_connect_attached_are_not_inherited() {
    let directory = tempfile::tempdir().unwrap();
    let other = directory.path().join("other.db");
    Connection::open(&other).unwrap().execute_batch("CREATE TABLE t (n)").unwrap();
    let attach = format!("ATTACH '{}' AS other", other.display());
    let pool = pool_with(
        Pool::builder().on_connect(move |connection, _| Ok(connection.execute_batch(&attach)?)),
    );
    let locking = |session: &Session| -> String {
        session.query_one("PRAGMA other.locking_mode", [], |row| row.get(0)).unwrap()
    };
    pool.write().unwrap().execute_batch("PRAGMA other.locking_mode = EXCLUSIVE").unwrap();
    assert_eq!(locking(&pool.write().unwrap()), "normal");
    assert_eq!(reasons(&pool), ["pragma"]);
}

#[test]
fn the_applications_profiler_goes_on() {
    static SEEN: AtomicUsize = AtomicUsize::new(0);
    let pool = pool_with(Pool::builder().on_connect(|connection, _| {
        #[expect(deprecated, reason = "it is there, and takes a place of its own")]
        connection.profile(Some(|_, _| {
            SEEN.fetch_add(1, Relaxed);
        }));
        Ok(())
    }));
    pool.write().unwrap().rusqlite().is_autocommit();
    let before = SEEN.load(Relaxed);
    pool.write().unwrap().query_one("SELECT 1", [], |row| row.get::<_, i64>(0)).unwrap();
    assert!(SEEN.load(Relaxed) > before, "it was taken away");
}

#[test]
fn an_attached_database_stays_read_only() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("other.db");
    Connection::open(&file).unwrap().execute_batch("CREATE TABLE t (n)").unwrap();
    let read_only = format!("ATTACH 'file:{}?mode=ro' AS other", file.display());
    let pool = pool_with(Pool::builder().on_connect(move |connection, _| {
        let flag = DbConfig::SQLITE_DBCONFIG_ENABLE_ATTACH_WRITE;
        connection.set_db_config(flag, true)?;
        Ok(connection.execute_batch(&read_only)?)
    }));
    let insert = "INSERT INTO other.t VALUES (1)";
    let writer = pool.write().unwrap();
    writer.execute(insert, []).unwrap_err();
    let again = format!("DETACH other; ATTACH '{}' AS other", file.display());
    writer.execute_batch(&again).unwrap();
    writer.execute(insert, []).unwrap();
    drop(writer);
    pool.write().unwrap().execute(insert, []).unwrap_err();
}
