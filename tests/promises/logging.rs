//! What goes wrong is said in the log, with the thread and the place of the checkout, at a bounded
//! rate and without any value of the application's.

use std::panic::Location;
use std::thread;
use std::time::Duration;

use tenure::rusqlite::Connection;
use tenure::{Pool, testing};
use tracing::Level;

use crate::logged::{Entry, logged, warnings_of_all_threads};
use crate::until::until;

#[track_caller]
fn line_before() -> String {
    let here = Location::caller();
    format!("{}:{}:", here.file(), here.line() - 1)
}

fn only<'e>(entries: &'e [Entry], message: &str) -> &'e Entry {
    let found: Vec<_> = entries.iter().filter(|e| e.message().contains(message)).collect();
    assert_eq!(found.len(), 1, "`{message}` in {entries:#?}");
    found[0]
}

fn assert_says_who_and_where(entry: &Entry, pool: &Pool, role: &str, place: &str) {
    assert_eq!(entry.level, Level::WARN);
    assert_eq!((entry.field("pool"), entry.field("role")), (pool.name(), role));
    assert_eq!(entry.field("thread"), thread::current().name().unwrap());
    assert!(entry.field("place").starts_with(place), "{place}: {entry:?}");
}

#[test]
fn a_repair() {
    let pool = testing::temporary().unwrap();
    let (place, entries) = logged(|| {
        let writer = pool.write().unwrap();
        let place = line_before();
        writer.execute_batch("BEGIN").unwrap();
        place
    });
    let entry = only(&entries, "a connection came back with a transaction open");
    assert_says_who_and_where(entry, &pool, "write", &place);
}

#[test]
fn a_discard() {
    let pool = testing::temporary().unwrap();
    let (place, entries) = logged(|| {
        let reader = pool.read().unwrap();
        let place = line_before();
        reader.prepare("PRAGMA cache_size = 7").unwrap().exists([]).unwrap();
        place
    });
    let entry = only(&entries, "a connection came back with a PRAGMA changed");
    assert_says_who_and_where(entry, &pool, "read", &place);
    let entry = only(&entries, "a connection is closed and opened again");
    assert_says_who_and_where(entry, &pool, "read", &place);
}

#[test]
fn the_place_where_it_was_attached() {
    let pool = testing::temporary().unwrap();
    let (place, entries) = logged(|| {
        let detached = pool.write().unwrap().detach();
        let writer = detached.attach();
        let place = line_before();
        writer.execute_batch("BEGIN").unwrap();
        place
    });
    assert_says_who_and_where(only(&entries, "a transaction open"), &pool, "write", &place);
}

#[test]
fn a_busy_timeout() {
    let limit = Duration::from_millis(5);
    let pool = testing::temporary_with(Pool::builder().busy_timeout(limit)).unwrap();
    let outside = Connection::open(pool.read().unwrap().rusqlite().path().unwrap()).unwrap();
    outside.execute_batch("BEGIN IMMEDIATE").unwrap();
    let (place, entries) = logged(|| {
        let mut writer = pool.write().unwrap();
        let place = line_before();
        writer.transaction().unwrap_err();
        place
    });
    let entry = only(&entries, "kept the database locked until the time was up");
    assert_says_who_and_where(entry, &pool, "write", &place);
    assert_eq!((entry.field("operation"), entry.field("limit")), ("begin", "5ms"));

    // Met by a statement that the application runs by itself: said at check-in.
    let (_, entries) = logged(|| {
        let writer = pool.write().unwrap();
        let mut statement = writer.prepare("CREATE TABLE t (n)").unwrap();
        statement.execute([]).unwrap_err();
    });
    let entry = only(&entries, "kept the database locked until the time was up");
    assert_eq!(entry.field("operation"), "write");
}

#[test]
fn a_slow_checkout() {
    let slow = Duration::from_millis(1);
    let pool = testing::temporary_with(Pool::builder().slow_checkout_after(slow)).unwrap();
    let (_, entries) = logged(|| drop(pool.write().unwrap()));
    assert!(entries.is_empty(), "who does not wait is not slow: {entries:?}");

    let _held = pool.write_owned().unwrap().detach();
    let (place, entries) = logged(|| {
        pool.write_timeout(Duration::from_millis(2)).unwrap_err();
        line_before()
    });
    let entry = only(&entries, "a checkout waited long for its turn");
    assert_says_who_and_where(entry, &pool, "write", &place);
    assert!(!entry.field("waited").is_empty());
}

#[test]
fn a_long_hold_once() {
    warnings_of_all_threads();
    let long = Duration::from_millis(1);
    let builder = Pool::builder().long_held_after(long).name("held for long");
    let pool = testing::temporary_with(builder).unwrap();
    let held = pool.write().unwrap();
    let place = line_before();
    let said = || -> Vec<_> {
        let all = warnings_of_all_threads().into_iter();
        all.filter(|entry| entry.field("pool") == "held for long").collect()
    };
    until("it is said", || !said().is_empty());
    let entries = said();
    let entry = only(&entries, "held for longer than `long_held_after`");
    assert_says_who_and_where(entry, &pool, "write", &place);
    // A later look, which finds another one, says nothing new of the first.
    let _other = pool.read().unwrap();
    until("the other is said", || said().len() > 1);
    let entries = said();
    assert_eq!((entries.len(), entries[1].field("role")), (2, "read"), "{entries:?}");
    drop(held);
}

#[test]
fn at_a_bounded_rate_and_without_values() {
    let pool = testing::temporary().unwrap();
    let (_, entries) = logged(|| {
        for n in 0..1000 {
            let writer = pool.write().unwrap();
            writer.execute("BEGIN", []).unwrap();
            let _ = writer.execute("INSERT INTO secret VALUES (?1, 'hunter2')", [n]);
        }
    });
    let said = entries.iter().filter(|e| e.message().contains("a transaction open")).count();
    assert!((1..=20).contains(&said), "said {said} times");
    assert!(!format!("{entries:?}").contains("hunter2"));
}

#[test]
fn a_page_cache_that_all_connections_share() {
    let open = |readers| logged(|| testing::temporary_with(Pool::builder().readers(readers)));
    let (pool, entries) = open(2);
    let sql = "SELECT count(*) FROM pragma_compile_options WHERE compile_options = 'ENABLE_MEMORY_MANAGEMENT'";
    let pool = pool.unwrap();
    if !pool.read().unwrap().query_one(sql, [], |row| row.get::<_, bool>(0)).unwrap() {
        assert!(entries.iter().all(|entry| !entry.message().contains("page cache")));
        return;
    }
    let entry = only(&entries, "take turns at one page cache");
    assert_eq!((entry.level, entry.field("pool")), (Level::INFO, pool.name()));
    assert!(entry.message().contains("LIBSQLITE3_FLAGS"), "{entry:?}");
    let (_pool, entries) = open(1);
    assert!(entries.iter().all(|entry| !entry.message().contains("page cache")), "one reader");
}
