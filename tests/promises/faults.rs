//! Whatever goes wrong, and wherever: no connection's place is lost, and no later caller suffers.

use std::fmt;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use tenure::{BoxError, CheckoutErrorKind, Pool, Role, WriteGuard, testing};
use tracing::subscriber::DefaultGuard;
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

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

#[derive(Debug)]
struct PanicsWhenDropped;

impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        if !thread::panicking() {
            resume_unwind(Box::new("dropped"));
        }
    }
}

/// Of a panic: to drop what it carries is to panic again.
fn panic_twice() -> ! {
    resume_unwind(Box::new(PanicsWhenDropped))
}

/// A log that panics, on those threads where it is in use, until it is over.
#[derive(Clone, Default)]
struct PanickingLog {
    over: Arc<AtomicBool>,
    times: Arc<AtomicUsize>,
}

impl PanickingLog {
    fn in_use(&self) -> DefaultGuard {
        let subscriber = tracing_subscriber::registry().with(self.clone());
        tracing::subscriber::set_default(subscriber)
    }

    fn times(&self) -> usize {
        self.times.load(Ordering::Relaxed)
    }
}

impl<S: Subscriber> Layer<S> for PanickingLog {
    fn on_event(&self, _: &Event<'_>, _: Context<'_, S>) {
        if !self.over.load(Ordering::Relaxed) && !thread::panicking() {
            self.times.fetch_add(1, Ordering::Relaxed);
            panic_twice();
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
fn nor_does_what_its_panic_carries_cost_more() {
    struct PanicsTwice;
    impl Drop for PanicsTwice {
        fn drop(&mut self) {
            if !thread::panicking() {
                panic_twice();
            }
        }
    }

    let pool = testing::temporary().unwrap();
    let writer = pool.write().unwrap();
    writer.with_extension_or(|| PanicsTwice, |_| ());
    spoil(writer);
    assert!(pool.write_timeout(LONG).is_ok());
}

#[test]
fn nor_does_a_log_that_panics_over_it() {
    let (pool, log) = (testing::temporary().unwrap(), PanickingLog::default());
    let in_use = log.in_use();
    let writer = pool.write().unwrap();
    writer.with_extension_or(|| PanicsWhenDropped, |_| ());
    spoil(writer);
    drop(in_use);
    assert!(log.times() > 0);
    assert!(pool.write_timeout(LONG).is_ok());
}

#[test]
fn a_log_that_panics_over_a_slow_checkout_costs_no_connection() {
    let limit = Duration::from_millis(1);
    let pool = testing::temporary_with(Pool::builder().slow_checkout_after(limit)).unwrap();
    let log = PanickingLog::default();
    let writer = pool.write().unwrap();
    thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            let _in_use = log.in_use();
            let result = catch_unwind(AssertUnwindSafe(|| pool.write().map(drop)));
            result.map_err(mem::forget)
        });
        until("it has waited for long", || {
            let status = pool.status().write.unwrap();
            status.waiting.iter().any(|waiter| waiter.waited >= limit)
        });
        drop(writer);
        waiter.join().unwrap().expect("the caller has to do with it").unwrap();
    });
    assert_eq!(log.times(), 1);
    assert!(pool.try_write().is_ok());
}

#[test]
fn a_log_that_panics_in_housekeeping_does_not_end_it() {
    let limit = Duration::from_millis(1);
    let builder = Pool::builder()
        .readers(2)
        .idle_limit(Duration::from_secs(1))
        .long_held_after(limit)
        .snapshot_warn_after(limit);
    let pool = testing::temporary_with(builder).unwrap();
    let log = PanickingLog::default();

    /// Has the thread that drops it use the log.
    struct Brings(PanickingLog);
    impl Drop for Brings {
        fn drop(&mut self) {
            mem::forget(self.0.in_use());
        }
    }
    let readers = [pool.read().unwrap(), pool.read().unwrap()];
    for reader in &readers {
        reader.with_extension_or(|| Brings(log.clone()), |_| ());
    }
    drop(readers);
    until("an idle one was closed", || pool.status().read.open == 1);

    let mut reader = pool.read().unwrap();
    let snapshot = reader.snapshot().unwrap();
    snapshot.query_one("SELECT 1 FROM sqlite_schema UNION SELECT 1", [], |_| Ok(())).unwrap();
    // One over the hold, one over the snapshot, and one over each of these.
    until("the log has panicked", || log.times() >= 4);
    log.over.store(true, Ordering::Relaxed);
    drop(snapshot);
    spoil(pool.write().unwrap());
    until("it is opened again", || pool.status().write.unwrap().idle == 1);
}

#[test]
fn a_log_that_panics_over_a_checkpoint_does_not_end_those() {
    let (log, opened) = (PanickingLog::default(), Arc::new(AtomicUsize::new(0)));
    let (use_log, count) = (log.clone(), Arc::clone(&opened));
    let builder = Pool::builder().on_connect(move |_, role| {
        if role == Role::Checkpoint && thread::current().name() == Some("tenure-checkpoints") {
            mem::forget(use_log.in_use());
            count.fetch_add(1, Ordering::Relaxed);
            panic_twice();
        }
        Ok(())
    });
    let pool = testing::temporary_with(builder).unwrap();
    pool.write().unwrap().execute_batch("CREATE TABLE task (title TEXT)").unwrap();
    until("it was tried again", || opened.load(Ordering::Relaxed) >= 2);
    assert!(log.times() > 0);
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

/// Opening the writer again has failed so often, in this way.
fn open_after_failures(
    times: usize,
    fail: impl Fn() -> Result<(), BoxError> + Send + Sync + 'static,
) {
    let failures = Arc::new(AtomicUsize::new(0));
    let left = Arc::clone(&failures);
    let builder = Pool::builder().on_connect(move |_, role| {
        let less = |left: usize| left.checked_sub(1);
        let (set, fetch) = (Ordering::Relaxed, Ordering::Relaxed);
        let fails = role == Role::Write && left.fetch_update(set, fetch, less).is_ok();
        if fails { fail() } else { Ok(()) }
    });
    let pool = testing::temporary_with(builder).unwrap();
    failures.store(times, Ordering::Relaxed);
    spoil(pool.write().unwrap());
    assert!(pool.write_timeout(LONG).is_ok(), "after {times} failures");
}

#[test]
fn an_error_that_panics_when_it_is_dropped_loses_no_place() {
    #[derive(Debug)]
    struct Clinging(PanicsWhenDropped);
    impl fmt::Display for Clinging {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("clinging")
        }
    }
    impl std::error::Error for Clinging {}

    // Once a connection could be opened, and by the next one.
    for times in [1, 2] {
        open_after_failures(times, || Err(Box::new(Clinging(PanicsWhenDropped))));
    }
}

#[test]
fn a_panic_that_panics_when_it_is_dropped_loses_no_place() {
    open_after_failures(1, || panic_twice());
}

#[test]
fn a_log_that_panics_over_a_failure_loses_no_place() {
    let log = PanickingLog::default();
    let use_log = log.clone();
    open_after_failures(1, move || {
        // On r2d2's thread, which the pool has to itself.
        mem::forget(use_log.in_use());
        Err("the key server is away".into())
    });
    assert_eq!(log.times(), 1);
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
