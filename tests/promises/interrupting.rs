//! An interrupt reaches what runs in one checkout, waits for locks included, and nobody else's work.

use std::sync::mpsc::{TryRecvError, channel};
use std::thread;
use std::time::{Duration, Instant};

use tenure::rusqlite::{Connection, ErrorCode};
use tenure::{BeginError, InterruptHandle, Pool};
use tracing::Level;

use crate::logged::logged;
use crate::recorded::Recorded;

const ENDLESS: &str =
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";

/// An hour: what ends earlier was not ended by a lock's time-out.
const NEVER: Duration = Duration::from_secs(3600);

fn pool(statement_timeout: Duration) -> Recorded {
    let pool = Recorded::with(
        Pool::builder()
            .readers(1)
            .busy_timeout(NEVER)
            .checkout_timeout(NEVER)
            .statement_timeout(statement_timeout),
    );
    pool.write().unwrap().execute("CREATE TABLE task (n INTEGER)", []).unwrap();
    pool
}

/// Interrupts again and again while `work` runs: one that comes before a statement runs has no effect.
fn interrupted<R>(handle: InterruptHandle, work: impl FnOnce() -> R) -> R {
    let (done, is_done) = channel::<()>();
    thread::scope(|scope| {
        scope.spawn(move || {
            while is_done.try_recv() == Err(TryRecvError::Empty) {
                handle.interrupt();
                thread::yield_now();
            }
        });
        let result = work();
        drop(done);
        result
    })
}

/// A connection that the pool knows nothing of, holding the write lock.
fn outsider(pool: &Pool) -> Connection {
    let outside = Connection::open(pool.read().unwrap().rusqlite().path().unwrap()).unwrap();
    outside.execute_batch("BEGIN IMMEDIATE").unwrap();
    outside
}

#[test]
fn a_running_statement_is_stopped() {
    let pool = pool(Duration::ZERO);
    let reader = pool.read().unwrap();
    let count = || reader.query_one(ENDLESS, [], |row| row.get::<_, i64>(0));
    let error = interrupted(reader.interrupt_handle(), count).unwrap_err();
    assert_eq!(error.sqlite_error_code(), Some(ErrorCode::OperationInterrupted));
}

#[test]
fn a_wait_for_a_lock_is_stopped() {
    let pool = pool(Duration::ZERO);
    let _outside = outsider(&pool);
    let mut writer = pool.write().unwrap();
    let error = interrupted(writer.interrupt_handle(), || writer.transaction().map(drop));
    let error = error.unwrap_err();
    assert!(matches!(error, BeginError::Interrupted { .. }), "{error}");
    assert!(error.to_string().starts_with("cannot begin: interrupted after"), "{error}");
    let insert = || writer.execute("INSERT INTO task VALUES (1)", []);
    let error = interrupted(writer.interrupt_handle(), insert).unwrap_err();
    // The latter when it comes between the statement's beginning and its wait.
    let stopped = [ErrorCode::DatabaseBusy, ErrorCode::OperationInterrupted].map(Some);
    assert!(stopped.contains(&error.sqlite_error_code()), "{error}");
    for op in ["begin", "write"] {
        assert_eq!(pool.value("tenure_busy_timeouts_total", &[("op", op)]), 0.0);
        assert_eq!(pool.value("tenure_busy_refusals_total", &[("op", op)]), 0.0);
    }
}

#[test]
fn the_next_holder_is_not_reached() {
    let pool = pool(Duration::ZERO);
    let handle = pool.read().unwrap().interrupt_handle();
    assert!(!handle.interrupt());
    let next = pool.read().unwrap();
    let long = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 300000)
                SELECT count(*) FROM n";
    let count = || next.query_one(long, [], |row| row.get::<_, i64>(0));
    assert_eq!(interrupted(handle, count).unwrap(), 300_000);
}

#[test]
fn a_handle_stays_good_while_the_connection_is_detached() {
    let pool = pool(Duration::ZERO);
    let reader = pool.read().unwrap();
    let handle = reader.interrupt_handle();
    let detached = reader.detach();
    assert!(handle.interrupt());
    drop(detached);
    assert!(!handle.interrupt());
}

#[test]
fn a_statement_is_stopped_when_its_time_is_up() {
    let pool = pool(Duration::from_millis(20));
    let reader = pool.read().unwrap();
    let error = reader.query_one(ENDLESS, [], |row| row.get::<_, i64>(0)).unwrap_err();
    assert_eq!(error.sqlite_error_code(), Some(ErrorCode::OperationInterrupted));
    assert_eq!(pool.value("tenure_statement_timeouts_total", &[("role", "read")]), 1.0);
    // A cached statement that is run again has its own time.
    let mut statement = reader.prepare_cached("SELECT count(*) FROM task").unwrap();
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(60) {
        statement.query_one([], |row| row.get::<_, i64>(0)).unwrap();
    }
    drop(statement);

    let writer = pool.write().unwrap();
    let error = writer.execute(&format!("INSERT INTO task {ENDLESS}"), []).unwrap_err();
    assert_eq!(error.sqlite_error_code(), Some(ErrorCode::OperationInterrupted));
    assert_eq!(pool.value("tenure_statement_timeouts_total", &[("role", "write")]), 1.0);
    // What it had done is undone, and the writer is usable.
    writer.execute("INSERT INTO task VALUES (1)", []).unwrap();
}

#[test]
fn the_log_says_where_a_statement_took_too_long() {
    let pool = pool(Duration::from_millis(20));
    let _outside = outsider(&pool);
    let ((), mut entries) = logged(|| {
        let reader = pool.read().unwrap();
        reader.query_one(ENDLESS, [], |row| row.get::<_, i64>(0)).unwrap_err();
        drop(reader);
        pool.write().unwrap().execute("INSERT INTO task VALUES (1)", []).unwrap_err();
    });
    entries.retain(|entry| entry.level <= Level::WARN);
    for (entry, role) in entries.iter().zip(["read", "write"]) {
        assert!(entry.message().contains("statement_timeout"), "{entry:?}");
        assert!(entry.field("place").contains("interrupting.rs"), "{entry:?}");
        assert_eq!((entry.field("role"), entry.field("limit")), (role, "20ms"));
    }
    assert_eq!(entries.len(), 2, "{entries:?}");
}

#[test]
fn a_transaction_can_be_rolled_back_after_its_statement_was_stopped() {
    let pool = pool(Duration::from_millis(20));
    let result = pool.transaction(|tx| {
        tx.execute("INSERT INTO task VALUES (1)", [])?;
        Ok(tx.query_one(ENDLESS, [], |row| row.get::<_, i64>(0))?)
    });
    assert!(result.is_err());
    let count = "SELECT count(*) FROM task";
    let count: i64 = pool.read().unwrap().query_one(count, [], |row| row.get(0)).unwrap();
    assert_eq!(count, 0);
    assert_eq!(pool.transactions("immediate", "rollback"), 1.0);
}

#[test]
fn a_wait_for_a_lock_ends_when_the_statements_time_is_up() {
    let pool = pool(Duration::from_millis(20));
    let _outside = outsider(&pool);
    let error = pool.write().unwrap().execute("INSERT INTO task VALUES (1)", []).unwrap_err();
    assert_eq!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy));
    assert_eq!(pool.value("tenure_statement_timeouts_total", &[("role", "write")]), 1.0);
    assert_eq!(pool.value("tenure_busy_timeouts_total", &[("op", "write")]), 0.0);
}

#[test]
fn a_transaction_waits_for_the_lock_as_long_as_the_busy_timeout_says() {
    let busy = Duration::from_millis(50);
    let limits =
        Pool::builder().busy_timeout(busy).statement_timeout(Duration::from_millis(1)).readers(1);
    let pool = Recorded::with(limits);
    let _outside = outsider(&pool);
    let error = pool.transaction(|_| Ok(())).unwrap_err();
    let tenure::Error::Begin(BeginError::Busy { waited, limit, .. }) = error else {
        panic!("{error:?}");
    };
    assert!(waited >= busy && limit == busy, "{waited:?} of {limit:?}");
    assert_eq!(pool.value("tenure_busy_timeouts_total", &[("op", "begin")]), 1.0);
    assert_eq!(pool.value("tenure_statement_timeouts_total", &[("role", "write")]), 0.0);
}

#[test]
fn the_time_of_one_statement_is_not_counted_for_another() {
    let limit = Duration::from_secs(1);
    let pool = pool(limit);
    // Long enough to be noticed, far shorter than the limit, also on a machine that is busy.
    let some = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 2000)
                SELECT count(*) FROM n";
    let began = Instant::now();
    let reader = pool.read().unwrap();
    while began.elapsed() < limit * 5 / 4 {
        assert_eq!(reader.query_one(some, [], |row| row.get::<_, i64>(0)).unwrap(), 2000);
    }
    drop(reader);
    while began.elapsed() < limit * 10 / 4 {
        let reader = pool.read().unwrap();
        assert_eq!(reader.query_one(some, [], |row| row.get::<_, i64>(0)).unwrap(), 2000);
    }
    // Nor is it for the look at check-in.
    let writer = pool.write().unwrap();
    writer.execute_batch("CREATE TABLE other (n)").unwrap();
    while began.elapsed() < limit * 15 / 4 {
        thread::yield_now();
    }
    drop(writer);
    assert_eq!(pool.repairs("raw") + pool.repairs("discarded"), 0.0);
    for role in ["read", "write"] {
        assert_eq!(pool.value("tenure_statement_timeouts_total", &[("role", role)]), 0.0);
    }
}

#[test]
fn a_commit_that_waits_for_a_lock_is_stopped() {
    let builder = Pool::builder().busy_timeout(NEVER).checkout_timeout(NEVER);
    let pool = Recorded::with(builder.journal_mode(tenure::JournalMode::Delete));
    pool.write().unwrap().execute("CREATE TABLE task (n INTEGER)", []).unwrap();
    let outside = Connection::open(pool.read().unwrap().rusqlite().path().unwrap()).unwrap();
    outside.execute_batch("BEGIN; SELECT * FROM task").unwrap();
    let mut writer = pool.write().unwrap();
    let handle = writer.interrupt_handle();
    let tx = writer.transaction().unwrap();
    tx.execute("INSERT INTO task VALUES (1)", []).unwrap();
    let error = interrupted(handle, || tx.commit()).unwrap_err();
    assert!(matches!(error, tenure::CommitError::Interrupted { .. }), "{error}");
    assert!(error.is_undone());
}

/// An R-Tree keeps a BLOB handle active in a transaction.
#[test]
fn the_time_of_a_transaction_is_no_statements_beside_an_r_tree() {
    let limit = Duration::from_millis(50);
    let pool = pool(limit);
    let setup = "CREATE VIRTUAL TABLE box USING rtree (id, x1, x2)";
    pool.write().unwrap().execute_batch(setup).unwrap();
    let began = Instant::now();
    pool.transaction(|tx| {
        while began.elapsed() < limit * 4 {
            tx.execute("INSERT INTO box VALUES (NULL, 0, 1)", [])?;
        }
        Ok(())
    })
    .unwrap();
    assert_eq!(pool.value("tenure_statement_timeouts_total", &[("role", "write")]), 0.0);
}

/// What was seen of a statement that has ended is not another's, which may get its address.
#[test]
fn the_time_between_two_statements_is_none_of_theirs_beside_an_r_tree() {
    let limit = Duration::from_millis(200);
    let pool = pool(limit);
    let setup = "CREATE VIRTUAL TABLE box USING rtree (id, x1, x2)";
    pool.write().unwrap().execute_batch(setup).unwrap();
    let some = "INSERT INTO task WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 2000)
                SELECT i FROM n";
    pool.transaction(|tx| {
        for _ in 0..300 {
            tx.execute("INSERT INTO box VALUES (NULL, 0, 1)", [])?;
        }
        tx.query_row("SELECT id FROM box WHERE x2 > 0", [], |row| row.get::<_, i64>(0))?;
        for _ in 0..4 {
            tx.prepare(some)?.execute([])?;
            thread::sleep(limit * 5 / 4);
        }
        Ok(())
    })
    .unwrap();
    assert_eq!(pool.value("tenure_statement_timeouts_total", &[("role", "write")]), 0.0);
}

#[test]
fn an_interrupt_while_nothing_runs_does_not_reach_the_commit_beside_an_r_tree() {
    let pool = pool(Duration::ZERO);
    let setup = "CREATE VIRTUAL TABLE box USING rtree (id, x1, x2)";
    pool.write().unwrap().execute_batch(setup).unwrap();
    let mut writer = pool.write().unwrap();
    let handle = writer.interrupt_handle();
    let tx = writer.transaction().unwrap();
    for _ in 0..300 {
        tx.execute("INSERT INTO box VALUES (NULL, 0, 1)", []).unwrap();
    }
    tx.query_row("SELECT id FROM box WHERE x2 > 0", [], |row| row.get::<_, i64>(0)).unwrap();
    assert!(handle.interrupt());
    tx.commit().unwrap();
}
