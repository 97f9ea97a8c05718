//! A query that is run at once is prepared once for each connection, and nothing of one run is left for
//! the next.

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};

use tenure::rusqlite::functions::FunctionFlags;
use tenure::{Pool, rusqlite};

use crate::recorded::Recorded;

fn pool(builder: tenure::Builder) -> Recorded {
    let pool = Recorded::with(builder.readers(1));
    let tables = "CREATE TABLE task (n INTEGER); INSERT INTO task VALUES (1)";
    pool.write().unwrap().execute_batch(tables).unwrap();
    pool
}

/// Hits and misses of the reader's cache.
fn requests(pool: &Recorded, role: &str) -> (f64, f64) {
    let value = |result| {
        let labels = [("role", role), ("result", result)];
        pool.value("tenure_statement_cache_requests_total", &labels)
    };
    (value("hit"), value("miss"))
}

fn first(row: &rusqlite::Row<'_>) -> rusqlite::Result<i64> {
    row.get(0)
}

#[test]
fn each_text_is_prepared_once() {
    let pool = pool(Pool::builder());
    for _ in 0..3 {
        let reader = pool.read().unwrap();
        reader.query_row("SELECT max(n) FROM task", [], first).unwrap();
        reader.query_one(" SELECT max(n) FROM task ", [], first).unwrap();
        let query = reader.query_row_and_then("SELECT 2", [], first).map_err(tenure::Error::from);
        assert_eq!(query.unwrap(), 2);
        drop(reader);
        pool.write().unwrap().execute("INSERT INTO task VALUES (?1)", [7]).unwrap();
    }
    assert_eq!((requests(&pool, "read"), requests(&pool, "write")), ((7.0, 2.0), (2.0, 1.0)));
}

#[test]
fn the_cache_can_be_none() {
    let pool = pool(Pool::builder().statement_cache(0));
    for _ in 0..3 {
        pool.read().unwrap().query_row("SELECT n FROM task", [], first).unwrap();
    }
    assert_eq!(requests(&pool, "read"), (0.0, 3.0));
}

#[test]
fn what_acts_when_it_is_prepared_or_is_long_is_prepared_each_time() {
    let pool = pool(Pool::builder());
    let long = format!("SELECT 1 -- {}", "x".repeat(5_000));
    for sql in ["PRAGMA cache_size", "SELECT 1;", "EXPLAIN SELECT 1", &long] {
        for _ in 0..2 {
            pool.read().unwrap().query_row(sql, [], |_| Ok(())).unwrap();
        }
    }
    assert_eq!(requests(&pool, "read"), (0.0, 0.0));
    // It acts when it is prepared: the second one as well.
    let writer = pool.write().unwrap();
    for on in [0, 1, 0, 1] {
        writer.execute(&format!("PRAGMA foreign_keys = {on}"), []).unwrap();
        let set: i64 = writer.pragma_query_value(None, "foreign_keys", first).unwrap();
        assert_eq!(set, on);
    }
}

#[test]
fn what_does_more_than_change_rows_is_judged_each_time_though_it_was_kept() {
    let pool = pool(Pool::builder());
    let mut writer = pool.write().unwrap();
    for sql in ["COMMIT", "ROLLBACK"] {
        drop(writer.prepare_cached(sql).unwrap());
        let tx = writer.transaction().unwrap();
        tx.execute("INSERT INTO task VALUES (2)", []).unwrap();
        for refused in [tx.prepare_cached(sql).map(drop), tx.execute(sql, []).map(drop)] {
            assert!(refused.unwrap_err().to_string().contains("begin or end a transaction"));
        }
        tx.rollback().unwrap();
    }
    drop(writer);
    assert_eq!(requests(&pool, "write"), (1.0, 3.0), "the INSERT is found, the others were kept");
}

#[test]
fn values_of_one_run_are_not_those_of_the_next() {
    let pool = pool(Pool::builder());
    let reader = pool.read().unwrap();
    assert_eq!(reader.query_row("SELECT ?1", [5], first).unwrap(), 5);
    let error = reader.query_row("SELECT ?1", [], first).unwrap_err();
    assert!(matches!(error, rusqlite::Error::InvalidParameterCount(0, 1)), "{error}");
}

#[test]
fn a_row_may_lead_to_the_same_query() {
    let pool = pool(Pool::builder());
    let reader = pool.read().unwrap();
    let sql = "SELECT ?1 + n FROM task";
    let sum = reader.query_row(sql, [1], |outer| {
        let inner = reader.query_row(sql, [10], first)?;
        Ok(outer.get::<_, i64>(0)? * inner)
    });
    assert_eq!(sum.unwrap(), 22);
    assert_eq!(reader.query_row(sql, [2], first).unwrap(), 3);
}

#[test]
fn one_that_ends_early_leaves_nothing_open() {
    let pool = pool(Pool::builder());
    let sql = "SELECT n FROM task UNION ALL SELECT 2";
    let reader = pool.read().unwrap();
    reader.query_row(sql, [], |row| row.get::<_, String>(0)).unwrap_err();
    assert!(!reader.is_busy(), "an error");
    let panics = || reader.query_row(sql, [], |_| -> rusqlite::Result<()> { panic!("on purpose") });
    catch_unwind(AssertUnwindSafe(panics)).unwrap_err();
    assert!(!reader.is_busy(), "a panic");
    reader.query_one(sql, [], first).unwrap_err();
    assert!(!reader.is_busy(), "more than one row");
    assert_eq!(reader.query_row(sql, [], first).unwrap(), 1);
    assert!(!reader.is_busy(), "the rows after the first");
}

#[test]
fn a_change_of_the_schema_is_seen() {
    let pool = pool(Pool::builder());
    let columns = || {
        let count = |row: &rusqlite::Row<'_>| Ok(row.as_ref().column_count());
        pool.read().unwrap().query_row("SELECT * FROM task", [], count).unwrap()
    };
    assert_eq!(columns(), 1);
    pool.write().unwrap().execute_batch("ALTER TABLE task ADD COLUMN title TEXT").unwrap();
    assert_eq!(columns(), 2);
}

#[test]
fn a_name_that_ends_in_a_space_of_another_kind_is_not_cut() {
    let pool = pool(Pool::builder());
    let tables = "CREATE TABLE task\u{a0} (n); INSERT INTO task\u{a0} VALUES (2)";
    pool.write().unwrap().execute_batch(tables).unwrap();
    let reader = pool.read().unwrap();
    for _ in 0..2 {
        assert_eq!(reader.query_row("SELECT n FROM task", [], first).unwrap(), 1);
        assert_eq!(reader.query_row("SELECT n FROM task\u{a0}", [], first).unwrap(), 2);
    }
}

#[test]
fn a_function_that_takes_the_place_of_another_is_called() {
    let pool = pool(Pool::builder());
    let writer = pool.write().unwrap();
    let sql = "SELECT max(1, 2)";
    assert_eq!(writer.query_row(sql, [], first).unwrap(), 2);
    let flags = FunctionFlags::SQLITE_UTF8;
    // SQLite's own takes any number of arguments.
    writer.rusqlite().create_scalar_function("max", 2, flags, |_| Ok(7)).unwrap();
    assert_eq!(writer.query_row(sql, [], first).unwrap(), 7);
    drop(writer);
    assert_eq!(pool.write().unwrap().query_row(sql, [], first).unwrap(), 2);
}

#[test]
fn statements_that_changed_hands_go_home() {
    let (one, other) = (pool(Pool::builder()), pool(Pool::builder()));
    let (reader, second) = (one.read().unwrap(), other.read().unwrap());
    let mut a = reader.prepare_cached("SELECT 'one', count(*) FROM task").unwrap();
    let mut b = second.prepare_cached("SELECT 'other', count(*) FROM task").unwrap();
    mem::swap(&mut a, &mut b);
    drop((a, b));
    for (reader, sql) in [
        (&reader, "SELECT 'one', count(*) FROM task"),
        (&second, "SELECT 'other', count(*) FROM task"),
    ] {
        assert_eq!(reader.query_row(sql, [], |row| row.get::<_, i64>(1)).unwrap(), 1);
    }
    drop((reader, second));
    assert_eq!((requests(&one, "read"), requests(&other, "read")), ((1.0, 1.0), (1.0, 1.0)));
}

#[test]
fn one_that_was_used_last_is_kept_longest() {
    let pool = pool(Pool::builder().statement_cache(1));
    let reader = pool.read().unwrap();
    drop(reader.prepare_cached("SELECT 1").unwrap());
    let mut used = reader.prepare_cached("SELECT 1").unwrap();
    for _ in 0..2 {
        assert!(reader.prepare_cached("SELECT 2").unwrap().exists([]).unwrap());
    }
    assert_eq!(requests(&pool, "read"), (2.0, 2.0), "pushed out by what came while it was used");
    assert!(used.exists([]).unwrap());
    drop(used);
    assert!(reader.prepare_cached("SELECT 1").unwrap().exists([]).unwrap());
    assert_eq!(requests(&pool, "read"), (3.0, 2.0), "and back");
    reader.prepare_cached("SELECT 2").unwrap().discard();
    assert!(reader.prepare_cached("SELECT 1").unwrap().exists([]).unwrap());
    assert_eq!(requests(&pool, "read"), (4.0, 3.0), "one that is not kept pushes nothing out");
}

#[test]
fn one_that_was_forgotten_is_replaced() {
    let pool = pool(Pool::builder());
    let reader = pool.read().unwrap();
    mem::forget(reader.prepare_cached("SELECT 1").unwrap());
    for _ in 0..2 {
        assert_eq!(reader.query_row("SELECT 1", [], first).unwrap(), 1);
    }
    assert_eq!(requests(&pool, "read"), (1.0, 2.0));
}

#[test]
fn values_that_were_bound_one_by_one_are_forgotten() {
    let pool = pool(Pool::builder());
    let reader = pool.read().unwrap();
    let mut statement = reader.prepare_cached("SELECT ?1").unwrap();
    statement.raw_bind_parameter(1, "a secret").unwrap();
    drop(statement);
    let mut statement = reader.prepare_cached("SELECT ?1").unwrap();
    let mut rows = statement.raw_query();
    assert_eq!(rows.next().unwrap().unwrap().get::<_, Option<String>>(0).unwrap(), None);
    drop(rows);
    drop(statement);
    assert_eq!(requests(&pool, "read"), (1.0, 1.0));
}

#[test]
fn one_that_is_discarded_and_a_text_without_one_are_not_kept() {
    let pool = pool(Pool::builder());
    let reader = pool.read().unwrap();
    for _ in 0..2 {
        reader.prepare_cached("SELECT 1").unwrap().discard();
        let mut nothing = reader.prepare_cached("-- nothing").unwrap();
        nothing.clear_bindings();
        assert_eq!(nothing.column_count(), 0);
    }
    assert_eq!(requests(&pool, "read"), (0.0, 4.0));
}

#[test]
fn rows_that_were_forgotten_are_not_in_the_way_of_the_next() {
    let pool = pool(Pool::builder());
    let reader = pool.read().unwrap();
    let sql = "SELECT n + ?1 FROM task UNION ALL SELECT 2";
    for _ in 0..2 {
        let mut statement = reader.prepare_cached(sql).unwrap();
        let mut rows = statement.query([1]).unwrap();
        rows.next().unwrap();
        mem::forget(rows);
        drop(statement);
        assert!(!reader.is_busy());
    }
    drop(reader);
    assert_eq!(requests(&pool, "read"), (1.0, 1.0));
    assert_eq!(
        pool.value("tenure_checkin_repairs_total", &[("reason", "unfinished_statement")]),
        0.0
    );
}

#[test]
fn one_that_was_forgotten_in_the_middle_of_its_rows_is_found_at_checkin() {
    let pool = pool(Pool::builder());
    let repairs =
        || pool.value("tenure_checkin_repairs_total", &[("reason", "unfinished_statement")]);
    let reader = pool.read().unwrap();
    // Without a snapshot, which would be found in any case.
    let mut statement = reader.prepare_cached("VALUES (1), (2)").unwrap();
    let mut rows = statement.query([]).unwrap();
    rows.next().unwrap();
    mem::forget(rows);
    mem::forget(statement);
    drop(reader);
    assert_eq!(repairs(), 1.0);
    let reader = pool.read().unwrap();
    assert!(!reader.is_busy());
    assert_eq!(reader.query_row("VALUES (1), (2)", [], first).unwrap(), 1);
    drop(reader);
    assert_eq!(repairs(), 1.0, "once");
}
