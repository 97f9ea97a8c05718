//! Whatever goes wrong, and wherever: no connection's place is lost, and no later caller suffers.

use std::fmt;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use tenure::{BoxError, CheckoutErrorKind, Pool, Role, WriteGuard, testing};

use crate::recorded::Recorded;
use crate::until::{LONG, until};

/// Leaves the connection in a state that only closing it can mend.
fn spoil(mut guard: WriteGuard<'_>) {
    let mut tx = guard.transaction().unwrap();
    let savepoint = tx.savepoint().unwrap();
    // The savepoint's own name: when it is to be rolled back, it is gone.
    savepoint.execute_batch("RELEASE tenure_1").unwrap();
    savepoint.rollback().unwrap_err();
}

/// A pool whose connections cannot be opened while the switch is on.
fn switched(
    on_fault: impl Fn() -> Result<(), BoxError> + Send + Sync + 'static,
) -> (Pool, Arc<AtomicBool>) {
    let faulty = Arc::new(AtomicBool::new(false));
    let switch = Arc::clone(&faulty);
    let builder = Pool::builder()
        .on_connect(move |_, _| if switch.load(Ordering::Relaxed) { on_fault() } else { Ok(()) });
    (testing::temporary_with(builder).unwrap(), faulty)
}

/// A pool whose writer could not be opened again for long, and now can.
fn after_a_lasting_fault() -> Pool {
    let attempts = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&attempts);
    let (pool, faulty) = switched(move || {
        count.fetch_add(1, Ordering::Relaxed);
        Err("the key server is away".into())
    });
    faulty.store(true, Ordering::Relaxed);
    spoil(pool.write().unwrap());
    until("it has been tried often", || attempts.load(Ordering::Relaxed) >= 6);
    faulty.store(false, Ordering::Relaxed);
    pool
}

struct PanicsWhenDropped;

impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        if !thread::panicking() {
            resume_unwind(Box::new("dropped"));
        }
    }
}

#[test]
fn an_extension_that_panics_when_it_is_dropped_costs_one_connection() {
    let pool = testing::temporary().unwrap();
    let writer = pool.write().unwrap();
    writer.with_extension_or(|| PanicsWhenDropped, |_| ());
    spoil(writer);
    assert!(pool.write_timeout(LONG).is_ok());
}

#[test]
fn an_extension_that_panics_in_housekeeping_does_not_end_it() {
    let pool =
        testing::temporary_with(Pool::builder().readers(3).idle_limit(Duration::from_secs(1)))
            .unwrap();
    let readers: Vec<_> = (0..3).map(|_| pool.read().unwrap()).collect();
    for reader in &readers {
        reader.with_extension_or(|| PanicsWhenDropped, |_| ());
    }
    drop(readers);
    until("the idle ones were closed", || pool.status().read.open == 1);
    let readers: Vec<_> = (0..3).map(|_| pool.read_timeout(LONG).unwrap()).collect();
    drop(readers);
    until("the idle ones were closed again", || pool.status().read.open == 1);
}

#[test]
fn a_hook_that_panics_when_it_is_dropped_leaves_its_savepoint_undone() {
    let pool = testing::temporary().unwrap();
    pool.write().unwrap().execute_batch("CREATE TABLE task (title TEXT)").unwrap();
    pool.transaction(|tx| {
        let savepoint = tx.savepoint()?;
        savepoint.execute("INSERT INTO task VALUES ('undone')", [])?;
        let owned = PanicsWhenDropped;
        savepoint.on_commit(move || mem::forget(owned));
        catch_unwind(AssertUnwindSafe(|| savepoint.rollback())).unwrap_err();
        Ok(())
    })
    .unwrap();
    let count = "SELECT count(*) FROM task";
    let kept: i64 = pool.read().unwrap().query_one(count, [], |row| row.get(0)).unwrap();
    assert_eq!(kept, 0);
}

#[test]
fn an_error_that_cannot_be_written_loses_no_place() {
    #[derive(Debug)]
    struct Unspeakable;
    impl fmt::Display for Unspeakable {
        fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
            resume_unwind(Box::new("no words"))
        }
    }
    impl std::error::Error for Unspeakable {}

    let (pool, faulty) = switched(|| Err(Box::new(Unspeakable)));
    faulty.store(true, Ordering::Relaxed);
    spoil(pool.write().unwrap());
    let error = pool.write_timeout(Duration::from_millis(50)).unwrap_err();
    assert!(error.to_string().contains("no words"), "{error}");
    faulty.store(false, Ordering::Relaxed);
    assert!(pool.write_timeout(LONG).is_ok());
}

#[test]
fn connections_can_be_had_soon_after_a_lasting_fault_is_gone() {
    // By then the pauses of a back-off without a low bound are longer than a checkout waits.
    let pool = after_a_lasting_fault();
    assert!(pool.write().is_ok());
}

#[test]
fn a_name_is_free_as_soon_as_its_pool_has_ended() {
    let open = || testing::temporary_with(Pool::builder().name("one at a time"));
    let pool = open().unwrap();
    let guard = pool.write_owned().unwrap();
    drop(pool);
    assert!(open().is_ok(), "a guard that is still out keeps the name");
    drop(guard);
}

#[test]
fn timeouts_of_zero_do_not_keep_a_pool_from_opening() {
    let builder = Pool::builder().checkout_timeout(Duration::ZERO).busy_timeout(Duration::ZERO);
    let pool = testing::temporary_with(builder).unwrap();
    let _writer = pool.write_owned().unwrap().detach();
    assert_eq!(pool.write().unwrap_err().kind(), CheckoutErrorKind::Timeout);
}

#[test]
fn nobody_has_to_ask_for_what_could_not_be_reopened_for_long() {
    // By then housekeeping has given up its first try.
    let pool = after_a_lasting_fault();
    until("it is opened again", || pool.status().write.unwrap().idle == 1);
}

#[test]
fn those_who_only_try_get_a_connection_again_once_one_can_be_opened() {
    let (pool, faulty) = switched(|| Err("the key server is away".into()));
    faulty.store(true, Ordering::Relaxed);
    spoil(pool.write().unwrap());
    let error = pool.write_timeout(Duration::from_millis(50)).unwrap_err();
    assert_eq!(error.kind(), CheckoutErrorKind::Connect);
    faulty.store(false, Ordering::Relaxed);
    until("a try succeeds", || pool.try_write().is_ok());
}

#[test]
fn those_who_only_try_get_more_than_what_a_quiet_time_has_left() {
    let builder = Pool::builder().readers(3).idle_limit(Duration::from_secs(1));
    let pool = testing::temporary_with(builder).unwrap();
    until("the idle ones were closed", || pool.status().read.open == 1);
    let _first = pool.try_read().unwrap();
    until("a second one was opened", || pool.try_read().is_ok());
}

#[test]
fn a_connection_that_will_be_closed_gives_its_locks_back_first() {
    let pool = testing::temporary().unwrap();
    pool.write().unwrap().execute_batch("CREATE TABLE task (title TEXT)").unwrap();
    let mut writer = pool.write().unwrap();
    let mut tx = writer.transaction().unwrap();
    tx.execute("INSERT INTO task VALUES ('left over')", []).unwrap();
    let savepoint = tx.savepoint().unwrap();
    savepoint.execute_batch("RELEASE tenure_1").unwrap();
    savepoint.rollback().unwrap_err();
    // A leaked statement keeps SQLite from closing the connection.
    mem::forget(tx.prepare("SELECT 1").unwrap());
    mem::forget(tx);
    drop(writer);
    pool.transaction(|tx| Ok(tx.execute("INSERT INTO task VALUES ('next')", [])?)).unwrap();
}

#[test]
fn no_time_to_open_a_connection_is_a_timeout_and_a_fault_is_named_to_all() {
    let (pool, faulty) = switched(|| Err("the key server is away".into()));
    faulty.store(true, Ordering::Relaxed);
    spoil(pool.write().unwrap());
    thread::scope(|scope| {
        let waiters: Vec<_> = (0..3)
            .map(|_| scope.spawn(|| pool.write_timeout(Duration::from_millis(300)).map(drop)))
            .collect();
        for waiter in waiters {
            let error = waiter.join().unwrap().unwrap_err();
            assert!(error.to_string().contains("the key server is away"), "{error}");
        }
    });
    faulty.store(false, Ordering::Relaxed);
    drop(pool.write_timeout(LONG).unwrap());

    let builder = Pool::builder().readers(2).idle_limit(Duration::from_secs(1));
    let pool = testing::temporary_with(builder).unwrap();
    until("the idle one was closed", || pool.status().read.open == 1);
    let _only = pool.read().unwrap();
    let error = pool.read_timeout(Duration::ZERO).unwrap_err();
    assert_eq!(error.kind(), CheckoutErrorKind::Timeout, "{error}");
}

#[test]
fn a_pool_that_could_not_be_opened_leaves_nothing_in_the_gauges() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let opened = AtomicUsize::new(0);
    let builder = Pool::builder().name("never opened").readers(3).on_connect(move |_, role| {
        // Those that are opened first, to find faults early, are one of each role.
        let number = opened.fetch_add(1, Ordering::Relaxed);
        if role == Role::Read && number > 4 { Err("no more".into()) } else { Ok(()) }
    });
    metrics::with_local_recorder(&recorder, || testing::temporary_with(builder)).unwrap_err();
    let page = handle.render();
    let gauges: Vec<_> =
        page.lines().filter(|line| line.starts_with("tenure_connections")).collect();
    let open = |line: &&&str| line.starts_with("tenure_connections{") && !line.ends_with(" 0");
    assert!(!gauges.is_empty() && !gauges.iter().any(|line| open(&line)), "{gauges:#?}");
    // And the name is free.
    testing::temporary_with(Pool::builder().name("never opened")).unwrap();
}

#[test]
fn the_gauges_of_a_pool_that_has_ended_are_0() {
    let recorded = Recorded::new();
    let page = recorded.rendered_after_the_end();
    let gauges = page.lines().filter(|line| {
        line.starts_with("tenure_connections{") || line.starts_with("tenure_connections_max{")
    });
    for gauge in gauges {
        assert!(gauge.ends_with(" 0"), "{gauge}");
    }
}
