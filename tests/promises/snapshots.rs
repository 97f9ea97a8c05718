//! A snapshot is one state of the database, from the moment it is made until it ends.

use tenure::{Pool, testing};

fn pool() -> Pool {
    let pool = testing::temporary_with(Pool::builder().readers(2)).unwrap();
    pool.write().unwrap().execute_batch("CREATE TABLE task (title TEXT)").unwrap();
    pool
}

fn count(session: &tenure::ReadSession) -> i64 {
    session.query_one("SELECT count(*) FROM task", [], |row| row.get(0)).unwrap()
}

#[test]
fn a_snapshot_is_taken_when_it_is_made_and_not_at_the_first_query() {
    let pool = pool();
    let mut reader = pool.read().unwrap();
    let snapshot = reader.snapshot().unwrap();
    pool.write().unwrap().execute("INSERT INTO task VALUES ('later')", []).unwrap();
    assert_eq!(count(&snapshot), 0);
    assert_eq!(count(&pool.read().unwrap()), 1, "others see it at once");
    drop(snapshot);
    assert_eq!(count(&reader), 1, "the guard sees it afterwards");
}

#[test]
fn a_snapshot_that_ended_pins_nothing() {
    let pool = pool();
    pool.snapshot(|snapshot| Ok(count(snapshot))).unwrap();
    let writer = pool.write().unwrap();
    writer.execute("INSERT INTO task VALUES ('a')", []).unwrap();
    let busy: i64 =
        writer.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0)).unwrap();
    assert_eq!(busy, 0);
}

#[test]
fn a_snapshot_of_an_empty_database_works() {
    let pool = testing::temporary().unwrap();
    let tables: i64 = pool
        .snapshot(|snapshot| {
            Ok(snapshot.query_one("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?)
        })
        .unwrap();
    assert_eq!(tables, 0);
}
