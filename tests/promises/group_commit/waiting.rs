//! Who waits is answered, by its deadline if it was not begun, and who cannot be served is told why.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use tenure::rusqlite::Connection;
use tenure::{
    Access, BeginError, CheckoutErrorKind, CloseError, CommitError, Error, Pool, testing,
};

use super::{
    Gathered, Paused, SHORT, batches, builder, caller, checkout_refusal, ended, pool, titles,
    writes,
};
use crate::recorded::Recorded;
use crate::until::{LONG, until};

/// Tells where it was dropped.
struct Told(mpsc::Sender<ThreadId>);

impl Drop for Told {
    fn drop(&mut self) {
        self.0.send(thread::current().id()).unwrap();
    }
}

#[test]
fn a_deadline_that_passes_before_the_closure_began_takes_it_back() {
    let pool = Recorded::with(builder().checkout_timeout(SHORT).busy_timeout(SHORT));
    let writer = pool.write().unwrap();
    writer.set_label("import");
    let callers: Vec<_> = (0..3)
        .map(|_| {
            let (pool, (dropped, is_dropped)) = (pool.pool.clone(), mpsc::channel());
            thread::spawn(move || {
                let told = Told(dropped);
                let result = pool.group_commit(move |_| {
                    drop(told);
                    Ok(())
                });
                assert_eq!(
                    is_dropped.try_recv(),
                    Ok(thread::current().id()),
                    "dropped here, before it returned"
                );
                result
            })
        })
        .collect();
    for caller in callers {
        let error = caller.join().unwrap().unwrap_err();
        let Error::Checkout(refused) = &error else { panic!("{error}") };
        assert_eq!(refused.kind(), CheckoutErrorKind::Timeout);
        assert!(refused.waited() >= SHORT, "{:?}", refused.waited());
        let text = error.to_string();
        assert!(text.starts_with("write checkout timed out after"), "{text}");
        assert!(text.contains("1 of 1 connections held"), "{text}");
        assert!(text.contains("import") && text.contains("waiting.rs"), "{text}");
    }
    assert_eq!((pool.status().group_commit.callers, ended(&pool, "not_begun")), (0, 3.0));
    drop(writer);
    // The lead is not lost, and the queue is empty again.
    pool.group_commit(writes("a")).unwrap();
    assert_eq!((titles(&pool).as_str(), batches(&pool)), ("a", (1.0, 1.0)));
}

#[test]
fn who_gave_up_makes_room_in_the_queue() {
    let pool = Recorded::with(builder().checkout_timeout(SHORT).busy_timeout(SHORT).max_waiters(2));
    let paused = Paused::begin(&pool, "long");
    for _ in 0..5 {
        let [one, two] = ["x", "y"].map(|title| caller(&pool, writes(title)));
        for refused in [one, two] {
            assert_eq!(checkout_refusal(refused.join().unwrap()), CheckoutErrorKind::Timeout);
        }
    }
    assert_eq!(pool.checkouts("write", "timeout"), 10.0);
    paused.end().unwrap();
    pool.group_commit(writes("a")).unwrap();
    assert_eq!(titles(&pool), "long a");
}

#[test]
fn a_closure_that_was_begun_is_waited_for() {
    let pool = Recorded::with(builder().checkout_timeout(SHORT).busy_timeout(SHORT));
    let paused = Paused::begin(&pool, "long");
    assert_eq!(checkout_refusal(pool.group_commit(|_| Ok(()))), CheckoutErrorKind::Timeout);
    assert!(!paused.caller.is_finished());
    assert_eq!(paused.end().unwrap(), "long");
}

#[test]
fn who_waits_to_share_is_named() {
    let pool = pool();
    let gathered = Gathered::on(&pool);
    let leader = gathered.caller(writes("leader"));
    until("it waits for the writer", || pool.status().write.unwrap().waiting.len() == 1);
    assert_eq!(pool.status().group_commit.waiting, []);
    let named = |name: &str| {
        let (own, inside) = (pool.clone(), pool.status().group_commit.callers);
        let work = move || own.group_commit(|_| Ok(()));
        let caller = thread::Builder::new().name(name.to_owned()).spawn(work).unwrap();
        until("it is in", || pool.status().group_commit.callers == inside + 1);
        caller
    };
    let callers = ["first", "second"].map(named);
    let status = pool.status();
    let waiting = &status.group_commit.waiting;
    let threads: Vec<_> = waiting.iter().map(|waiter| &*waiter.thread).collect();
    assert_eq!((status.group_commit.callers, &*threads), (3, &["first", "second"][..]));
    assert!(waiting.iter().all(|waiter| waiter.place.contains("waiting.rs")), "{waiting:?}");
    assert!(waiting[0].waited >= waiting[1].waited && !waiting[1].waited.is_zero());
    let page = status.to_string();
    assert!(
        page.contains("group commit: 3 callers, 2 waiting\n    thread `first` waiting"),
        "{page}"
    );
    pool.publish_metrics();
    assert_eq!(pool.value("tenure_group_commit_waiters", &[]), 2.0);
    gathered.go();
    leader.join().unwrap().unwrap();
    callers.into_iter().for_each(|caller| caller.join().unwrap().unwrap());
    assert_eq!(pool.status().group_commit.waiting, []);
    pool.publish_metrics();
    assert_eq!(pool.value("tenure_group_commit_waiters", &[]), 0.0);
}

#[test]
fn the_queue_is_bounded() {
    for most in [0, 1] {
        let pool = Recorded::with(builder().max_waiters(most));
        assert_eq!(pool.group_commit(writes("alone")).unwrap(), "alone");
        let paused = Paused::begin(&pool, "long");
        let waiting: Vec<_> = (0..most).map(|_| caller(&pool, writes("waited"))).collect();
        let error = pool.group_commit(|_| Ok(())).unwrap_err();
        assert_eq!(pool.status().group_commit.callers, most + 1);
        let text = error.to_string();
        assert_eq!(checkout_refusal(Err::<(), _>(error)), CheckoutErrorKind::Overloaded, "{text}");
        assert!(text.contains(&format!("{most} threads wait already (`max_waiters`)")), "{text}");
        assert_eq!(ended(&pool, "not_begun"), 1.0);
        assert_eq!(pool.checkouts("write", "overloaded"), 1.0);
        paused.end().unwrap();
        for waiting in waiting {
            waiting.join().unwrap().unwrap();
        }
    }
}

#[test]
fn calls_that_could_only_wait_for_themselves_are_refused_at_once() {
    let pool = pool();
    let inside = pool.pool.clone();
    pool.group_commit(move |tx| {
        super::insert(tx, "a")?;
        let nested = inside.group_commit(|_| Ok(()));
        assert_eq!(checkout_refusal(nested), CheckoutErrorKind::WouldDeadlock);
        let nested = inside.transaction(|_| Ok(()));
        assert_eq!(checkout_refusal(nested), CheckoutErrorKind::WouldDeadlock);
        assert_eq!(inside.write().unwrap_err().kind(), CheckoutErrorKind::WouldDeadlock);
        assert_eq!(titles(&inside), "", "reading is fine");
        Ok(())
    })
    .unwrap();
    let writer = pool.write().unwrap();
    let holding = pool.group_commit(|_| Ok(()));
    let text = holding.as_ref().unwrap_err().to_string();
    assert!(text.contains("waiting.rs"), "{text}");
    assert_eq!(checkout_refusal(holding), CheckoutErrorKind::WouldDeadlock);
    drop(writer);
    let result: Result<(), _> = pool.transaction(|_| {
        assert_eq!(
            checkout_refusal(pool.group_commit(|_| Ok(()))),
            CheckoutErrorKind::WouldDeadlock
        );
        Ok(())
    });
    result.unwrap();
    assert_eq!(pool.group_commit(writes("b")).unwrap(), "b");
    assert_eq!((titles(&pool).as_str(), ended(&pool, "not_begun")), ("a b", 3.0));
}

#[test]
fn who_holds_a_reader_shares_with_nobody_and_is_in_nobodys_way() {
    let pool = pool();
    let gathered = Gathered::on(&pool);
    let shared = gathered.caller(writes("shared"));
    let own = pool.pool.clone();
    let me = thread::spawn(move || {
        let reader = own.read().unwrap();
        let ran_on = own.group_commit(|tx| {
            super::insert(tx, "alone")?;
            Ok(thread::current().id())
        });
        drop(reader);
        assert_eq!(ran_on.unwrap(), thread::current().id());
    });
    until("both wait for the writer", || pool.status().write.unwrap().waiting.len() == 2);
    assert_eq!(pool.status().group_commit.callers, 2);
    let page = pool.status().to_string();
    assert!(page.contains("group commit: 2 callers, 0 waiting"), "{page}");
    let also_shared = gathered.caller(writes("too"));
    gathered.go();
    for caller in [shared, also_shared] {
        caller.join().unwrap().unwrap();
    }
    me.join().unwrap();
    assert_eq!((titles(&pool).as_str(), batches(&pool)), ("shared too alone", (2.0, 3.0)));
}

#[test]
fn a_thread_that_holds_the_only_reader_and_waits_for_a_group_is_found_out() {
    let pool = Recorded::with(builder().readers(1));
    let (inside, (reader_taken, is_taken)) = (pool.pool.clone(), mpsc::channel::<()>());
    let (running, runs) = mpsc::channel();
    let other = caller(&pool, move |_| {
        running.send(()).unwrap();
        is_taken.recv_timeout(LONG).unwrap();
        Ok(inside.read().map(drop).map_err(|error| error.kind()))
    });
    runs.recv_timeout(LONG).unwrap();
    let holder = pool.pool.clone();
    let holder = thread::spawn(move || {
        let _reader = holder.read().unwrap();
        reader_taken.send(()).unwrap();
        holder.group_commit(|_| Ok(())).map_err(|error| checkout_refusal(Err::<(), _>(error)))
    });
    let (other, holder) = (other.join().unwrap().unwrap(), holder.join().unwrap());
    let told =
        [other, holder].into_iter().filter(|it| *it == Err(CheckoutErrorKind::WouldDeadlock));
    assert_eq!(told.count(), 1, "{other:?} {holder:?}");
}

#[test]
fn a_pool_that_cannot_write_refuses() {
    let pool = pool();
    let path = pool.config().database.clone().unwrap();
    let read_only = Recorded::opened(|| {
        Pool::builder().database(&path).access(Access::ReadOnly).open().unwrap()
    });
    assert_eq!(checkout_refusal(read_only.group_commit(|_| Ok(()))), CheckoutErrorKind::ReadOnly);
    assert_eq!(ended(&read_only, "not_begun"), 1.0);
    pool.close(LONG).unwrap();
    assert_eq!(checkout_refusal(pool.group_commit(|_| Ok(()))), CheckoutErrorKind::Closed);
    assert_eq!(ended(&pool, "not_begun"), 1.0);
}

#[test]
fn closing_serves_whom_it_has_let_in_and_nobody_else() {
    // Each needs the writer for itself.
    let pool = Recorded::with(builder().group_commit_max_size(1));
    let first = Paused::begin(&pool, "a");
    let others = ["b", "c"].map(|title| caller(&pool, writes(title)));
    let closing = pool.pool.clone();
    let closing = thread::spawn(move || closing.close(LONG));
    until("it has begun to close", || {
        pool.try_read().is_err_and(|error| error.kind() == CheckoutErrorKind::Closed)
    });
    assert_eq!((pool.status().group_commit.callers, closing.is_finished()), (3, false));
    assert_eq!(first.end().unwrap(), "a");
    for (other, title) in others.into_iter().zip(["b", "c"]) {
        assert_eq!(other.join().unwrap().unwrap(), title);
    }
    closing.join().unwrap().unwrap();
    assert_eq!(checkout_refusal(pool.group_commit(|_| Ok(()))), CheckoutErrorKind::Closed);
    assert_eq!((ended(&pool, "commit"), pool.status().group_commit.callers), (3.0, 0));
}

#[test]
fn a_close_whose_deadline_passes_turns_away_whom_nobody_has_begun() {
    let pool = Recorded::with(builder().group_commit_max_size(1));
    let first = Paused::begin(&pool, "a");
    let second = caller(&pool, writes("b"));
    let error = pool.close(SHORT).unwrap_err();
    assert!(matches!(error, CloseError::StillOut { .. }), "{error}");
    assert_eq!(first.end().unwrap(), "a", "what was begun is finished");
    assert_eq!(checkout_refusal(second.join().unwrap()), CheckoutErrorKind::Closed);
    pool.close(LONG).unwrap();
}

#[test]
fn an_outsider_that_keeps_the_lock_costs_each_its_own_wait_and_no_more() {
    let busy = Duration::from_millis(20);
    let pool = Recorded::with(builder().busy_timeout(busy).checkout_timeout(LONG));
    let outside = Connection::open(pool.config().database.clone().unwrap()).unwrap();
    outside.execute_batch("BEGIN IMMEDIATE").unwrap();
    let gathered = Gathered::on(&pool);
    let callers = ["a", "b", "c"].map(|title| gathered.caller(writes(title)));
    gathered.go();
    for caller in callers {
        let result = caller.join().unwrap();
        assert!(matches!(result, Err(Error::Begin(BeginError::Busy { .. }))), "{result:?}");
    }
    assert_eq!((ended(&pool, "not_begun"), pool.transactions("group", "busy")), (3.0, 3.0));

    // With a deadline that comes first, those who wait are told so by then.
    let pool = Recorded::with(
        builder().busy_timeout(Duration::from_secs(3)).checkout_timeout(Duration::from_secs(4)),
    );
    let outside_too = Connection::open(pool.config().database.clone().unwrap()).unwrap();
    outside_too.execute_batch("BEGIN IMMEDIATE").unwrap();
    let began = Instant::now();
    let gathered = Gathered::on(&pool);
    let callers = ["a", "b", "c", "d", "e"].map(|title| gathered.caller(writes(title)));
    gathered.go();
    let busy = callers.map(|caller| {
        matches!(caller.join().unwrap().unwrap_err(), Error::Begin(BeginError::Busy { .. }))
    });
    assert!(busy.iter().filter(|busy| **busy).count() <= 3, "{busy:?}");
    // Its deadline and one wait for the lock; one after the other they would have waited 15 s.
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    drop(outside);
    outside_too.execute_batch("COMMIT").unwrap();
    pool.group_commit(writes("a")).unwrap();
}

#[test]
fn damage_that_a_closure_meets_stops_the_pool_for_all() {
    let pool = pool();
    pool.write()
        .unwrap()
        .execute_batch("CREATE TABLE big (x); INSERT INTO big VALUES (zeroblob(20000))")
        .unwrap();
    let root: u32 = {
        let sql = "SELECT rootpage FROM sqlite_schema WHERE name = 'big'";
        pool.read().unwrap().query_one(sql, [], |row| row.get(0)).unwrap()
    };
    let path = pool.config().database.clone().unwrap();
    pool.write().unwrap().query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    pool.close(LONG).unwrap();
    let copy = tempfile::tempdir().unwrap();
    let damaged = copy.path().join("damaged.db");
    let mut bytes = std::fs::read(path).unwrap();
    let at = (root as usize - 1) * 4096;
    bytes[at..at + 4096].fill(0x5a);
    std::fs::write(&damaged, bytes).unwrap();

    let pool = Recorded::opened(|| {
        let builder = Pool::builder().database(&damaged).group_commit_max_time(LONG);
        builder.checkout_timeout(LONG).open().unwrap()
    });
    let gathered = Gathered::on(&pool);
    let before = gathered.caller(writes("undone"));
    let meets = gathered.caller(|tx| Ok(tx.query_one("SELECT * FROM big", [], |_| Ok(()))?));
    let after = gathered.caller(writes("after"));
    gathered.go();
    for result in [before.join().unwrap().map(drop), meets.join().unwrap()] {
        assert!(matches!(result, Err(Error::Commit(CommitError::Damaged))), "{result:?}");
    }
    assert_eq!(checkout_refusal(after.join().unwrap()), CheckoutErrorKind::Damaged);
    assert_eq!(checkout_refusal(pool.group_commit(|_| Ok(()))), CheckoutErrorKind::Damaged);
    assert_eq!((ended(&pool, "aborted"), ended(&pool, "not_begun")), (2.0, 2.0));
}

#[test]
fn a_connection_that_cannot_be_opened_is_told_to_each_and_the_lead_goes_on() {
    let faulty = Arc::new(AtomicUsize::new(0));
    let switch = Arc::clone(&faulty);
    let builder =
        builder().checkout_timeout(SHORT).busy_timeout(SHORT).on_connect(move |_, _| match switch
            .load(Ordering::Relaxed)
        {
            0 => Ok(()),
            _ => Err("no more connections".into()),
        });
    let pool = testing::temporary_with(builder).unwrap();
    let gathered = Gathered::on(&pool);
    faulty.store(1, Ordering::Relaxed);
    // The connection is closed when it comes back.
    gathered.writer.rusqlite().execute_batch("PRAGMA cache_size = 7").unwrap();
    let callers = ["a", "b", "c"].map(|title| gathered.caller(writes(title)));
    gathered.go();
    for caller in callers {
        let error = caller.join().unwrap().unwrap_err();
        assert!(matches!(error, Error::Checkout(_)), "{error}");
    }
    faulty.store(0, Ordering::Relaxed);
    until("it can be opened again", || pool.group_commit(writes("d")).is_ok());
    assert_eq!(titles(&pool), "d");
}
