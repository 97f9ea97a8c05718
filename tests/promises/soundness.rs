//! A check says what is wrong with the database, and changes nothing.

use std::time::Duration;

use tenure::rusqlite::config::DbConfig;
use tenure::{Pool, testing};

fn pool(builder: tenure::Builder) -> Pool {
    let pool = testing::temporary_with(builder.readers(1)).unwrap();
    pool.write()
        .unwrap()
        .execute_batch(
            "CREATE TABLE team (id INTEGER PRIMARY KEY);
             CREATE TABLE member (name TEXT, team REFERENCES team);
             CREATE INDEX by_name ON member (name);",
        )
        .unwrap();
    pool
}

#[test]
fn a_sound_database_is_sound() {
    let pool = pool(Pool::builder());
    let many = "WITH RECURSIVE i(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM i WHERE n < 50000)
                INSERT INTO member SELECT n, NULL FROM i";
    pool.write().unwrap().execute(many, []).unwrap();
    assert!(pool.check().unwrap().is_sound());
    // A limit for statements is not meant for the check, which takes longer.
    let limited = Pool::builder().statement_timeout(Duration::from_millis(1));
    let database = pool.config().database.clone().unwrap();
    let limited = limited.database(database).readers(1).open().unwrap();
    assert!(limited.check().unwrap().is_sound());
}

#[test]
fn rows_that_refer_to_nothing_are_named() {
    let pool = pool(Pool::builder().foreign_keys(false));
    pool.write().unwrap().execute("INSERT INTO member VALUES ('a', 7)", []).unwrap();
    let report = pool.check().unwrap();
    assert!(!report.is_sound() && report.problems.is_empty());
    let found = &report.foreign_keys[0];
    assert_eq!((&*found.table, found.rowid, &*found.parent), ("member", Some(1), "team"));
}

#[test]
fn an_index_that_lacks_an_entry_is_named_and_the_pool_goes_on() {
    let pool = pool(Pool::builder().defensive(false));
    let writer = pool.write().unwrap();
    writer.rusqlite().set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, false).unwrap();
    writer
        .execute_batch(
            "INSERT INTO member VALUES ('a', NULL);
             PRAGMA writable_schema = ON;
             UPDATE sqlite_schema SET sql = 'CREATE INDEX by_name ON member (team)'
             WHERE name = 'by_name';",
        )
        .unwrap();
    drop(writer);
    let fresh = pool.config().database.clone().unwrap();
    let again = Pool::builder().database(fresh).readers(1).open().unwrap();
    let report = again.check().unwrap();
    assert!(!report.problems.is_empty(), "{report:?}");
    assert!(again.read().is_ok());
}
