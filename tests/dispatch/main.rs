//! The dispatch does, step by step, what a model of a few lines does.
//!
//! Random histories of checkouts, check-ins, faults, deadlines, wake-ups and the passing of time run
//! on one thread against both. Threads are `tests/loom`'s part; here it is rules and long histories.

#![allow(dead_code, unreachable_pub)]

#[path = "../../src/checkout/dispatch.rs"]
mod dispatch;
#[path = "../../src/checkout/holders.rs"]
mod holders;
#[path = "../../src/checkout/mailbox.rs"]
mod mailbox;
#[path = "../../src/checkout/pace.rs"]
mod pace;
#[path = "../../src/checkout/queue.rs"]
mod queue;
#[path = "../../src/checkout/slots.rs"]
mod slots;
#[path = "../../src/checkout/sync.rs"]
mod sync;
#[path = "../../src/checkout/threads.rs"]
mod threads;

mod calm;
mod clock;
mod ffi;
mod model;
#[path = "../../src/checkout/upkeep.rs"]
mod upkeep;
#[path = "../../src/who.rs"]
mod who;

use std::collections::BTreeSet;
use std::panic::Location;
use std::sync::Arc;
use std::time::Instant;

use proptest::prelude::*;

use dispatch::{Answer, Dispatch, Look};
use holders::Asker;
use model::{Model, Outcome};
use queue::{Message, Turn, Waiter};

/// The most that a limit can be.
const CEILING: usize = 6;

/// One step. Numbers choose among what there is at that moment.
#[derive(Clone, Copy, Debug)]
enum Step {
    Ask,
    Try,
    Give(usize),
    Break(usize),
    /// A waiter wakes if it was told something.
    Wake(usize),
    DeadlinePasses(usize),
    /// Somebody finds that a waiter waits in vain.
    Refuse(usize),
    TimePasses(u64),
    CalmDown,
    Resize(usize),
    Close,
}

fn step() -> impl Strategy<Value = Step> {
    let number = 0..100_usize;
    prop_oneof![
        8 => Just(Step::Ask),
        2 => Just(Step::Try),
        8 => number.clone().prop_map(Step::Give),
        1 => number.clone().prop_map(Step::Break),
        6 => number.clone().prop_map(Step::Wake),
        2 => number.clone().prop_map(Step::DeadlinePasses),
        1 => number.prop_map(Step::Refuse),
        4 => (1..20_u64).prop_map(Step::TimePasses),
        1 => Just(Step::CalmDown),
        1 => (1..=CEILING).prop_map(Step::Resize),
    ]
}

/// The real thing and those who use it.
struct Run {
    dispatch: Dispatch<usize>,
    model: Model,
    held: Vec<usize>,
    waiting: Vec<(u64, Arc<Waiter<usize>>)>,
    arrivals: u64,
    served: u64,
    strict: bool,
    open_before: usize,
}

impl Run {
    fn new(limit: usize, max_waiters: usize, overtaking: u64) -> Self {
        Self {
            dispatch: Dispatch::new(limit, CEILING, max_waiters, overtaking),
            model: Model::new(limit, max_waiters, overtaking),
            held: Vec::new(),
            waiting: Vec::new(),
            arrivals: 0,
            served: 0,
            strict: overtaking == 0,
            open_before: 0,
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Ask => self.ask(true),
            Step::Try => self.ask(false),
            Step::Give(which) if !self.held.is_empty() => {
                let connection = self.held.swap_remove(which % self.held.len());
                let back = self.dispatch.give(connection, connection).is_some();
                let too_much = connection >= self.model.limit || self.model.open > self.model.limit;
                assert_eq!(back, self.model.closed || too_much, "given back when it is too much");
                if back {
                    self.dispatch.vacate_surplus(connection);
                    self.model.vacate();
                } else {
                    self.model.give(clock::now());
                }
            }
            Step::Break(which) if !self.held.is_empty() => {
                let connection = self.held.swap_remove(which % self.held.len());
                self.dispatch.vacate(connection);
                self.model.vacate();
            }
            Step::Wake(which) if !self.waiting.is_empty() => {
                self.wake(which % self.waiting.len(), false);
            }
            Step::DeadlinePasses(which) if !self.waiting.is_empty() => {
                self.wake(which % self.waiting.len(), true);
            }
            Step::Refuse(which) if !self.waiting.is_empty() => {
                let at = which % self.waiting.len();
                let refused = self.dispatch.refuse(self.waiting[at].1.number);
                assert_eq!(refused, self.model.refuse(at, clock::now()), "not if it has its turn");
            }
            Step::TimePasses(by) => clock::advance(by),
            // It changes nothing that can be seen.
            Step::CalmDown => self.dispatch.calm_down(),
            Step::Resize(limit) => {
                let surplus = self.dispatch.resize(limit);
                assert_eq!(surplus.is_none(), self.model.closed);
                if let Some(surplus) = surplus {
                    // Those beyond the limit, and no more than it takes of the others.
                    let others = surplus.iter().filter(|(slot, _)| *slot < limit).count();
                    let left = self.model.open - surplus.len();
                    assert!(others == 0 || left >= limit, "more is closed than need be");
                    self.model.resize(limit, surplus.len());
                    assert!(left <= limit || self.model.free == 0, "too much lies idle");
                    for (slot, _) in surplus {
                        self.dispatch.vacate_surplus(slot);
                        self.model.vacate_surplus();
                    }
                }
            }
            Step::Close => {
                for (slot, _) in self.dispatch.close() {
                    self.dispatch.vacate(slot);
                }
                self.model.close();
            }
            _ => {}
        }
        self.check();
    }

    fn ask(&mut self, may_wait: bool) {
        let expected = self.model.ask(may_wait, clock::now());
        let asker = may_wait.then(|| Asker::current(Location::caller()));
        let answer = match self.dispatch.take() {
            Some(connection) => Answer::Connection(connection),
            None => self.dispatch.ask(asker, clock::now()),
        };
        let found = match answer {
            Answer::Connection(connection) | Answer::Room(connection) => {
                self.hold(connection);
                Outcome::Served
            }
            Answer::Wait(waiter) => {
                self.arrivals += 1;
                self.waiting.push((self.arrivals, waiter));
                Outcome::Waits
            }
            Answer::Unavailable { .. } => Outcome::Unavailable,
            Answer::Overloaded => Outcome::Overloaded,
            Answer::Closed => Outcome::Closed,
        };
        assert_eq!(found, expected);
    }

    /// What the waiting thread would do when it wakes, or when its deadline has passed.
    fn wake(&mut self, at: usize, deadline: bool) {
        let (number, waiter) = self.waiting[at].clone();
        let expected = self.model.wake(at, deadline, clock::now());
        let turn = match waiter.mailbox.wait(Some(Instant::now())) {
            Some(Message::Turn(turn)) => Some(turn),
            Some(Message::Look) if !deadline => {
                let turn = self.dispatch.look(&waiter, Look::Invited);
                // Its alarm rings at once.
                turn.or_else(|| self.dispatch.look(&waiter, Look::Again))
            }
            Some(Message::Look) | None if deadline => self.dispatch.look(&waiter, Look::Last),
            Some(Message::Look) | None => None,
        };
        let found = match turn {
            Some(Turn::Connection(connection) | Turn::Room(connection)) => {
                self.hold(connection);
                Outcome::Served
            }
            Some(Turn::Closed) => Outcome::Closed,
            Some(Turn::WouldDeadlock) => Outcome::WouldDeadlock,
            None if deadline => Outcome::TimedOut,
            None => Outcome::Waits,
        };
        assert_eq!(found, expected, "waiter {number} at {at}");
        if found != Outcome::Waits {
            self.waiting.remove(at);
        }
    }

    fn hold(&mut self, connection: usize) {
        assert!(!self.held.contains(&connection), "two owners of {connection}");
        self.held.push(connection);
    }

    fn check(&mut self) {
        let all: BTreeSet<_> = self.held.iter().collect();
        assert_eq!(all.len(), self.held.len());
        assert_eq!(self.held.len(), self.model.held);
        assert_eq!(self.dispatch.waiting(), self.model.queued());
        let open = self.dispatch.open();
        assert_eq!(open, self.model.open);
        assert!(open <= self.model.limit.max(self.open_before), "above the limit");
        self.open_before = open;
        if self.strict && self.model.queued() > 0 {
            assert_eq!(self.model.free, 0, "something lies idle while somebody waits");
        }
    }

    /// Everybody goes home; then all that is open must be idle.
    fn end(mut self) {
        while !self.held.is_empty() || !self.waiting.is_empty() {
            self.step(Step::Give(0));
            for at in (0..self.waiting.len()).rev() {
                self.step(Step::Wake(at));
            }
            clock::advance(1_000);
        }
        let open = self.dispatch.open();
        let idle = std::iter::from_fn(|| self.dispatch.take()).count();
        assert_eq!(idle, open, "connections are lost");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(4_000) })]

    #[test]
    fn random_histories_go_as_the_model_says(
        limit in 1..4_usize,
        max_waiters in 0..6_usize,
        overtaking in prop_oneof![Just(0), Just(1), Just(30_u64), Just(u64::MAX)],
        steps in prop::collection::vec(step(), 0..200),
        closes in any::<bool>(),
    ) {
        let mut run = Run::new(limit, max_waiters, overtaking);
        for step in steps {
            run.step(step);
        }
        if closes {
            run.step(Step::Close);
        }
        // With no bound on overtaking it is up to the waiters to come when they are told.
        run.end();
    }
}
