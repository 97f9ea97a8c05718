//! A pool can be given another number of readers while it is used.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use metrics::{Key, KeyName, Metadata, SharedString, Unit};
use tenure::{CheckoutErrorKind, Pool, ResizeError, testing};

use crate::recorded::Recorded;
use crate::until::{LONG, until};

const RESIZED: [(&str, &str); 2] = [("role", "read"), ("reason", "resized")];

#[test]
fn more_room_goes_to_those_who_wait_and_the_rest_is_opened_ahead() {
    let pool = Recorded::with(Pool::builder().readers(1));
    let first = pool.read().unwrap();
    thread::scope(|scope| {
        let waiter = scope.spawn(|| drop(pool.read_timeout(LONG).unwrap()));
        until("it waits", || pool.status().read.waiting.len() == 1);
        pool.resize(4).unwrap();
        // The first one is not given back before.
        waiter.join().unwrap();
    });
    until("all are open", || pool.status().read.open == 4 && pool.status().read.idle == 3);
    let more: Vec<_> = (0..3).map(|_| pool.try_read().unwrap()).collect();
    assert_eq!(pool.try_read().unwrap_err().kind(), CheckoutErrorKind::Unavailable);
    assert_eq!(pool.status().read.limit, 4);
    assert_eq!(pool.value("tenure_connections_max", &[("role", "read")]), 4.0);
    drop((first, more));
}

#[test]
fn fewer_close_at_once_if_idle_and_else_when_they_come_back() {
    let pool = Recorded::with(Pool::builder().readers(6));
    let held: Vec<_> = (0..4).map(|_| pool.read().unwrap()).collect();
    pool.resize(2).unwrap();
    let status = pool.status().read;
    assert_eq!((status.limit, status.open, status.idle), (2, 4, 0), "the idle two are closed");
    assert_eq!(pool.value("tenure_connections_closed_total", &RESIZED), 2.0);
    assert_eq!(pool.try_read().unwrap_err().kind(), CheckoutErrorKind::Unavailable);
    for reader in held {
        reader.query_one("SELECT 1", [], |row| row.get::<_, i64>(0)).unwrap();
        drop(reader);
        assert!(pool.status().read.open <= 4);
    }
    until("two are left, or opened again", || pool.status().read.idle == 2);
    assert_eq!(pool.status().read.open, 2);
    assert!(pool.value("tenure_connections_closed_total", &RESIZED) >= 4.0);
    assert_eq!(pool.value("tenure_connections_max", &[("role", "read")]), 2.0);
    let both = (pool.try_read().unwrap(), pool.try_read().unwrap());
    assert!(pool.try_read().is_err());
    drop(both);
}

#[test]
fn what_cannot_be_is_refused_and_changes_nothing() {
    let pool = testing::temporary_with(Pool::builder().readers(2)).unwrap();
    for readers in [0, 65, usize::MAX] {
        let error = pool.resize(readers).unwrap_err();
        assert!(matches!(error, ResizeError::OutOfRange { most: 64, .. }), "{error}");
    }
    assert_eq!(pool.status().read.limit, 2);
    pool.close(LONG).unwrap();
    assert!(matches!(pool.resize(3), Err(ResizeError::Closed)));

    let large = testing::temporary_with(Pool::builder().readers(70)).unwrap();
    large.resize(1).unwrap();
    assert_eq!(large.status().read.open, 1);
    large.resize(70).unwrap();
}

/// Keeps what gauges were set to last, but for a value of 5, which it keeps waiting.
struct LateGauges {
    max: Arc<Mutex<f64>>,
    is_set: mpsc::Sender<()>,
    go_on: Mutex<mpsc::Receiver<()>>,
}

impl metrics::GaugeFn for LateGauges {
    fn increment(&self, _: f64) {}

    fn decrement(&self, _: f64) {}

    fn set(&self, value: f64) {
        if value == 5.0 {
            self.is_set.send(()).unwrap();
            self.go_on.lock().unwrap().recv().unwrap();
        }
        *self.max.lock().unwrap() = value;
    }
}

struct LateRecorder(Arc<LateGauges>);

impl metrics::Recorder for LateRecorder {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> metrics::Counter {
        metrics::Counter::noop()
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> metrics::Gauge {
        let is_read = key.labels().any(|label| label.value() == "read");
        if key.name() == "tenure_connections_max" && is_read {
            metrics::Gauge::from_arc(Arc::clone(&self.0))
        } else {
            metrics::Gauge::noop()
        }
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> metrics::Histogram {
        metrics::Histogram::noop()
    }
}

#[test]
fn the_metric_says_the_limit_in_force_when_two_change_it_at_once() {
    for last in ["resize", "close"] {
        let max = Arc::<Mutex<f64>>::default();
        let ((is_set, set), (go, go_on)) = (mpsc::channel(), mpsc::channel());
        let gauges = LateGauges { max: Arc::clone(&max), is_set, go_on: Mutex::new(go_on) };
        let recorder = LateRecorder(Arc::new(gauges));
        let builder = Pool::builder().readers(2);
        let pool =
            metrics::with_local_recorder(&recorder, || testing::temporary_with(builder)).unwrap();
        thread::scope(|scope| {
            scope.spawn(|| pool.resize(5).unwrap());
            set.recv().unwrap();
            let other = scope.spawn(|| match last {
                "resize" => pool.resize(3).unwrap(),
                _ => pool.close(LONG).unwrap(),
            });
            // The other one gets as far as it can; it ends first if nothing keeps it.
            (0..1_000).take_while(|_| !other.is_finished()).for_each(|_| thread::yield_now());
            go.send(()).unwrap();
        });
        let expected = if last == "resize" { pool.status().read.limit as f64 } else { 0.0 };
        let said = *max.lock().unwrap();
        assert_eq!(said, expected, "{last}");
    }
}

#[test]
fn resizing_under_load_loses_nothing() {
    let pool = Recorded::with(Pool::builder().readers(3).hold_sampling(1));
    let stop = AtomicBool::new(false);
    let served: u64 = thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    let mut served = 0;
                    while !stop.load(Ordering::Relaxed) {
                        let reader = pool.read_timeout(LONG).unwrap();
                        reader.query_one("SELECT 1", [], |row| row.get::<_, i64>(0)).unwrap();
                        served += 1;
                    }
                    served
                })
            })
            .collect();
        for round in 0..300 {
            pool.resize([5, 1, 8, 2, 64, 3][round % 6]).unwrap();
            // Of more holds than go into one publishing only a share is recorded.
            pool.publish_metrics();
            thread::yield_now();
        }
        stop.store(true, Ordering::Relaxed);
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    until("as many as the limit says", || pool.status().read.idle == 3);
    let status = pool.status().read;
    assert_eq!((status.limit, status.open, status.held.len()), (3, 3, 0));
    let counted = pool.checkouts("read", "immediate") + pool.checkouts("read", "waited");
    assert_eq!(counted, served as f64);
    assert_eq!(pool.value("tenure_hold_seconds_count", &[("role", "read")]), counted);
}

#[test]
fn a_thread_that_waits_for_itself_is_told_so_in_a_smaller_pool_too() {
    let pool = testing::temporary_with(Pool::builder().readers(3)).unwrap();
    let mut held: Vec<_> = (0..3).map(|_| pool.read().unwrap()).collect();
    pool.resize(2).unwrap();
    // Closed, not lent again: two are still out.
    drop(held.remove(0));
    let error = pool.read().unwrap_err();
    assert_eq!(error.kind(), CheckoutErrorKind::WouldDeadlock, "{error}");
    assert_eq!(error.holders().len(), 2);
}

#[test]
fn those_who_gave_up_waiting_leave_no_connections_behind() {
    use std::time::Duration;

    let failing = Arc::new(AtomicBool::new(false));
    let opened = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let (fails, opens) = (Arc::clone(&failing), Arc::clone(&opened));
    let on_connect = move |_: &mut tenure::rusqlite::Connection, _| {
        if fails.load(Ordering::SeqCst) {
            return Err("not now".into());
        }
        opens.fetch_add(1, Ordering::SeqCst);
        Ok(())
    };
    let pool = testing::temporary_with(Pool::builder().readers(1).on_connect(on_connect)).unwrap();
    failing.store(true, Ordering::SeqCst);
    pool.resize(2).unwrap();
    let held = pool.read().unwrap();
    for _ in 0..30 {
        pool.read_timeout(Duration::from_millis(5)).unwrap_err();
    }
    let before = opened.load(Ordering::SeqCst);
    failing.store(false, Ordering::SeqCst);
    drop(pool.read().unwrap());
    until("it is lent again", || pool.status().read.idle == 1);
    drop(held);
    pool.close(LONG).unwrap();
    assert_eq!(opened.load(Ordering::SeqCst), before + 1, "r2d2 has opened for those who are gone");
}
