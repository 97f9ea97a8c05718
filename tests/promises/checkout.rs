//! Checkouts are served in order of arrival, every wait ends by its deadline, the queue is bounded,
//! and who fails to get a connection is told who has it.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use tenure::{CheckoutErrorKind, Pool, testing};

use crate::recorded::Recorded;
use crate::until::{LONG, until};

/// A pool that serves strictly in order of arrival.
fn strict() -> Pool {
    testing::temporary_with(Pool::builder().overtaking(Duration::ZERO)).unwrap()
}

fn waiting(pool: &Pool) -> usize {
    pool.status().write.unwrap().waiting.len()
}

#[test]
fn waiters_are_served_in_order_of_arrival() {
    let pool = strict();
    let (served, order) = mpsc::channel();
    let first = pool.write().unwrap();
    thread::scope(|scope| {
        for number in 0..16 {
            let (pool, served) = (&pool, served.clone());
            scope.spawn(move || {
                let writer = pool.write_timeout(LONG).unwrap();
                served.send(number).unwrap();
                drop(writer);
            });
            until("the waiter is in the queue", || waiting(pool) == number + 1);
        }
        drop(first);
    });
    drop(served);
    assert_eq!(order.iter().collect::<Vec<_>>(), (0..16).collect::<Vec<_>>());
}

#[test]
fn a_newcomer_does_not_overtake_a_waiter() {
    let pool = strict();
    let first = pool.write().unwrap();
    thread::scope(|scope| {
        let (got_it, told) = mpsc::channel();
        let (go_on, wait) = mpsc::channel::<()>();
        let waiter = &pool;
        scope.spawn(move || {
            let writer = waiter.write_timeout(LONG).unwrap();
            got_it.send(()).unwrap();
            wait.recv().unwrap();
            drop(writer);
        });
        until("the waiter is in the queue", || waiting(&pool) == 1);
        drop(first);
        // The connection has been handed over already, whether the waiter has woken or not.
        let error = pool.try_write().unwrap_err();
        assert_eq!(error.kind(), CheckoutErrorKind::Unavailable);
        told.recv().unwrap();
        go_on.send(()).unwrap();
    });
}

#[test]
fn a_wait_ends_by_its_deadline_and_names_the_holder() {
    let pool = testing::temporary_with(Pool::builder().readers(1)).unwrap();
    let _reader = pool.read().unwrap();
    let began = Instant::now();
    let wait = || pool.read_timeout(Duration::from_millis(30)).map(drop).unwrap_err();
    let error = thread::scope(|scope| scope.spawn(wait).join().unwrap());
    assert!(began.elapsed() >= Duration::from_millis(30));
    assert_eq!(error.kind(), CheckoutErrorKind::Timeout);
    let text = error.to_string();
    let thread = thread::current().name().unwrap().to_owned();
    for part in
        ["read checkout timed out after 3", "1 of 1 connections held", "checkout.rs", &thread]
    {
        assert!(text.contains(part), "{part:?} is missing in: {text}");
    }
    assert!(pool.status().read.waiting.is_empty(), "the waiter left the queue");
}

#[test]
fn the_configured_timeout_is_the_usual_one() {
    let builder = Pool::builder()
        .busy_timeout(Duration::from_millis(1))
        .checkout_timeout(Duration::from_millis(20));
    let pool = testing::temporary_with(builder).unwrap();
    let _writer = pool.write_owned().unwrap().detach();
    let error = pool.write().unwrap_err();
    assert_eq!(error.kind(), CheckoutErrorKind::Timeout);
    assert!(error.waited() >= Duration::from_millis(20));
}

#[test]
fn a_full_queue_refuses_at_once() {
    let pool = Recorded::with(Pool::builder().max_waiters(1));
    let first = pool.write().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| drop(pool.write_timeout(LONG).unwrap()));
        until("the waiter is in the queue", || waiting(&pool) == 1);
        let error = pool.write_timeout(LONG).unwrap_err();
        assert_eq!(error.kind(), CheckoutErrorKind::Overloaded);
        assert!(error.to_string().contains("max_waiters"), "{error}");
        drop(first);
    });
    assert_eq!(pool.checkouts("write", "overloaded"), 1.0);
}

#[test]
fn a_try_never_waits() {
    let pool = testing::temporary_with(Pool::builder().readers(1)).unwrap();
    let (reader, writer) = (pool.try_read().unwrap(), pool.try_write().unwrap());
    assert_eq!(pool.try_read().unwrap_err().kind(), CheckoutErrorKind::Unavailable);
    assert_eq!(pool.try_write().unwrap_err().kind(), CheckoutErrorKind::Unavailable);
    drop((reader, writer));
    assert!(pool.try_read().is_ok() && pool.try_write().is_ok());
}

#[test]
fn readers_and_the_writer_do_not_wait_for_each_other() {
    let pool = testing::temporary_with(Pool::builder().readers(2)).unwrap();
    let mut writer = pool.write().unwrap();
    let tx = writer.transaction().unwrap();
    tx.execute_batch("CREATE TABLE task (title TEXT)").unwrap();
    let readers = [pool.try_read().unwrap(), pool.try_read().unwrap()];
    for reader in &readers {
        assert!(!reader.table_exists(None, "task").unwrap(), "not committed yet");
    }
    tx.commit().unwrap();
    assert!(readers[0].table_exists(None, "task").unwrap());
}

#[test]
fn never_more_connections_than_the_limit_and_none_lost() {
    const THREADS: usize = 16;
    const ROUNDS: usize = 500;
    let pool = Recorded::with(Pool::builder().readers(3).hold_sampling(1));
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for _ in 0..ROUNDS {
                    let reader = pool.read_timeout(LONG).unwrap();
                    let status = pool.status().read;
                    assert!(status.held.len() <= 3 && status.open <= 3, "{status:?}");
                    drop(reader);
                }
            });
        }
    });
    let status = pool.status().read;
    assert_eq!((status.idle, status.open, status.held.len()), (3, 3, 0));
    let served = pool.checkouts("read", "immediate") + pool.checkouts("read", "waited");
    assert_eq!(served, (THREADS * ROUNDS) as f64);
    assert_eq!(pool.value("tenure_hold_seconds_count", &[("role", "read")]), served);
}

#[test]
fn deadlines_and_hand_offs_that_meet_lose_nothing() {
    let pool = testing::temporary().unwrap();
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for round in 0..300_u64 {
                    // Short enough that many time out just as the writer comes back.
                    let _ = pool.write_timeout(Duration::from_micros(round % 60));
                }
            });
        }
    });
    let status = pool.status().write.unwrap();
    assert_eq!((status.idle, status.held.len(), status.waiting.len()), (1, 0, 0), "{status:?}");
}

#[test]
fn the_pool_can_end_while_somebody_waits_or_holds() {
    let pool = testing::temporary().unwrap();
    let held = pool.write_owned().unwrap();
    let other = pool.clone();
    let waiter = thread::spawn(move || other.write_timeout(LONG).map(drop));
    until("the waiter is in the queue", || waiting(&pool) == 1);
    drop(pool);
    // The waiter's own clone keeps the pool going until it has had its turn.
    drop(held);
    assert!(waiter.join().unwrap().is_ok());
}

#[test]
fn a_connection_is_closed_after_its_lifetime_and_another_opened() {
    let builder = Pool::builder().readers(2).max_lifetime(Duration::from_secs(1));
    let pool = Recorded::with(builder);
    let held = pool.read().unwrap();
    let closed = [("role", "read"), ("reason", "lifetime")];
    let closed = || pool.value("tenure_connections_closed_total", &closed);
    until("the idle one was replaced", || closed() >= 1.0 && pool.status().read.open == 2);
    assert_eq!(pool.status().read.held.len(), 1, "the one that is held stays");
    let before = closed();
    drop(held);
    until("the other one was replaced", || closed() > before && pool.status().read.open == 2);
}

#[test]
fn a_newcomer_may_overtake_for_as_long_as_is_configured() {
    let pool = testing::temporary_with(Pool::builder().overtaking(Duration::from_secs(1))).unwrap();
    let first = pool.write().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| drop(pool.write_timeout(LONG).unwrap()));
        until("the waiter is in the queue", || waiting(&pool) == 1);
        drop(first);
        // Before the waiter has woken, or after it has been served: at once in either case.
        drop(pool.write_timeout(LONG).unwrap());
    });
}

#[test]
fn a_timeout_too_long_to_be_represented_is_none() {
    let pool = testing::temporary().unwrap();
    assert!(pool.read_timeout(Duration::MAX).is_ok());
}
