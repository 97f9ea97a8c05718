//! Threads that all sleep, and wait for each other because their pool was made smaller, are told so;
//! others are not.

use std::sync::{Barrier, mpsc};
use std::thread;
use std::time::Duration;

use tenure::{CheckoutError, CheckoutErrorKind, Pool, Role, testing};

use crate::deadlocks::{OVERTAKING, Resource, assert_deadlock, pool, spawn, take};
use crate::until::until;

/// A thread that has taken the first, and is to wait for the second.
struct Sleeper<'s> {
    thread: thread::ScopedJoinHandle<'s, Result<(), CheckoutError>>,
    go_on: mpsc::Sender<()>,
    wanted: Resource<'s>,
}

impl<'s> Sleeper<'s> {
    fn awake(
        scope: &'s thread::Scope<'s, '_>,
        name: &str,
        first: Resource<'s>,
        second: Resource<'s>,
    ) -> Self {
        let ((taken, is_taken), (go_on, goes_on)) = (mpsc::channel(), mpsc::channel());
        let thread = spawn(scope, name, move || {
            let _first = take(first).unwrap();
            taken.send(()).unwrap();
            goes_on.recv().unwrap();
            take(second).map(drop)
        });
        is_taken.recv().unwrap();
        Self { thread, go_on, wanted: second }
    }

    /// Returns when it is in the queue. It may not have looked for a deadlock yet, so which of two is
    /// the last one to do so is open.
    fn asleep(self) -> Self {
        let (pool, role) = self.wanted;
        let waiting = || {
            let status = pool.status();
            let role = if role == Role::Write { status.write.unwrap() } else { status.read };
            role.waiting.len()
        };
        let before = waiting();
        self.go_on.send(()).unwrap();
        until("it waits", || waiting() > before);
        self
    }

    fn end(self) -> Result<(), CheckoutError> {
        self.thread.join().unwrap()
    }
}

/// One of the two was told, and of both; the other one has had what it waited for.
fn assert_one_of_them_was_told(names: [&str; 2], sleepers: [Sleeper<'_>; 2]) {
    let ends = sleepers.map(Sleeper::end);
    match ends {
        [Ok(()), Err(error)] | [Err(error), Ok(())] => assert_deadlock(&error, &names, &[]),
        other => panic!("one would have been enough, and was needed: {other:?}"),
    }
}

#[test]
fn a_pool_that_is_made_smaller_under_those_who_sleep() {
    for overtaking in OVERTAKING {
        let pool = Pool::builder().readers(2).overtaking(overtaking);
        let pool = &testing::temporary_with(pool).unwrap();
        let (read, write) = ((pool, Role::Read), (pool, Role::Write));
        let running = pool.read().unwrap();
        thread::scope(|scope| {
            let writes = Sleeper::awake(scope, "writes first", write, read);
            let reads = Sleeper::awake(scope, "reads first", read, write).asleep();
            let writes = writes.asleep();
            // What is held here would have been for the one that writes; now it will be closed.
            pool.resize(1).unwrap();
            drop(running);
            assert_one_of_them_was_told(["writes first", "reads first"], [writes, reads]);
        });
        until("one is left", || (pool.status().read.open, pool.status().read.idle) == (1, 1));
        assert!(pool.try_read().is_ok() && pool.try_write().is_ok());
    }
}

#[test]
fn no_alarm_when_a_smaller_pool_has_still_enough() {
    let pool = &pool(3);
    let (read, write) = ((pool, Role::Read), (pool, Role::Write));
    let running = [pool.read().unwrap(), pool.read().unwrap()];
    thread::scope(|scope| {
        let last = Sleeper::awake(scope, "writes first", write, read);
        let first = Sleeper::awake(scope, "reads first", read, write).asleep();
        let sleepers = [first, last.asleep()];
        // Of the two that are held here one will be closed, and the other one lent.
        pool.resize(2).unwrap();
        drop(running);
        for sleeper in sleepers {
            sleeper.end().unwrap();
        }
    });
}

#[test]
fn as_many_are_told_as_it_takes() {
    let mut twice = 0;
    for _ in 0..30 {
        let pool = &pool(3);
        let (read, write) = ((pool, Role::Read), (pool, Role::Write));
        let running = pool.read().unwrap();
        let ends = thread::scope(|scope| {
            let writes = Sleeper::awake(scope, "writes", write, read);
            let reads_too = Sleeper::awake(scope, "reads too", read, write);
            let reads = Sleeper::awake(scope, "reads", read, write).asleep();
            let (writes, reads_too) = (writes.asleep(), reads_too.asleep());
            pool.resize(1).unwrap();
            drop(running);
            [reads, writes, reads_too].map(|sleeper| sleeper.end().map_err(|error| error.kind()))
        });
        let told = Err(CheckoutErrorKind::WouldDeadlock);
        match ends {
            // What it gives back serves the others, one after the other.
            [Ok(()), writes, Ok(())] if writes == told => {}
            // What the one that reads gives back is closed, so it takes two.
            other => {
                assert_eq!(other.iter().filter(|end| **end == told).count(), 2, "{other:?}");
                assert_eq!(other.iter().filter(|end| end.is_ok()).count(), 1, "{other:?}");
                twice += 1;
            }
        }
    }
    assert!(twice > 0, "the one that writes was the last every time");
}

#[test]
fn who_only_stands_behind_a_circle_is_served_when_it_is_broken() {
    let (pool, behind) = (&pool(2), &pool(1));
    let (read, write) = ((pool, Role::Read), (pool, Role::Write));
    let running = pool.read().unwrap();
    thread::scope(|scope| {
        let writes = Sleeper::awake(scope, "writes first", write, read);
        let reads = Sleeper::awake(scope, "reads first", read, write).asleep();
        let writes = writes.asleep();
        let behind = Sleeper::awake(scope, "behind", (behind, Role::Read), write).asleep();
        pool.resize(1).unwrap();
        drop(running);
        assert_one_of_them_was_told(["writes first", "reads first"], [writes, reads]);
        behind.end().unwrap();
    });
}

#[test]
fn what_is_closed_when_it_comes_back_helps_nobody() {
    let (pool, elsewhere) = (&pool(2), &pool(1));
    let (read, write) = ((pool, Role::Read), (pool, Role::Write));
    let running = elsewhere.write().unwrap();
    thread::scope(|scope| {
        let writes = Sleeper::awake(scope, "writes first", write, read);
        let slow = Sleeper::awake(scope, "slow", read, (elsewhere, Role::Write)).asleep();
        let reads = Sleeper::awake(scope, "reads first", read, write).asleep();
        // What the slow one will give back is too much and will be closed.
        pool.resize(1).unwrap();
        writes.go_on.send(()).unwrap();
        until("one of them is told", || {
            [&writes, &reads].iter().any(|one| one.thread.is_finished())
        });
        drop(running);
        assert_one_of_them_was_told(["writes first", "reads first"], [writes, reads]);
        slow.end().unwrap();
    });
}

#[test]
fn nobody_waits_in_vain_while_the_limit_goes_up_and_down() {
    const THREADS: usize = 6;
    const ROUNDS: usize = 200;
    for overtaking in OVERTAKING {
        let builder = Pool::builder().readers(3).overtaking(overtaking);
        let pool = &testing::temporary_with(builder).unwrap();
        let working = &Barrier::new(THREADS + 1);
        let refused: usize = thread::scope(|scope| {
            let work = move |thread: usize| {
                let mut random = fastrand::Rng::with_seed(thread as u64);
                let mut refused = 0;
                working.wait();
                for _ in 0..ROUNDS {
                    let mut guards = Vec::new();
                    for _ in 0..random.usize(1..=3) {
                        let role = if random.bool() { Role::Read } else { Role::Write };
                        match take((pool, role)) {
                            Ok(guard) => guards.push(guard),
                            Err(error) => {
                                // A deadlock that is overlooked ends in a time-out.
                                assert_eq!(error.kind(), CheckoutErrorKind::WouldDeadlock);
                                refused += 1;
                                break;
                            }
                        }
                    }
                    thread::yield_now();
                }
                refused
            };
            let threads: Vec<_> = (0..THREADS).map(|t| scope.spawn(move || work(t))).collect();
            working.wait();
            for readers in [1, 3, 2].into_iter().cycle() {
                if threads.iter().all(thread::ScopedJoinHandle::is_finished) {
                    break;
                }
                pool.resize(readers).unwrap();
                thread::yield_now();
            }
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert!(refused > 0, "the test has met no deadlock");
        let limit = pool.status().read.limit;
        until("as many as the limit says", || pool.status().read.idle == limit);
    }
}

#[test]
fn what_is_left_of_a_smaller_pool_is_open() {
    let builder = Pool::builder().readers(3).idle_limit(Duration::from_secs(1));
    let pool = testing::temporary_with(builder).unwrap();
    let open = || pool.status().read.open;
    until("all were opened", || open() == 3);
    until("all but one were closed for age", || open() == 1);
    // It may well lie where the smaller pool has no place.
    pool.resize(1).unwrap();
    until("one is open", || open() == 1 && pool.status().read.idle == 1);
}
