//! Every interleaving of three callers over the lead of a group commit.
//!
//! The files under test are `group/queue.rs` and `group/request.rs`. A batch is modelled as the leader
//! does it, without SQLite: it may fail to get the writer, takes what is in the queue, hands the lead
//! on, and then answers. A caller that is forgotten waits for ever, which loom reports as a deadlock.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::panic::Location;
use std::time::Instant;

use self::queue::{GroupQueue, Place};
use self::request::{Job, Request, Told};
use crate::error::Error;
use crate::sqlite::Savepoint;
use crate::sync;

#[path = "../../src/group/queue.rs"]
mod queue;
#[path = "../../src/group/request.rs"]
mod request;
#[path = "../../src/group/yielding.rs"]
mod yielding;

/// What the files name of the rest of the crate.
pub(crate) mod error {
    #[derive(Debug)]
    pub(crate) struct Error;
}

pub(crate) mod sqlite {
    pub(crate) struct Savepoint<'t>(pub(crate) &'t ());
    pub(crate) type Hook = Box<dyn FnOnce()>;
    pub(crate) type Panic = Box<dyn std::any::Any + Send>;

    pub(crate) fn run_hooks(hooks: Vec<Hook>) {
        hooks.into_iter().for_each(|hook| hook());
    }
}

/// What a caller is told.
#[derive(Debug, PartialEq)]
enum Outcome {
    Committed,
    /// Not begun: the deadline came first.
    TooLate,
    /// Not begun: there was no writer.
    NoWriter,
    /// Not begun: the queue is full.
    Full,
}

struct Model {
    queue: GroupQueue,
    /// Closures that have run.
    ran: AtomicUsize,
    leading: AtomicUsize,
    most: usize,
    /// The first to ask for the writer does not get it.
    no_writer: AtomicBool,
}

impl Model {
    fn new(limit: usize, most: usize, no_writer: bool) -> Arc<Self> {
        Arc::new(Self {
            queue: GroupQueue::new(limit),
            ran: AtomicUsize::new(0),
            leading: AtomicUsize::new(0),
            most,
            no_writer: AtomicBool::new(no_writer),
        })
    }

    /// As `Pool::group_commit`.
    fn commit(model: &Arc<Self>, deadline: Option<Instant>) -> Outcome {
        let counted = Arc::clone(model);
        let work = move |_: &mut Savepoint<'_>| {
            counted.ran.fetch_add(1, Ordering::Relaxed);
            Ok::<(), Error>(())
        };
        let request = std::sync::Arc::new(Request::new(work, Location::caller(), Instant::now()));
        let job: std::sync::Arc<dyn Job> = std::sync::Arc::clone(&request) as _;
        let Ok(place) = model.queue.join(std::sync::Arc::clone(&job)) else {
            return Outcome::Full;
        };
        let outcome = model.inside(&request, job, place, deadline);
        model.queue.left(place);
        outcome
    }

    fn inside<F>(
        &self,
        request: &Request<F, (), Error>,
        job: std::sync::Arc<dyn Job>,
        place: Place,
        deadline: Option<Instant>,
    ) -> Outcome
    where
        F: FnOnce(&mut Savepoint<'_>) -> Result<(), Error> + Send,
    {
        if matches!(place, Place::Queue { .. }) {
            match request.wait(deadline) {
                Told::Lead => {}
                Told::Answer(answer) => return answered(answer),
                Told::TooLate(_) => {
                    self.queue.give_up(&job);
                    return Outcome::TooLate;
                }
            }
        }
        if !self.lead(job) {
            request.give_up();
            return Outcome::NoWriter;
        }
        match request.wait(None) {
            Told::Answer(answer) => answered(answer),
            _ => unreachable!("a leader's own work is in its batch"),
        }
    }

    fn lead(&self, own: std::sync::Arc<dyn Job>) -> bool {
        assert_eq!(self.leading.fetch_add(1, Ordering::Relaxed), 0, "two leaders");
        if self.no_writer.swap(false, Ordering::Relaxed) {
            self.leading.fetch_sub(1, Ordering::Relaxed);
            self.queue.hand_on();
            return false;
        }
        let mut batch = Vec::new();
        let mut next = Some(own);
        while let Some(job) = next {
            if job.choose() {
                job.run(&mut Savepoint(&()));
                batch.push(job);
            }
            next = if batch.len() < self.most { self.queue.next() } else { None };
        }
        self.leading.fetch_sub(1, Ordering::Relaxed);
        self.queue.hand_on();
        batch.iter().for_each(|job| job.answer());
        true
    }

    fn check(&self, outcomes: &[Outcome]) {
        let committed = outcomes.iter().filter(|outcome| **outcome == Outcome::Committed).count();
        assert_eq!(self.ran.load(Ordering::Relaxed), committed, "run as often as it was told");
        assert_eq!(self.queue.inside(), 0);
        assert!(self.queue.next().is_none(), "given up, and still in the queue");
        // Nobody leads: the next to come does.
        let work = |_: &mut Savepoint<'_>| Ok::<(), Error>(());
        let request = Request::new(work, Location::caller(), Instant::now());
        let place = self.queue.join(std::sync::Arc::new(request)).unwrap();
        assert_eq!(place, Place::Leader, "the lead is lost");
    }
}

fn answered(answer: std::thread::Result<Result<(), Error>>) -> Outcome {
    answer.unwrap().unwrap();
    Outcome::Committed
}

/// Three callers, of whom so many have a deadline, that passes as soon as it matters.
fn explore(make: fn() -> Arc<Model>, with_deadline: usize, check: fn(&[Outcome])) {
    let mut builder = loom::model::Builder::new();
    if builder.preemption_bound.is_none() {
        builder.preemption_bound = Some(2);
    }
    builder.check(move || {
        let model = make();
        let deadline = move |number| (number < with_deadline).then(Instant::now);
        let others: Vec<_> = (0..2)
            .map(|number| {
                let model = Arc::clone(&model);
                loom::thread::spawn(move || Model::commit(&model, deadline(number)))
            })
            .collect();
        let mut outcomes = vec![Model::commit(&model, deadline(2))];
        outcomes.extend(others.into_iter().map(|other| other.join().unwrap()));
        model.check(&outcomes);
        check(&outcomes);
    });
}

fn all_committed(outcomes: &[Outcome]) {
    assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Committed), "{outcomes:?}");
}

#[test]
fn three_callers_are_all_committed() {
    explore(|| Model::new(2, 64, false), 0, all_committed);
}

#[test]
fn nobody_is_forgotten_by_batches_of_one() {
    explore(|| Model::new(2, 1, false), 0, all_committed);
}

#[test]
fn a_leader_without_a_writer_hands_on_the_lead() {
    explore(
        || Model::new(2, 64, true),
        0,
        |outcomes| {
            let failed = outcomes.iter().filter(|outcome| **outcome == Outcome::NoWriter).count();
            assert_eq!(failed, 1, "{outcomes:?}");
        },
    );
}

#[test]
fn deadlines_lose_neither_the_lead_nor_anybody_else() {
    for (most, with_deadline) in [(64, 1), (1, 1), (1, 2), (1, 3)] {
        let make: fn() -> Arc<Model> = match most {
            1 => || Model::new(2, 1, false),
            _ => || Model::new(2, 64, false),
        };
        explore(make, with_deadline, |_| ());
    }
}

#[test]
fn a_deadline_beside_a_leader_without_a_writer() {
    explore(|| Model::new(2, 1, true), 2, |_| ());
}

#[test]
fn a_full_queue_turns_away_and_forgets_nobody() {
    explore(
        || Model::new(1, 1, false),
        0,
        |outcomes| {
            let full = outcomes.iter().filter(|outcome| **outcome == Outcome::Full).count();
            assert!(full <= 1, "{outcomes:?}");
        },
    );
}
