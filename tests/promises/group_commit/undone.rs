//! What becomes of the others when SQLite, or a closure, ends the whole transaction.

use std::time::Duration;

use tenure::{CommitError, Error, Pool, Savepoint, rusqlite};

use super::{
    Gathered, LONG, batches, builder, ended, insert, is_aborted, panic, panics_with, pool, titles,
    writes,
};
use crate::recorded::Recorded;

/// Loses the transaction, and returns SQLite's error.
type Culprit = fn(&mut Savepoint<'_>) -> Result<&'static str, Error>;

fn on_conflict_rollback(tx: &mut Savepoint<'_>) -> Result<&'static str, Error> {
    insert(tx, "half")?;
    tx.execute("INSERT OR ROLLBACK INTO task VALUES ('half')", [])?;
    Ok("not reached")
}

fn raise_rollback(tx: &mut Savepoint<'_>) -> Result<&'static str, Error> {
    tx.execute("INSERT INTO refused VALUES (1)", [])?;
    Ok("not reached")
}

/// Two closures before the culprit, one after it.
fn batch_with(
    pool: &Recorded,
    culprit: Culprit,
) -> [std::thread::Result<Result<&'static str, Error>>; 4] {
    let gathered = Gathered::on(pool);
    let callers = [
        gathered.caller(writes("a")),
        gathered.caller(|tx| {
            insert(tx, "b")?;
            Err(Error::other("b's own"))
        }),
        gathered.caller(culprit),
        gathered.caller(writes("after")),
    ];
    gathered.go();
    callers.map(std::thread::JoinHandle::join)
}

#[test]
fn the_others_are_told_that_they_are_undone_and_who_was_not_begun_runs_in_the_next_batch() {
    let raise = "CREATE TABLE refused (n); CREATE TRIGGER never BEFORE INSERT ON refused
                 BEGIN SELECT raise(ROLLBACK, 'never'); END";
    for culprit in [on_conflict_rollback as Culprit, raise_rollback] {
        let pool = pool();
        pool.write().unwrap().execute_batch(raise).unwrap();
        let [a, b, lost, after] = batch_with(&pool, culprit).map(Result::unwrap);
        assert!(is_aborted(&a), "{a:?}");
        let text = a.unwrap_err().to_string();
        assert!(text.contains("another closure") && text.contains("run the work again"), "{text}");
        assert!(is_aborted(&b), "its own error may rest on what was undone: {b:?}");
        let Err(Error::Sqlite(error)) = lost else { panic!("{lost:?}") };
        assert_eq!(error.sqlite_error_code(), Some(rusqlite::ErrorCode::ConstraintViolation));
        assert_eq!(after.unwrap(), "after");
        assert_eq!(titles(&pool), "after", "nothing half is in the file");
        assert_eq!(batches(&pool), (2.0, 4.0));
        let outcomes = ["commit", "rollback", "panic", "aborted", "error", "not_begun"];
        assert_eq!(outcomes.map(|outcome| ended(&pool, outcome)), [1.0, 0.0, 0.0, 2.0, 1.0, 0.0]);
    }
}

#[test]
fn a_culprit_that_says_all_is_well_is_told_otherwise_and_a_panic_goes_on() {
    let pool = pool();
    let [a, b, lost, after] = batch_with(&pool, |tx| {
        on_conflict_rollback(tx).unwrap_err();
        // It does not notice: nothing more is run, by the session.
        insert(tx, "half").unwrap_err();
        tx.execute_batch("INSERT INTO task VALUES ('half')").unwrap_err();
        tx.savepoint().unwrap_err();
        Ok("all is well")
    })
    .map(Result::unwrap);
    assert!(is_aborted(&a) && is_aborted(&b));
    assert!(matches!(lost, Err(Error::Commit(CommitError::NotOpen))), "{lost:?}");
    after.unwrap();

    let [a, b, lost, after] = batch_with(&pool, |tx| {
        on_conflict_rollback(tx).unwrap_err();
        panic("oh")
    });
    assert!(is_aborted(&a.unwrap()) && is_aborted(&b.unwrap()));
    assert_eq!(panics_with(lost), "oh");
    // The title is there already.
    assert!(matches!(after.unwrap(), Err(Error::Sqlite(_))));
    assert_eq!(titles(&pool), "after");
    assert_eq!((ended(&pool, "panic"), ended(&pool, "error")), (1.0, 1.0));
}

#[test]
fn a_full_disk_ends_the_batch_and_leaves_nothing_half() {
    let pool = Recorded::with(builder().on_connect(|connection, _| {
        connection.pragma_update(None, "max_page_count", 40)?;
        Ok(())
    }));
    let [a, b, lost, after] = batch_with(&pool, |tx| {
        insert(tx, "half")?;
        for n in 0..1000 {
            tx.execute("INSERT INTO task VALUES (?1 || hex(zeroblob(2000)))", [n])?;
        }
        Ok("not reached")
    })
    .map(Result::unwrap);
    let Err(Error::Sqlite(error)) = lost else { panic!("{lost:?}") };
    assert_eq!(error.sqlite_error_code(), Some(rusqlite::ErrorCode::DiskFull));
    // SQLite undoes the statement alone, or the whole transaction: then the others know.
    match a {
        Ok(_) => assert!(matches!(b, Err(Error::Other(_))), "{b:?}"),
        Err(_) => assert!(is_aborted(&a) && is_aborted(&b), "{a:?} {b:?}"),
    }
    let kept = if a.is_ok() { "a after" } else { "after" };
    assert_eq!(after.unwrap(), "after");
    assert_eq!(titles(&pool), kept);
}

#[test]
fn a_statement_that_takes_too_long_ends_the_batch_and_a_query_only_its_closure() {
    const ENDLESS: &str = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) ";
    let pool = Recorded::with(builder().statement_timeout(Duration::from_millis(200)));
    let [a, b, lost, after] = batch_with(&pool, |tx| {
        insert(tx, "undone")?;
        let sql = format!("{ENDLESS} SELECT count(*) FROM n");
        tx.query_one(&sql, [], |row| row.get::<_, i64>(0))?;
        Ok("not reached")
    })
    .map(Result::unwrap);
    assert!(a.is_ok() && after.is_ok(), "{a:?} {after:?}");
    assert!(matches!(b, Err(Error::Other(_))), "{b:?}");
    let Err(Error::Sqlite(error)) = lost else { panic!("{lost:?}") };
    assert_eq!(error.sqlite_error_code(), Some(rusqlite::ErrorCode::OperationInterrupted));
    assert_eq!(titles(&pool), "a after");
    assert_eq!(batches(&pool), (1.0, 4.0));

    pool.write().unwrap().execute("DELETE FROM task", []).unwrap();
    let [a, b, lost, after] = batch_with(&pool, |tx| {
        let sql = format!("{ENDLESS} INSERT INTO task SELECT i % 10 FROM n WHERE i < 0");
        tx.execute(&sql, [])?;
        Ok("not reached")
    })
    .map(Result::unwrap);
    assert!(is_aborted(&a) && is_aborted(&b), "{a:?} {b:?}");
    let Err(Error::Sqlite(error)) = lost else { panic!("{lost:?}") };
    assert_eq!(error.sqlite_error_code(), Some(rusqlite::ErrorCode::OperationInterrupted));
    assert_eq!((after.unwrap(), titles(&pool)), ("after", "after".to_owned()));
}

#[test]
fn a_foreign_key_that_is_checked_at_commit_fails_for_its_closure_alone() {
    let pool = pool();
    let tables = "CREATE TABLE team (id INTEGER PRIMARY KEY);
                  CREATE TABLE member (team REFERENCES team DEFERRABLE INITIALLY DEFERRED)";
    pool.write().unwrap().execute_batch(tables).unwrap();
    let gathered = Gathered::on(&pool);
    let before = gathered.caller(writes("a"));
    let violates = gathered.caller(|tx| {
        insert(tx, "undone")?;
        Ok(tx.execute("INSERT INTO member VALUES (1)", [])?)
    });
    let mends = gathered.caller(|tx| {
        tx.execute("INSERT INTO member VALUES (2)", [])?;
        Ok(tx.execute("INSERT INTO team VALUES (2)", [])?)
    });
    gathered.go();
    before.join().unwrap().unwrap();
    let error = violates.join().unwrap().unwrap_err();
    let Error::Commit(CommitError::Refused { source, .. }) = &error else { panic!("{error}") };
    assert_eq!(source.sqlite_error_code(), Some(rusqlite::ErrorCode::ConstraintViolation));
    assert!(error.to_string().contains("FOREIGN KEY constraint failed"), "{error}");
    mends.join().unwrap().unwrap();
    assert_eq!(titles(&pool), "a");
    assert_eq!(batches(&pool), (1.0, 3.0));
    let count = "SELECT (SELECT count(*) FROM team) || (SELECT count(*) FROM member)";
    assert_eq!(
        pool.read().unwrap().query_one(count, [], |row| row.get::<_, String>(0)).unwrap(),
        "11"
    );
}

#[test]
fn who_commits_through_the_connection_itself_leaves_the_others_in_doubt() {
    for raw in ["COMMIT", "COMMIT; BEGIN", "ROLLBACK", "ROLLBACK; BEGIN"] {
        let pool = pool();
        let gathered = Gathered::on(&pool);
        let before = gathered.caller(writes("a"));
        let culprit = gathered.caller(move |tx| Ok(tx.rusqlite().execute_batch(raw)?));
        let after = gathered.caller(writes("after"));
        gathered.go();
        for result in [before.join().unwrap().map(drop), culprit.join().unwrap()] {
            let Err(Error::Commit(error)) = result else { panic!("{raw}: {result:?}") };
            assert!(matches!(error, CommitError::NotOpen), "{raw}: {error}");
            assert!(!error.is_undone(), "{raw}");
        }
        after.join().unwrap().unwrap();
        let kept = if raw.starts_with("COMMIT") { "a after" } else { "after" };
        assert_eq!(titles(&pool), kept, "{raw}");
    }
}

#[test]
fn the_first_that_fails_has_a_transaction_to_itself_and_the_others_share_the_next() {
    let pool = pool();
    let gathered = Gathered::on(&pool);
    let fails = gathered.caller(|tx| {
        insert(tx, "undone")?;
        tx.on_commit(|| unreachable!("nothing was committed"));
        Err::<(), _>(Error::other("its own"))
    });
    let others = [gathered.caller(writes("a")), gathered.caller(writes("b"))];
    gathered.go();
    assert_eq!(fails.join().unwrap().unwrap_err().to_string(), "its own");
    for other in others {
        other.join().unwrap().unwrap();
    }
    assert_eq!(titles(&pool), "a b");
    assert_eq!(batches(&pool), (2.0, 3.0));
    for outcome in ["rollback", "commit"] {
        assert_eq!(pool.transactions("group", outcome), 1.0, "{outcome}");
    }
}

#[test]
fn a_savepoint_of_the_batch_released_by_its_name_undoes_the_batch() {
    let pool = pool();
    let [a, _, culprit, after] = batch_with(&pool, |tx| {
        insert(tx, "half")?;
        tx.execute_batch("RELEASE tenure_1")?;
        Ok("all is well")
    })
    .map(Result::unwrap);
    assert!(is_aborted(&a), "{a:?}");
    culprit.unwrap_err();
    after.unwrap();
    assert_eq!(titles(&pool), "after");
}

#[test]
fn when_commit_itself_fails_everybody_is_told() {
    let pool = Recorded::with(
        builder().journal_mode(tenure::JournalMode::Delete).busy_timeout(Duration::from_millis(20)),
    );
    let path = pool.config().database.clone().unwrap();
    let outside = rusqlite::Connection::open(path).unwrap();
    let mut reading = outside.prepare("SELECT count(*) FROM task, sqlite_schema").unwrap();
    let gathered = Gathered::on(&pool);
    let first = gathered.caller(writes("a"));
    let failing = gathered.caller(|_| Err::<&str, _>(Error::other("its own")));
    let panicking = gathered.caller(|_| -> Result<(), Error> { panic("oh") });
    outside.execute_batch("BEGIN").unwrap();
    reading.query_row([], |row| row.get::<_, i64>(0)).unwrap();
    gathered.go();
    for result in [first.join().unwrap(), failing.join().unwrap()] {
        let Err(Error::Commit(error @ CommitError::Busy { .. })) = result else {
            panic!("{result:?}")
        };
        assert!(error.is_undone());
    }
    assert_eq!(panics_with(panicking.join()), "oh");
    outside.execute_batch("COMMIT").unwrap();
    assert_eq!(titles(&pool), "");
    assert_eq!((ended(&pool, "aborted"), ended(&pool, "panic")), (2.0, 1.0));
    assert_eq!(pool.transactions("group", "busy"), 1.0);
}

/// A pool whose recorder panics, once, when it is told of `metric`, and what became of two callers
/// of one batch, of which the first leads.
fn two_beside_a_recorder_that_panics(
    metric: &'static str,
) -> (Pool, [super::Outcome<&'static str>; 2]) {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use metrics::{
        Counter, CounterFn, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder,
        SharedString, Unit,
    };

    #[derive(Clone)]
    struct Panics(Arc<AtomicBool>, &'static str);
    impl Panics {
        fn told(&self) {
            if self.0.swap(false, Ordering::Relaxed) {
                panic("recorder");
            }
        }
    }
    impl CounterFn for Panics {
        fn increment(&self, _: u64) {
            self.told();
        }
        fn absolute(&self, _: u64) {}
    }
    impl HistogramFn for Panics {
        fn record(&self, _: f64) {
            self.told();
        }
    }
    impl Recorder for Panics {
        fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
            match key.name() == self.1 {
                true => Counter::from_arc(Arc::new(self.clone())),
                false => Counter::noop(),
            }
        }
        fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
            Gauge::noop()
        }
        fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
            match key.name() == self.1 {
                true => Histogram::from_arc(Arc::new(self.clone())),
                false => Histogram::noop(),
            }
        }
    }
    let recorder = Panics(Arc::default(), metric);
    let pool =
        metrics::with_local_recorder(&recorder, || tenure::testing::temporary_with(builder()));
    let pool: Pool = pool.unwrap();
    let gathered = Gathered::on(&pool);
    let leader = gathered.caller(writes("a"));
    let other = gathered.caller(writes("b"));
    recorder.0.store(true, Ordering::Relaxed);
    gathered.go();
    let outcomes = [leader.join(), other.join()];
    (pool, outcomes)
}

#[test]
fn the_pool_goes_on_after_a_recorder_that_panics() {
    let (pool, [leader, other]) = two_beside_a_recorder_that_panics("tenure_group_commit_size");
    assert_eq!(panics_with(leader), "recorder");
    let result = other.unwrap();
    assert!(matches!(result, Err(Error::Commit(CommitError::NotOpen))), "{result:?}");
    pool.group_commit(writes("c")).unwrap();
    assert_eq!(titles(&pool), "c");
    pool.close(LONG).unwrap();
}

#[test]
fn who_was_committed_is_told_so_though_a_recorder_panics_after_it() {
    let (pool, [leader, other]) = two_beside_a_recorder_that_panics("tenure_group_commits_total");
    assert_eq!(panics_with(leader), "recorder");
    assert_eq!(other.unwrap().unwrap(), "b");
    assert_eq!(titles(&pool), "a b");
    pool.close(LONG).unwrap();
}

/// A statement that is dropped afterwards overwrites what SQLite has said.
#[test]
fn who_is_undone_with_a_batch_is_told_so_whatever_was_dropped_since() {
    let pool = pool();
    pool.transaction(|tx| Ok(tx.execute_batch("INSERT INTO task VALUES ('a'), ('b'), ('c')")?))
        .unwrap();
    let gathered = Gathered::on(&pool);
    let first = gathered.caller(writes("x"));
    let innocent = gathered.caller(writes("y"));
    let culprit = gathered.caller(|tx| {
        let mut select = tx.prepare("SELECT title FROM task")?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            let title: String = row.get(0)?;
            tx.execute("INSERT OR ROLLBACK INTO task VALUES (?1)", [title])?;
        }
        Ok("z")
    });
    gathered.go();
    let told = [first.join().unwrap(), innocent.join().unwrap()];
    culprit.join().unwrap().unwrap_err();
    for told in told.into_iter().filter_map(Result::err) {
        assert!(told.is_overload(), "{told}");
        assert!(matches!(told, Error::Commit(CommitError::AbortedWithBatch { .. })), "{told}");
    }
    assert!(!titles(&pool).contains('z'));
}
