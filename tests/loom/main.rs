//! Interleavings of threads over the slots, the queue and the hand-over.
//!
//! The files under test are compiled here by themselves, with loom's primitives in place of the real
//! ones, so that nothing else has to be built for it. A wait with a deadline is modelled as one that
//! times out as soon as no message is there: loom tries every moment at which that can be. A wait
//! without one that is never woken is a deadlock, which loom reports. The clock is scripted.
//!
//! `hand_off` has the essentials, of two and of three threads, nearly all of them in all interleavings;
//! `mailboxes` what a thread sleeps on while it waits; `leading` who leads a group commit. Here are whole checkouts and
//! returns of three threads, and what looks idle is seen as late as the memory model allows; `cargo test`
//! tries all of their interleavings with at most two preemptions, which is where such faults are found if
//! there are any. `TENURE_LOOM` = how many more, or `all`; use `--release`.

#![allow(dead_code, unreachable_pub)]

#[path = "../../src/checkout/dispatch.rs"]
mod dispatch;
#[path = "../../src/checkout/holders.rs"]
mod holders;
#[path = "../../src/checkout/pace.rs"]
mod pace;
#[path = "../../src/checkout/queue.rs"]
mod queue;
#[path = "../../src/checkout/slots.rs"]
mod slots;
#[path = "../../src/checkout/upkeep.rs"]
mod upkeep;
#[path = "../../src/who.rs"]
mod who;

mod clock;
mod leading;
mod mailbox;
mod mailboxes;
mod sync;
mod threads;

mod hand_off;

use std::panic::Location;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use dispatch::{Answer, Dispatch};
use holders::Asker;
use leading::{error, sqlite};
use queue::Turn;

/// How a thread asks.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Ask {
    /// Until it is served.
    Patiently,
    /// With a deadline that passes as soon as it matters.
    Impatiently,
    /// Without waiting.
    Try,
}

use Ask::{Impatiently, Patiently, Try};

/// A pool of slots. That no two threads have the same connection goes without a check: it is moved.
///
/// What only counts here is not loom's: it is not what is tested, and would multiply the interleavings.
struct Model {
    dispatch: Dispatch<Connection>,
    limit: usize,
    open: AtomicUsize,
    /// By threads that are through with their work.
    kept: AtomicUsize,
}

/// The connection of the slot of that number.
#[derive(Debug, PartialEq)]
struct Connection(usize);

impl Model {
    fn new(limit: usize, opened: usize, max_waiters: usize, overtaking: u64) -> Arc<Self> {
        let model = Self {
            dispatch: Dispatch::new(limit, limit, max_waiters, overtaking),
            limit,
            open: AtomicUsize::new(0),
            kept: AtomicUsize::new(0),
        };
        for _ in 0..opened {
            let slot = model.dispatch.room().unwrap();
            let connection = model.open(slot);
            assert!(model.dispatch.give(slot, connection).is_none());
        }
        Arc::new(model)
    }

    /// A checkout; `None` when it ended without a connection, which it may do only if it can.
    fn check_out(&self, ask: Ask) -> Option<Connection> {
        self.dispatch.take().or_else(|| self.ask(ask))
    }

    /// A checkout that has found nothing idle.
    fn ask(&self, ask: Ask) -> Option<Connection> {
        let asker = (ask != Try).then(|| Asker::current(Location::caller()));
        match self.dispatch.ask(asker, clock::now()) {
            Answer::Connection(connection) => Some(connection),
            Answer::Room(slot) => Some(self.open(slot)),
            Answer::Unavailable { .. } => {
                assert_eq!(ask, Try);
                None
            }
            Answer::Overloaded | Answer::Closed => None,
            Answer::Wait(waiter) => {
                let deadline = (ask == Impatiently).then(Instant::now);
                match self.dispatch.wait(&waiter, deadline, || None) {
                    Some(Turn::Connection(connection)) => Some(connection),
                    Some(Turn::Room(slot)) => Some(self.open(slot)),
                    Some(Turn::Closed | Turn::WouldDeadlock) => None,
                    None => {
                        assert_eq!(ask, Impatiently, "a wait without a deadline ended in vain");
                        None
                    }
                }
            }
        }
    }

    fn open(&self, slot: usize) -> Connection {
        let open = self.open.fetch_add(1, Ordering::Relaxed);
        assert!(open < self.limit, "above the limit");
        Connection(slot)
    }

    fn check_in(&self, connection: Connection) {
        if let Some(Connection(slot)) = self.dispatch.give(connection.0, connection) {
            self.open.fetch_sub(1, Ordering::Relaxed);
            self.dispatch.vacate_surplus(slot);
        }
    }

    /// The connection is closed instead of being given back.
    fn discard(&self, connection: Connection) {
        self.open.fetch_sub(1, Ordering::Relaxed);
        self.dispatch.vacate(connection.0);
    }

    /// When all is over, everything that is open and not kept is idle, and can be had at once.
    fn check_all_is_back(&self) {
        assert_eq!(self.dispatch.waiting(), 0);
        assert_eq!(self.dispatch.open(), self.open.load(Ordering::Relaxed));
        for _ in self.kept.load(Ordering::Relaxed)..self.dispatch.open() {
            assert!(self.dispatch.take().is_some(), "a connection is lost");
        }
    }
}

/// How many preemptions are tried.
#[derive(Clone, Copy)]
enum Depth {
    /// As many as there can be: every interleaving.
    All,
    /// So many, or what `TENURE_LOOM` says if that is more.
    UpTo(usize),
    /// So many, or all with any `TENURE_LOOM`.
    UpToOrAll(usize),
}

/// Runs each of these threads' work beside the others, in every order.
fn explore(
    depth: Depth,
    make: impl Fn() -> Arc<Model> + Send + Sync + 'static,
    threads: &[fn(&Model)],
    check: impl Fn(&Model) + Send + Sync + 'static,
) {
    let threads = threads.to_vec();
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = match depth {
        Depth::All => None,
        Depth::UpToOrAll(bound) => std::env::var_os("TENURE_LOOM").is_none().then_some(bound),
        Depth::UpTo(bound) => match std::env::var("TENURE_LOOM").as_deref() {
            Ok("all") => None,
            Ok(more) => Some(bound.max(more.parse().expect("TENURE_LOOM is a number, or all"))),
            Err(_) => Some(bound),
        },
    };
    let (bound, began) = (builder.preemption_bound, Instant::now());
    let count = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&count);
    builder.check(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        clock::reset();
        let model = make();
        let others: Vec<_> = threads[1..]
            .iter()
            .enumerate()
            .map(|(number, work)| {
                let (work, model) = (*work, Arc::clone(&model));
                loom::thread::spawn(move || {
                    threads::set_number(number as u64 + 2);
                    work(&model);
                })
            })
            .collect();
        threads[0](&model);
        for other in others {
            other.join().unwrap();
        }
        check(&model);
    });
    let (count, took) = (count.load(Ordering::Relaxed), began.elapsed());
    let bound =
        bound.map_or("all".to_owned(), |bound| format!("those with up to {bound} preemptions"));
    println!("{count} interleavings, {bound}, in {took:.1?}");
}

/// As [`explore`], with hints that are seen late.
fn explore_widely(
    make: impl Fn() -> Arc<Model> + Send + Sync + 'static,
    threads: &[fn(&Model)],
    check: impl Fn(&Model) + Send + Sync + 'static,
) {
    sync::set_late_hints(true);
    explore(Depth::UpTo(2), make, threads, check);
    sync::set_late_hints(false);
}

fn patient(model: &Model) {
    let connection = model.check_out(Patiently).expect("it waits until it is served");
    model.check_in(connection);
}

fn impatient(model: &Model) {
    if let Some(connection) = model.check_out(Impatiently) {
        model.check_in(connection);
    }
}

fn tries(model: &Model) {
    if let Some(connection) = model.check_out(Try) {
        model.check_in(connection);
    }
}

fn breaks_it(model: &Model) {
    let connection = model.check_out(Patiently).expect("it waits until it is served");
    model.discard(connection);
}

/// Strict order, newcomers first for ever, and newcomers first until the clock has moved on.
const OVERTAKING: [u64; 3] = [0, u64::MAX, 2];

fn on_one_connection(threads: &[fn(&Model)]) {
    for overtaking in OVERTAKING {
        explore_widely(move || Model::new(1, 1, 8, overtaking), threads, Model::check_all_is_back);
    }
}

#[test]
fn three_who_wait_for_one_connection_are_all_served() {
    on_one_connection(&[patient, patient, patient]);
}

#[test]
fn a_deadline_beside_two_who_wait_loses_nothing() {
    on_one_connection(&[patient, patient, impatient]);
}

#[test]
fn two_deadlines_beside_one_who_waits_lose_nothing() {
    on_one_connection(&[patient, impatient, impatient]);
}

#[test]
fn three_deadlines_lose_nothing() {
    on_one_connection(&[impatient, impatient, impatient]);
}

#[test]
fn who_only_tries_beside_those_who_wait_takes_nothing_away() {
    on_one_connection(&[patient, patient, tries]);
    on_one_connection(&[patient, impatient, tries]);
}

#[test]
fn two_connections_for_three_are_all_back_in_the_end() {
    for overtaking in OVERTAKING {
        for threads in [[patient as fn(&Model), patient, patient], [patient, patient, impatient]] {
            explore_widely(
                move || Model::new(2, 2, 8, overtaking),
                &threads,
                Model::check_all_is_back,
            );
        }
    }
}

#[test]
fn room_is_given_to_one_of_those_who_wait_for_it() {
    for overtaking in OVERTAKING {
        // Whoever comes first opens the one connection; what was broken is opened again.
        explore_widely(
            move || Model::new(1, 0, 8, overtaking),
            &[breaks_it, patient, patient],
            |model| {
                let open = model.dispatch.open();
                assert!(open <= 1);
                model.check_all_is_back();
            },
        );
        explore_widely(
            move || Model::new(1, 0, 8, overtaking),
            &[breaks_it, patient, impatient],
            |model| {
                let open = model.dispatch.open();
                assert!(open <= 1);
                model.check_all_is_back();
            },
        );
    }
}

#[test]
fn a_full_queue_refuses_and_serves_those_who_are_in_it() {
    for overtaking in OVERTAKING {
        let refused_or_served: fn(&Model) = |model| {
            if let Some(connection) = model.check_out(Patiently) {
                model.check_in(connection);
            }
        };
        explore_widely(
            move || Model::new(1, 1, 1, overtaking),
            &[refused_or_served, refused_or_served, refused_or_served],
            Model::check_all_is_back,
        );
    }
}

#[test]
fn closing_ends_every_wait_and_keeps_no_connection() {
    for overtaking in OVERTAKING {
        let ended_or_served: fn(&Model) = |model| {
            if let Some(connection) = model.check_out(Patiently) {
                model.check_in(connection);
            }
        };
        let closes: fn(&Model) = |model| {
            for (slot, _) in model.dispatch.close() {
                model.dispatch.vacate(slot);
            }
        };
        explore_widely(
            move || Model::new(1, 1, 8, overtaking),
            &[ended_or_served, ended_or_served, closes],
            |model| {
                assert_eq!(model.dispatch.open(), 0, "a connection outlived its pool");
                assert!(model.dispatch.take().is_none());
            },
        );
    }
}

#[test]
fn who_is_told_that_it_waits_in_vain_is_told_one_thing_and_loses_nothing() {
    for overtaking in OVERTAKING {
        let waits: fn(&Model) = |model| {
            let asker = Asker::current(Location::caller());
            let waiter = match model.dispatch.ask(Some(asker), 0) {
                Answer::Wait(waiter) => waiter,
                Answer::Connection(connection) => return model.check_in(connection),
                _ => panic!("it is held or idle"),
            };
            match model.dispatch.wait(&waiter, None, || None) {
                Some(Turn::Connection(connection)) => model.check_in(connection),
                Some(Turn::WouldDeadlock) => {}
                _ => panic!("it was told something else"),
            }
        };
        // The waiter, if it has come already and is there still.
        let refuses: fn(&Model) = |model| {
            model.dispatch.refuse(1);
        };
        // The only connection, held from the start.
        let returns: fn(&Model) = |model| model.check_in(Connection(0));
        explore_widely(
            move || {
                let model = Model::new(1, 1, 8, overtaking);
                assert_eq!(model.dispatch.take(), Some(Connection(0)));
                model
            },
            &[returns, waits, refuses],
            |model| model.check_all_is_back(),
        );
    }
}

#[test]
fn strict_order_is_the_order_of_arrival() {
    // One holds, two arrive: whichever the queue has first is served first.
    static ORDER: AtomicOrder = AtomicOrder::new();
    let waits: fn(&Model) = |model| {
        let asker = Asker::current(Location::caller());
        let Answer::Wait(waiter) = model.dispatch.ask(Some(asker), 0) else {
            panic!("the only connection is held");
        };
        let arrived = waiter.number;
        let Some(Turn::Connection(connection)) = model.dispatch.wait(&waiter, None, || None) else {
            panic!("no turn");
        };
        ORDER.served(arrived);
        model.check_in(connection);
    };
    // It holds the only connection from the start, and gives it back when both have arrived.
    let holds: fn(&Model) = |model| {
        while model.dispatch.waiting() < 2 {
            loom::thread::yield_now();
        }
        assert!(model.dispatch.take().is_none(), "a newcomer overtook");
        model.check_in(Connection(0));
    };
    explore_widely(
        || {
            ORDER.reset();
            let model = Model::new(1, 1, 8, 0);
            assert_eq!(model.dispatch.take(), Some(Connection(0)));
            model
        },
        &[holds, waits, waits],
        Model::check_all_is_back,
    );
}

#[test]
fn everybody_who_closes_is_told_when_the_last_connection_is_gone() {
    let closes: fn(&Model) = |model| {
        for (slot, _) in model.dispatch.close() {
            model.dispatch.vacate(slot);
        }
        assert!(model.dispatch.wait_for_the_last(None));
    };
    let returns: fn(&Model) = |model| model.check_in(Connection(0));
    explore_widely(
        || {
            let model = Model::new(1, 1, 8, 0);
            assert_eq!(model.check_out(Try), Some(Connection(0)));
            model
        },
        &[returns, closes, closes],
        |model| assert_eq!(model.dispatch.open(), 0),
    );
}

#[test]
fn a_connection_that_comes_back_while_the_pool_shrinks_is_not_left_in_its_slot() {
    let shrinks: fn(&Model) = |model| {
        for (slot, _) in model.dispatch.resize(1).expect("it is open") {
            model.open.fetch_sub(1, Ordering::Relaxed);
            model.dispatch.vacate_surplus(slot);
        }
    };
    let returns: fn(&Model) = |model| model.check_in(Connection(1));
    explore_widely(
        || {
            let model = Model::new(2, 2, 8, 0);
            assert_eq!(model.check_out(Try), Some(Connection(1)));
            model
        },
        &[returns, shrinks, tries],
        |model| {
            let open = model.dispatch.open();
            assert!(open <= 1, "above the limit");
            model.check_all_is_back();
        },
    );
}

/// The number of the waiter that was served last. Not loom's: it is not what is tested.
struct AtomicOrder(std::sync::atomic::AtomicU64);

impl AtomicOrder {
    const fn new() -> Self {
        Self(std::sync::atomic::AtomicU64::new(0))
    }

    fn reset(&self) {
        self.0.store(0, std::sync::atomic::Ordering::Relaxed);
    }

    fn served(&self, number: u64) {
        let before = self.0.swap(number, std::sync::atomic::Ordering::Relaxed);
        assert!(before < number, "{number} was served after {before}");
    }
}
