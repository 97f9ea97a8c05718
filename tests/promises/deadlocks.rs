//! Threads that hold connections and wait for each other's are told at once; others are not.

use std::mem;
use std::sync::{Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use tenure::{CheckoutError, CheckoutErrorKind, Error, Pool, ReadGuard, Role, WriteGuard, testing};

use crate::recorded::Recorded;
use crate::until::{LONG, until};

/// Strict order has fewer ways to go, the default more.
pub(crate) const OVERTAKING: [Duration; 2] = [Duration::ZERO, Duration::from_micros(30)];

pub(crate) fn pool(readers: usize) -> Pool {
    testing::temporary_with(Pool::builder().readers(readers)).unwrap()
}

fn waits_to_read(pool: &Pool) -> bool {
    !pool.status().read.waiting.is_empty()
}

fn waits_to_write(pool: &Pool) -> bool {
    !pool.status().write.unwrap().waiting.is_empty()
}

/// The error is about a deadlock, and names all of these: threads, and lines of this file.
pub(crate) fn assert_deadlock(error: &CheckoutError, names: &[&str], lines: &[u32]) {
    assert_eq!(error.kind(), CheckoutErrorKind::WouldDeadlock, "{error}");
    let text = error.to_string();
    let places = lines.iter().map(|line| format!("tests/promises/deadlocks.rs:{line}:"));
    for part in names.iter().map(|name| format!("thread `{name}` holds a ")).chain(places) {
        assert!(text.contains(&part), "{part:?} is missing in: {text}");
    }
    assert_eq!(error.holders().len(), names.len(), "{text}");
}

/// A guard of either role.
pub(crate) enum Guard<'p> {
    Read(#[allow(dead_code)] ReadGuard<'p>),
    Write(#[allow(dead_code)] WriteGuard<'p>),
}

pub(crate) type Resource<'p> = (&'p Pool, Role);

#[track_caller]
pub(crate) fn take((pool, role): Resource<'_>) -> Result<Guard<'_>, CheckoutError> {
    match role {
        Role::Write => pool.write_timeout(LONG).map(Guard::Write),
        _ => pool.read_timeout(LONG).map(Guard::Read),
    }
}

/// Each of these threads takes the first, and when all have it they ask for the second. Exactly one
/// is refused, whichever closes the circle; it gives up what it has, and all others are served.
fn circle(threads: &[(&str, Resource<'_>, Resource<'_>)]) {
    let all = Barrier::new(threads.len());
    let results: Vec<_> = thread::scope(|scope| {
        let work = |(name, first, second): &(&str, _, _)| {
            let (all, first, second) = (&all, *first, *second);
            spawn(scope, name, move || {
                let (first, taken) = (take(first).unwrap(), line!());
                all.wait();
                let (second, asked) = (take(second), line!());
                drop(first);
                second.map(drop).map_err(|error| (error, [taken, asked]))
            })
        };
        let threads: Vec<_> = threads.iter().map(work).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let refused: Vec<_> = results.into_iter().filter_map(Result::err).collect();
    let [(error, lines)] = &refused[..] else { panic!("one would have been enough: {refused:?}") };
    let names: Vec<_> = threads.iter().map(|(name, ..)| *name).collect();
    assert_deadlock(error, &names, lines);
}

/// A named thread, so that errors can be compared.
pub(crate) fn spawn<'s, T: Send + 's>(
    scope: &'s thread::Scope<'s, '_>,
    name: &str,
    work: impl FnOnce() -> T + Send + 's,
) -> thread::ScopedJoinHandle<'s, T> {
    thread::Builder::new().name(name.to_owned()).spawn_scoped(scope, work).unwrap()
}

#[test]
fn to_wait_for_the_writer_while_holding_it() {
    let pool = Recorded::new();
    let began = Instant::now();
    let (writer, taken) = (pool.write().unwrap(), line!());
    let (error, asked) = (pool.write_timeout(LONG).unwrap_err(), line!());
    assert!(began.elapsed() < LONG, "at once");
    let name = thread::current().name().unwrap().to_owned();
    assert_deadlock(&error, &[&name], &[taken, asked]);
    let [holder] = error.holders() else { panic!("{error}") };
    assert_eq!((holder.holds.role, holder.waits_for.role), ("write", "write"));
    assert_eq!(holder.holds.pool, pool.name());
    assert!(!waits_to_write(&pool), "the waiter left the queue");
    assert_eq!(pool.checkouts("write", "deadlock"), 1.0);
    assert!(!Error::from(error).is_overload(), "to try again later is no help");
    assert_eq!(pool.try_write().unwrap_err().kind(), CheckoutErrorKind::Unavailable);
    drop(writer);
    assert!(pool.try_write().is_ok());
}

#[test]
fn to_wait_for_the_last_reader_while_holding_it() {
    let pool = pool(1);
    let (_reader, taken) = (pool.read().unwrap(), line!());
    let (error, asked) = (pool.read_timeout(LONG).unwrap_err(), line!());
    assert_deadlock(&error, &[thread::current().name().unwrap()], &[taken, asked]);
}

#[test]
fn to_wait_for_a_reader_while_holding_all_of_them() {
    let pool = pool(3);
    let readers = [pool.read().unwrap(), pool.read().unwrap(), pool.read().unwrap()];
    let error = pool.read_timeout(LONG).unwrap_err();
    assert_eq!(error.kind(), CheckoutErrorKind::WouldDeadlock, "{error}");
    assert_eq!(error.holders().len(), 3, "each of its connections is named: {error}");
    drop(readers);
    assert!(pool.read().is_ok());
}

#[test]
fn a_transaction_begun_inside_of_another() {
    let pool = testing::temporary().unwrap();
    let error = pool
        .transaction(|_| {
            pool.transaction(|_| Ok(()))?;
            Ok(())
        })
        .unwrap_err();
    let Error::Checkout(error) = error else { panic!("{error}") };
    assert_eq!(error.kind(), CheckoutErrorKind::WouldDeadlock);
    assert!(pool.transaction(|_| Ok(())).is_ok());
}

#[test]
fn a_reader_who_wants_to_write_and_a_writer_who_wants_to_read() {
    for overtaking in OVERTAKING {
        let pool = Pool::builder().readers(1).overtaking(overtaking);
        let pool = &testing::temporary_with(pool).unwrap();
        for _ in 0..50 {
            let (read, write) = ((pool, Role::Read), (pool, Role::Write));
            circle(&[("reads first", read, write), ("writes first", write, read)]);
        }
    }
}

#[test]
fn three_threads_over_two_pools() {
    let (one, other) = (&pool(1), &pool(1));
    for _ in 0..50 {
        circle(&[
            ("a", (one, Role::Write), (one, Role::Read)),
            ("b", (one, Role::Read), (other, Role::Write)),
            ("c", (other, Role::Write), (one, Role::Write)),
        ]);
    }
}

#[test]
fn several_who_hold_the_same_role() {
    let pool = &pool(3);
    let (read, write) = ((pool, Role::Read), (pool, Role::Write));
    for _ in 0..50 {
        circle(&[
            ("writes", write, read),
            ("reads 1", read, write),
            ("reads 2", read, write),
            ("reads 3", read, write),
        ]);
    }
}

#[test]
fn no_alarm_while_a_holder_is_doing_something() {
    let pool = &pool(2);
    let running = pool.read().unwrap();
    let all = &Barrier::new(2);
    thread::scope(|scope| {
        let ask = |name, first, second| {
            spawn(scope, name, move || {
                let _first = take((pool, first)).unwrap();
                all.wait();
                take((pool, second)).map(drop)
            })
        };
        let threads =
            [ask("reads", Role::Read, Role::Write), ask("writes", Role::Write, Role::Read)];
        until("both wait", || waits_to_read(pool) && waits_to_write(pool));
        drop(running);
        for thread in threads {
            thread.join().unwrap().expect("the one connection is enough for both");
        }
    });
}

#[test]
fn no_alarm_when_a_holder_waits_elsewhere_and_will_be_served() {
    let (here, elsewhere) = (&pool(1), &pool(1));
    let running = elsewhere.write().unwrap();
    let all = &Barrier::new(2);
    thread::scope(|scope| {
        let a = spawn(scope, "waits elsewhere", move || {
            let _reader = take((here, Role::Read)).unwrap();
            all.wait();
            take((elsewhere, Role::Write)).map(drop)
        });
        let b = spawn(scope, "waits here", move || {
            let _writer = take((here, Role::Write)).unwrap();
            all.wait();
            until("the other one waits elsewhere", || waits_to_write(elsewhere));
            take((here, Role::Read)).map(drop)
        });
        until("both wait", || waits_to_read(here) && waits_to_write(elsewhere));
        drop(running);
        for thread in [a, b] {
            thread.join().unwrap().expect("one after the other");
        }
    });
}

#[test]
fn what_comes_back_to_a_pool_that_was_made_smaller_is_no_way_out() {
    let (here, elsewhere) = (&pool(2), &pool(1));
    let running = elsewhere.write().unwrap();
    thread::scope(|scope| {
        let a = spawn(scope, "waits elsewhere", move || {
            let _reader = take((here, Role::Read)).unwrap();
            take((elsewhere, Role::Write)).map(drop)
        });
        until("it waits", || waits_to_write(elsewhere));
        let b = spawn(scope, "waits for itself", move || {
            let (_reader, taken) = (here.read().unwrap(), line!());
            here.resize(1).unwrap();
            let (error, asked) = (here.read_timeout(LONG).unwrap_err(), line!());
            assert_deadlock(&error, &["waits for itself"], &[taken, asked]);
        });
        b.join().unwrap();
        drop(running);
        a.join().unwrap().expect("the other one was never in its way");
    });
}

#[test]
fn no_alarm_while_a_connection_is_detached() {
    let pool = pool(1);
    let detached = pool.read_owned().unwrap().detach();
    let writer = pool.write().unwrap();
    // Some other thread may drop it, for all that can be known.
    let error = pool.read_timeout(Duration::from_millis(1)).unwrap_err();
    assert_eq!(error.kind(), CheckoutErrorKind::Timeout, "{error}");
    assert!(error.holders().is_empty());
    let _attached = detached.attach();
    let error = pool.read_timeout(LONG).unwrap_err();
    assert_eq!(error.kind(), CheckoutErrorKind::WouldDeadlock, "now it is this thread's: {error}");
    drop(writer);
}

#[test]
fn no_alarm_for_what_a_thread_that_has_ended_took_with_it() {
    let pool = &pool(1);
    thread::scope(|scope| {
        scope.spawn(|| mem::forget(pool.write().unwrap()));
    });
    let _reader = pool.read().unwrap();
    let error = pool.write_timeout(Duration::from_millis(1)).unwrap_err();
    assert_eq!(error.kind(), CheckoutErrorKind::Timeout, "{error}");
}

#[test]
fn a_second_connection_that_can_be_had_is_allowed_and_counted() {
    let pool = Recorded::with(Pool::builder().readers(2));
    let other = testing::temporary().unwrap();
    let nested = |role| pool.value("tenure_nested_checkouts_total", &[("role", role)]);
    drop((pool.read().unwrap(), pool.write().unwrap()));
    assert_eq!((nested("read"), nested("write")), (0.0, 1.0), "both live to the end of the line");
    drop(pool.read().unwrap());
    drop(pool.write().unwrap());
    assert_eq!((nested("read"), nested("write")), (0.0, 1.0), "one after the other");

    let of_another_pool = other.read().unwrap();
    drop(pool.read().unwrap());
    assert_eq!((nested("read"), nested("write")), (1.0, 1.0));
    drop(of_another_pool);

    let detached = pool.read_owned().unwrap().detach();
    drop(pool.read().unwrap());
    assert_eq!((nested("read"), nested("write")), (1.0, 1.0), "a detached one is nobody's");
    let attached = detached.attach();
    drop(pool.read().unwrap());
    assert_eq!((nested("read"), nested("write")), (2.0, 1.0));
    pool.write().unwrap().execute_batch("SELECT 1").unwrap();
    assert_eq!((nested("read"), nested("write")), (2.0, 2.0));
    let failed = [pool.read().unwrap()];
    pool.try_read().unwrap_err();
    assert_eq!(nested("read"), 3.0, "a checkout that failed is none");
    drop((failed, attached));
}

/// What the threads of the test below have and want, by the test's own books.
struct Books {
    limits: Vec<usize>,
    /// For each thread.
    holds: Vec<Vec<usize>>,
    wants: Vec<Option<usize>>,
}

impl Books {
    /// Whether this thread would wait in vain for what it wants. A thread has something later than the
    /// pool says so and gives it back earlier, so what is not a deadlock is not taken for one.
    fn in_vain(&self, thread: usize) -> bool {
        let mut wanted = vec![self.wants[thread].expect("it has just been refused")];
        let mut next = 0;
        while next < wanted.len() {
            let resource = wanted[next];
            next += 1;
            let mut held = 0;
            for (holds, wants) in self.holds.iter().zip(&self.wants) {
                let here = holds.iter().filter(|held| **held == resource).count();
                held += here;
                match wants {
                    _ if here == 0 => {}
                    None => return false,
                    Some(more) if wanted.contains(more) => {}
                    Some(more) => wanted.push(*more),
                }
            }
            if held < self.limits[resource] {
                return false;
            }
        }
        true
    }
}

#[test]
fn every_alarm_is_right_and_nobody_waits_in_vain() {
    const THREADS: usize = 8;
    const ROUNDS: usize = 400;
    for overtaking in OVERTAKING {
        let pool = |readers| {
            let builder = Pool::builder().readers(readers).overtaking(overtaking);
            testing::temporary_with(builder).unwrap()
        };
        let (one, other) = (&pool(1), &pool(3));
        let resources =
            [(one, Role::Read), (one, Role::Write), (other, Role::Read), (other, Role::Write)];
        let books = Mutex::new(Books {
            limits: vec![1, 1, 3, 1],
            holds: vec![Vec::new(); THREADS],
            wants: vec![None; THREADS],
        });
        let work = |thread: usize| {
            let mut random = fastrand::Rng::with_seed(thread as u64);
            let mut refused = 0;
            for _ in 0..ROUNDS {
                let mut guards = Vec::new();
                for _ in 0..random.usize(1..=3) {
                    let wanted = random.usize(..resources.len());
                    books.lock().unwrap().wants[thread] = Some(wanted);
                    // A deadlock that is overlooked ends in a time-out.
                    let result = take(resources[wanted]);
                    let mut books = books.lock().unwrap();
                    if let Err(error) = &result {
                        assert_eq!(error.kind(), CheckoutErrorKind::WouldDeadlock, "{error}");
                        assert!(books.in_vain(thread), "a false alarm: {error}");
                        refused += 1;
                    }
                    books.wants[thread] = None;
                    let Ok(guard) = result else { break };
                    books.holds[thread].push(wanted);
                    guards.push(guard);
                }
                thread::yield_now();
                books.lock().unwrap().holds[thread].clear();
            }
            refused
        };
        let refused: usize = thread::scope(|scope| {
            let work = &work;
            let threads: Vec<_> = (0..THREADS).map(|t| scope.spawn(move || work(t))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert!(refused > 0, "the test has met no deadlock");
        for pool in [one, other] {
            let status = pool.status();
            let write = status.write.unwrap();
            assert_eq!(status.read.held.len() + write.held.len(), 0);
            assert_eq!((status.read.idle, write.idle), (status.read.limit, 1));
        }
    }
}
