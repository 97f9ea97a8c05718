//! A guard that was leaked is noticed when its thread has ended, and another connection opened in its
//! place; one that a thread-local drops in the end is no leak.

use std::cell::RefCell;
use std::mem;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use tenure::{Detached, Error, Pool, ReadGuard, WriteGuard};

use crate::logged::warnings_of_all_threads;
use crate::recorded::Recorded;
use crate::until::until;

fn leaks(pool: &Recorded, role: &str) -> f64 {
    pool.value("tenure_leaks_total", &[("role", role)])
}

/// On a thread that has ended when this returns, thread-locals and all.
fn on_a_thread(name: &str, work: impl FnOnce() + Send + 'static) {
    thread::Builder::new().name(name.to_owned()).spawn(work).unwrap().join().unwrap();
}

#[test]
fn what_a_thread_took_with_it_is_replaced_and_said() {
    warnings_of_all_threads();
    let pool = Recorded::with(Pool::builder().readers(1).name("leaking"));
    for round in [1.0, 2.0] {
        let leaking = pool.clone();
        on_a_thread("forgets", move || {
            mem::forget(leaking.read_owned().unwrap());
            Box::leak(Box::new(leaking.write_owned().unwrap()));
        });
        assert!(pool.try_read().is_err() && pool.try_write().is_err());
        let idle = || (pool.status().read.idle, pool.status().write.unwrap().idle);
        until("others are opened, unasked", || idle() == (1, 1));
        assert!(pool.try_read().is_ok() && pool.try_write().is_ok());
        assert_eq!((leaks(&pool, "read"), leaks(&pool, "write")), (round, round));
    }
    let status = pool.status();
    assert_eq!((status.read.open, status.read.idle, status.read.held.len()), (1, 1, 0));
    pool.transaction(|tx| Ok(tx.execute_batch("CREATE TABLE task (title TEXT)")?)).unwrap();
    assert!(pool.read().unwrap().table_exists(None, "task").unwrap());
    let all = warnings_of_all_threads().into_iter();
    let said: Vec<_> = all.filter(|entry| entry.field("pool") == "leaking").collect();
    assert_eq!(said.len(), 4, "one line for each: {said:?}");
    for entry in &said {
        assert_eq!(entry.field("thread"), "forgets");
        assert!(entry.field("place").contains("tests/promises/leaks.rs:"), "{entry:?}");
    }
}

#[test]
fn who_waits_for_it_is_served() {
    let pool = Recorded::new();
    let leaking = pool.clone();
    on_a_thread("forgets", move || mem::forget(leaking.write_owned().unwrap()));
    assert!(pool.write().is_ok());
}

#[test]
fn a_transaction_that_was_left_open_keeps_the_database_locked() {
    let pool = Recorded::with(Pool::builder().busy_timeout(Duration::from_millis(1)));
    let leaking = pool.clone();
    on_a_thread("forgets", move || {
        let writer = Box::leak(Box::new(leaking.write_owned().unwrap()));
        mem::forget(writer.transaction().unwrap());
    });
    let error = pool.transaction(|_| Ok(())).unwrap_err();
    assert!(matches!(error, Error::Begin(_)) && error.is_overload(), "{error}");
}

thread_local! {
    static KEPT: RefCell<Option<ReadGuard<'static>>> = const { RefCell::new(None) };
    static LATE: RefCell<Option<Late>> = const { RefCell::new(None) };
}

#[test]
fn a_guard_that_a_thread_local_drops_is_no_leak() {
    let pool = Recorded::with(Pool::builder().readers(1));
    for before in [false, true] {
        let keeping = pool.clone();
        on_a_thread("keeps", move || {
            // Which is dropped first, the guard or what notices the end of the thread, goes by which
            // was there first.
            if before {
                KEPT.with(|_| {});
            }
            let guard = keeping.read_owned().unwrap();
            KEPT.set(Some(guard));
        });
        assert_eq!(pool.status().read.idle, 1, "it is back");
    }
    assert_eq!(leaks(&pool, "read"), 0.0);
}

/// Does something with a guard long after its thread should have ended.
struct Late {
    guard: Option<WriteGuard<'static>>,
    go_on: mpsc::Receiver<()>,
    work: fn(WriteGuard<'static>) -> Option<Detached<WriteGuard<'static>>>,
    done: mpsc::Sender<Option<Detached<WriteGuard<'static>>>>,
}

impl Drop for Late {
    fn drop(&mut self) {
        self.go_on.recv().unwrap();
        self.done.send((self.work)(self.guard.take().unwrap())).unwrap();
    }
}

/// Has a thread-local do this with the writer after the writer was given up; what it hands back is
/// dropped while another holds the slot.
fn late(work: fn(WriteGuard<'static>) -> Option<Detached<WriteGuard<'static>>>) {
    let pool = Recorded::new();
    let keeping = pool.clone();
    let ((go, go_on), (done, result)) = (mpsc::channel(), mpsc::channel());
    let thread = thread::spawn(move || {
        LATE.with(|_| {});
        let guard = Some(keeping.write_owned().unwrap());
        LATE.set(Some(Late { guard, go_on, work, done }));
    });
    until("it is given up", || leaks(&pool, "write") == 1.0);
    let (other, line) = (pool.write().unwrap(), line!());
    let is_still_the_others = || {
        let status = pool.status().write.unwrap();
        let [holder] = &status.held[..] else { panic!("{status:?}") };
        let place = format!("tests/promises/leaks.rs:{line}:");
        assert!(holder.place.starts_with(&place) && !holder.detached, "{holder:?}");
        assert_eq!(holder.label, None);
    };
    go.send(()).unwrap();
    let detached = result.recv().unwrap();
    thread.join().unwrap();
    is_still_the_others();
    if let Some(detached) = detached {
        let attached = detached.attach();
        is_still_the_others();
        drop(attached);
    }
    let closed = [("role", "write"), ("reason", "leaked")];
    assert_eq!(pool.value("tenure_connections_closed_total", &closed), 1.0);
    assert!(pool.try_write().is_err(), "the other one has it still");
    is_still_the_others();
    other.execute_batch("CREATE TABLE task (title TEXT)").unwrap();
    drop(other);
    let status = pool.status().write.unwrap();
    assert_eq!((status.open, status.idle, status.held.len()), (1, 1, 0), "{status:?}");
    assert_eq!(leaks(&pool, "write"), 1.0);
}

#[test]
fn a_guard_that_is_dropped_after_it_was_given_up_does_no_harm() {
    late(|guard| {
        drop(guard);
        None
    });
}

#[test]
fn a_guard_that_is_detached_after_it_was_given_up_does_no_harm() {
    late(|guard| {
        guard.execute_batch("SELECT 1").unwrap();
        guard.set_label("of another hold");
        Some(guard.detach())
    });
}
