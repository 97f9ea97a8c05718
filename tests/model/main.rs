//! Threads that are told step by step what to do with two pools, beside rules that say what must
//! come of it.
//!
//! Each history runs on real threads against [`tenure::checkout::Pool`], the public one, and one step
//! at a time, so that what has to happen is certain: who is served, who is refused and why, who goes
//! on to wait. Steps are checkouts of every kind, nested ones included, returns of connections that
//! are well or not, panics, detaching and attaching elsewhere, leaks, threads that end, other limits,
//! closing, and deadlines that pass. After each step the pools must show what the rules say, to the
//! order of the queue. Who sleeps though the rules serve him has lost his wake-up; who is told of a
//! deadlock where the rules see none, or is not told of one, is found as well, across both pools.
//!
//! `TENURE_CASES` = how many histories; the default takes some seconds. A failure prints the shortest
//! history that fails and stops; histories in which the machine was too slow for the deadlines are
//! left where they are. Interleavings are `tests/loom`'s part, time and overtaking `tests/dispatch`'s.

mod manager;
mod rules;
mod worker;

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use proptest::prelude::*;
use proptest::test_runner::{TestCaseError, TestError, TestRunner};
use tenure::CheckoutErrorKind;
use tenure::CloseError;
use tenure::checkout::{Builder, Detached, Pool};

use manager::{Books, Fault, Manager};
use rules::{Answer, Ask, Rules};
use worker::{Command, Reply, Worker};

const POOLS: usize = 2;
const CEILING: usize = 4;

/// Far above what anything here takes; whoever waits for so long has been forgotten.
const LONG: Duration = Duration::from_secs(20);
const SOON: Duration = Duration::from_millis(20);
/// A step that is begun so long before a deadline should be over when it passes.
const MARGIN: Duration = Duration::from_millis(10);
/// A leaked connection is given up a second after its thread has ended, at the earliest.
const BEFORE_LEAKS_ARE_GIVEN_UP: Duration = Duration::from_millis(900);

/// An index chooses among what there is at that moment.
#[derive(Clone, Copy, Debug)]
enum Step {
    CheckOut(usize, usize, Ask),
    Return(usize, usize, Fault),
    Panic(usize, usize),
    Detach(usize, usize),
    Attach(usize, usize),
    DropDetached(usize),
    Leak(usize, usize),
    EndThread(usize),
    DeadlinePasses,
    Resize(usize, usize),
    Close(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let any = || 0..12_usize;
    let pool = 0..POOLS;
    let ask = prop_oneof![
        6 => Just(Ask::Late), 2 => Just(Ask::Soon), 1 => Just(Ask::NoTime), 1 => Just(Ask::Try)
    ];
    let fault = prop_oneof![
        9 => Just(Fault::None),
        1 => Just(Fault::Broken),
        1 => Just(Fault::InspectionPanics),
        1 => Just(Fault::DropPanics),
    ];
    prop_oneof![
        20 => (any(), pool.clone(), ask).prop_map(|(t, p, a)| Step::CheckOut(t, p, a)),
        12 => (any(), any(), fault).prop_map(|(t, g, f)| Step::Return(t, g, f)),
        1 => (any(), any()).prop_map(|(t, g)| Step::Panic(t, g)),
        2 => (any(), any()).prop_map(|(t, g)| Step::Detach(t, g)),
        2 => (any(), any()).prop_map(|(t, d)| Step::Attach(t, d)),
        1 => any().prop_map(Step::DropDetached),
        1 => (any(), any()).prop_map(|(t, g)| Step::Leak(t, g)),
        1 => any().prop_map(Step::EndThread),
        1 => Just(Step::DeadlinePasses),
        2 => (pool.clone(), 1..=CEILING).prop_map(|(p, limit)| Step::Resize(p, limit)),
    ]
}

/// A thread that has been told to check out and does not say anything.
struct Sleeper {
    thread: usize,
    deadline: Option<Instant>,
}

struct Run {
    rules: Rules,
    pools: Vec<Pool<Manager>>,
    books: Vec<Arc<Books>>,
    workers: Vec<Worker>,
    started: usize,
    sleepers: Vec<Sleeper>,
    detached: Vec<(usize, Detached<Manager>)>,
    /// When a thread ended first that had leaked something.
    lost_since: Option<Instant>,
}

/// Why a history is not gone on with: a deadline has passed, or a leak may have been found, within a
/// step, and either comes first.
struct TooSlow;

impl Run {
    fn new(
        limits: [usize; POOLS],
        max_waiters: usize,
        overtaking: Duration,
        threads: usize,
    ) -> Self {
        let books: Vec<Arc<Books>> = (0..POOLS).map(|_| Arc::default()).collect();
        let pools: Vec<_> = limits
            .iter()
            .zip(&books)
            .map(|(limit, books)| {
                books.allowed.store(*limit, SeqCst);
                let builder = Builder::default().limit(*limit).ceiling(CEILING);
                let builder = builder.max_waiters(max_waiters).overtaking(overtaking);
                builder.build(Manager(Arc::clone(books))).unwrap()
            })
            .collect();
        let rules = limits.map(|limit| rules::Pool { limit, max_waiters, ..Default::default() });
        let mut run = Self {
            rules: Rules {
                pools: rules.into(),
                threads: vec![Default::default(); threads],
                arrivals: 0,
            },
            pools,
            books,
            workers: Vec::new(),
            started: 0,
            sleepers: Vec::new(),
            detached: Vec::new(),
            lost_since: None,
        };
        run.workers = (0..threads).map(|_| run.start()).collect();
        run
    }

    fn start(&mut self) -> Worker {
        self.started += 1;
        Worker::start(format!("thread {}", self.started), &self.pools)
    }

    /// One that does not wait, if there is one.
    fn awake(&self, index: usize) -> Option<usize> {
        let threads = 0..self.workers.len();
        let awake: Vec<_> =
            threads.filter(|thread| self.rules.threads[*thread].waits_for.is_none()).collect();
        (!awake.is_empty()).then(|| awake[index % awake.len()])
    }

    /// One that has a guard, and of which pool.
    fn holder(&self, thread: usize, guard: usize) -> Option<(usize, usize)> {
        let holds = |thread: &usize| {
            let thread = &self.rules.threads[*thread];
            thread.waits_for.is_none() && !thread.has.is_empty()
        };
        let holders: Vec<_> = (0..self.workers.len()).filter(holds).collect();
        let holder = (!holders.is_empty()).then(|| holders[thread % holders.len()])?;
        let has = &self.rules.threads[holder].has;
        Some((holder, has[guard % has.len()]))
    }

    /// The guard leaves the thread.
    fn take_from(&mut self, thread: usize, pool: usize) {
        let has = &mut self.rules.threads[thread].has;
        has.remove(has.iter().rposition(|of| *of == pool).expect("it has one"));
    }

    fn reply(&self, thread: usize, expected: &str) -> Reply {
        self.workers[thread].replies.recv_timeout(LONG).unwrap_or_else(|_| {
            let status: Vec<_> = self.pools.iter().map(Pool::status).collect();
            panic!("thread {thread} sleeps, but should be {expected}: {status:#?}")
        })
    }

    fn expect_done(&self, thread: usize) {
        assert!(matches!(self.reply(thread, "done"), Reply::Done));
    }

    fn expect(&self, thread: usize, answer: Answer, least: Duration) {
        Self::compare(thread, &self.reply(thread, &format!("{answer:?}")), answer, least);
    }

    fn compare(thread: usize, reply: &Reply, answer: Answer, least: Duration) {
        match (reply, answer) {
            (Reply::Done, Answer::Served) => {}
            (Reply::Refused { kind, waited }, Answer::Refused(expected)) => {
                assert_eq!(*kind, expected, "thread {thread}");
                assert!(*waited >= least, "thread {thread}: {kind:?} after {waited:?}");
            }
            (Reply::Done, _) => panic!("thread {thread} was served: should be {answer:?}"),
            (Reply::Refused { kind, .. }, _) => {
                panic!("thread {thread} was refused ({kind:?}): should be {answer:?}")
            }
            (Reply::Detached(_), _) => unreachable!("nobody has told it to"),
        }
    }

    /// Lets those wake whom the rules wake, and looks whether all is as they say.
    fn settle(&mut self, mut woken: Vec<(usize, Answer)>) -> Result<(), TooSlow> {
        woken.extend(self.rules.serve());
        for (thread, answer) in woken {
            let reply = self.reply(thread, &format!("{answer:?}"));
            // A wait that was ended at the last moment may have ended by itself.
            if !matches!(reply, Reply::Done) {
                self.is_in_time()?;
            }
            self.sleepers.retain(|sleeper| sleeper.thread != thread);
            Self::compare(thread, &reply, answer, Duration::ZERO);
        }
        // Others may have been served instead of them.
        self.is_in_time()?;
        for pool in 0..POOLS {
            self.check(pool)?;
        }
        for sleeper in &self.sleepers {
            let said = self.workers[sleeper.thread].replies.try_recv().is_ok();
            if said {
                self.is_in_time()?;
                panic!("thread {} has woken, but should sleep", sleeper.thread);
            }
        }
        Ok(())
    }

    fn is_in_time(&self) -> Result<(), TooSlow> {
        let now = Instant::now();
        let passed = |sleeper: &Sleeper| sleeper.deadline.is_some_and(|deadline| deadline <= now);
        let found = |since: Instant| now - since >= BEFORE_LEAKS_ARE_GIVEN_UP;
        if self.sleepers.iter().any(passed) || self.lost_since.is_some_and(found) {
            return Err(TooSlow);
        }
        Ok(())
    }

    fn check(&self, pool: usize) -> Result<(), TooSlow> {
        let rules = &self.rules.pools[pool];
        let (held, idle) = (self.rules.held(pool), self.rules.idle(pool));
        let queue: Vec<_> = rules.queue.iter().map(|one| &self.workers[*one].name).collect();
        let began = Instant::now();
        loop {
            let status = self.pools[pool].status();
            let waiting: Vec<_> = status.waiting.iter().map(|one| &one.thread).collect();
            let detached = status.held.iter().filter(|holder| holder.detached).count();
            let most = self.books[pool].allowed.load(SeqCst);
            let open = self.books[pool].open.load(SeqCst);
            assert!(status.open <= most && open <= most, "above the limit: {open}, {status:#?}");
            let agrees = (status.held.len(), status.idle, status.open) == (held, idle, held + idle)
                && (open, detached, waiting) == (held + idle, rules.detached, queue.clone());
            if agrees {
                break;
            }
            self.is_in_time()?;
            let rules = (held, idle, &queue);
            assert!(began.elapsed() < LONG, "should be {rules:?}: {status:#?}, {open} open");
            thread::yield_now();
        }
        let violations = self.books[pool].violations.lock();
        assert!(violations.is_empty(), "{violations:?}");
        // Never more than there are, however they came to be.
        self.books[pool].allowed.store(rules.limit.max(held + idle), SeqCst);
        Ok(())
    }

    /// Those whose deadlines are near time out before the next step.
    fn let_deadlines_pass(&mut self, within: Duration) {
        let horizon = Instant::now() + within;
        let near = |sleeper: &mut Sleeper| sleeper.deadline.is_some_and(|at| at <= horizon);
        let late: Vec<_> = self.sleepers.extract_if(.., near).collect();
        for Sleeper { thread, .. } in late {
            self.expect(thread, Answer::Refused(CheckoutErrorKind::Timeout), SOON);
            self.rules.give_up(thread);
        }
    }

    fn step(&mut self, step: Step) -> Result<(), TooSlow> {
        self.let_deadlines_pass(MARGIN);
        self.settle(Vec::new())?;
        let mut woken = Vec::new();
        match step {
            Step::CheckOut(thread, pool, ask) => {
                let Some(thread) = self.awake(thread) else { return Ok(()) };
                let answer = self.rules.check_out(thread, pool, ask);
                let wait = match ask {
                    Ask::Try => None,
                    Ask::NoTime => Some(Duration::ZERO),
                    Ask::Soon => Some(SOON),
                    Ask::Late => Some(LONG * 10),
                };
                let deadline = (ask == Ask::Soon).then(|| Instant::now() + SOON);
                self.workers[thread].tell(Command::CheckOut(pool, wait));
                match answer {
                    Answer::Waits => self.sleepers.push(Sleeper { thread, deadline }),
                    answer => {
                        let reply = self.reply(thread, &format!("{answer:?}"));
                        self.is_in_time()?;
                        Self::compare(thread, &reply, answer, Duration::ZERO);
                    }
                }
            }
            Step::Return(thread, guard, fault) => {
                let Some((thread, pool)) = self.holder(thread, guard) else { return Ok(()) };
                self.workers[thread].tell(Command::Return(pool, fault));
                self.expect_done(thread);
                self.take_from(thread, pool);
            }
            Step::Panic(thread, guard) => {
                let Some((thread, pool)) = self.holder(thread, guard) else { return Ok(()) };
                self.workers[thread].tell(Command::Panic(pool));
                self.expect_done(thread);
                self.take_from(thread, pool);
            }
            Step::Detach(thread, guard) => {
                let Some((thread, pool)) = self.holder(thread, guard) else { return Ok(()) };
                self.workers[thread].tell(Command::Detach(pool));
                let Reply::Detached(detached) = self.reply(thread, "done") else { unreachable!() };
                self.detached.push((pool, detached));
                self.take_from(thread, pool);
                self.rules.pools[pool].detached += 1;
            }
            Step::Attach(thread, which) => {
                let Some(thread) = self.awake(thread) else { return Ok(()) };
                let Some((pool, detached)) = self.one_detached(which) else { return Ok(()) };
                self.workers[thread].tell(Command::Attach(pool, detached));
                self.expect_done(thread);
                self.rules.threads[thread].has.push(pool);
            }
            Step::DropDetached(which) => drop(self.one_detached(which)),
            Step::Leak(thread, guard) => {
                let Some((thread, pool)) = self.holder(thread, guard) else { return Ok(()) };
                self.workers[thread].tell(Command::Leak(pool));
                self.expect_done(thread);
                self.take_from(thread, pool);
                self.rules.threads[thread].leaked.push(pool);
            }
            Step::EndThread(thread) => {
                let Some(thread) = self.awake(thread) else { return Ok(()) };
                let another = self.start();
                std::mem::replace(&mut self.workers[thread], another).end();
                let before = std::mem::take(&mut self.rules.threads[thread]);
                if !before.leaked.is_empty() {
                    self.lost_since.get_or_insert_with(Instant::now);
                }
                for pool in before.leaked {
                    self.rules.pools[pool].lost += 1;
                }
            }
            Step::DeadlinePasses => self.let_deadlines_pass(SOON),
            Step::Resize(pool, limit) => {
                let allowed = &self.books[pool].allowed;
                allowed.fetch_max(limit, SeqCst);
                let closed = self.rules.pools[pool].closed;
                assert_eq!(self.pools[pool].resize(limit).is_ok(), !closed);
                if !closed {
                    self.rules.pools[pool].limit = limit;
                    woken = self.rules.tell_who_waits_in_vain();
                }
            }
            Step::Close(pool) => {
                woken = self.rules.close(pool);
                let held = match self.pools[pool].close(Duration::ZERO) {
                    Err(CloseError::StillOut { any, .. }) => any.len(),
                    closed => closed.map_or_else(|error| panic!("{error}"), |()| 0),
                };
                assert_eq!(held, self.rules.held(pool), "as many are named as have one");
            }
        }
        self.settle(woken)
    }

    fn one_detached(&mut self, which: usize) -> Option<(usize, Detached<Manager>)> {
        if self.detached.is_empty() {
            return None;
        }
        let one = self.detached.swap_remove(which % self.detached.len());
        self.rules.pools[one.0].detached -= 1;
        Some(one)
    }

    /// Everybody goes home. Every wait ends, and all that was not leaked is closed.
    fn end(mut self) {
        self.detached.clear();
        for pool in &self.pools {
            let _ = pool.close(Duration::ZERO);
        }
        for worker in self.workers {
            worker.end();
        }
        let leaked = |pool| {
            let of_threads = self.rules.threads.iter().flat_map(|thread| &thread.leaked);
            of_threads.filter(|of| **of == pool).count() + self.rules.pools[pool].lost
        };
        for (number, pool) in self.pools.iter().enumerate() {
            let leaked = leaked(number);
            if leaked == 0 {
                pool.close(LONG).expect("nobody has one");
            }
            let open = self.books[number].open.load(SeqCst);
            assert_eq!(open, leaked, "connections outlive their pool");
            let violations = self.books[number].violations.lock();
            assert!(violations.is_empty(), "{violations:?}");
        }
    }
}

#[derive(Clone, Debug)]
struct History {
    limits: [usize; POOLS],
    max_waiters: usize,
    overtaking: Duration,
    threads: usize,
    steps: Vec<Step>,
    closes: bool,
}

fn history() -> impl Strategy<Value = History> {
    let limits = prop::array::uniform(1..=3_usize);
    let overtaking = prop_oneof![Just(Duration::ZERO), Just(Duration::from_micros(30)), Just(LONG)];
    let steps = prop::collection::vec(step(), 1..60);
    (limits, 1..4_usize, overtaking, 2..=5_usize, steps, any::<bool>()).prop_map(
        |(limits, max_waiters, overtaking, threads, steps, closes)| History {
            limits,
            max_waiters,
            overtaking,
            threads,
            steps,
            closes,
        },
    )
}

fn run(history: &History) -> bool {
    let History { limits, max_waiters, overtaking, threads, .. } = *history;
    let mut run = Run::new(limits, max_waiters, overtaking, threads);
    let closing = (0..POOLS).map(Step::Close).filter(|_| history.closes);
    let all: Vec<_> = history.steps.iter().copied().chain(closing).collect();
    let finished = all.iter().try_for_each(|step| run.step(*step)).is_ok();
    run.end();
    finished
}

#[test]
fn pools_do_what_the_rules_say() {
    let cases = std::env::var("TENURE_CASES").ok();
    let cases = cases.map_or(400, |cases| cases.parse().expect("TENURE_CASES is a number"));
    let config = ProptestConfig {
        cases,
        failure_persistence: None,
        max_shrink_time: 60_000,
        ..ProptestConfig::default()
    };
    let finished = Mutex::new(0);
    let result = TestRunner::new(config).run(&history(), |history| {
        std::panic::catch_unwind(|| run(&history))
            .map(|done| *finished.lock() += usize::from(done))
            .map_err(|panic| {
                let text = panic.downcast_ref::<String>().cloned();
                TestCaseError::fail(text.unwrap_or_else(|| "it panicked".to_owned()))
            })
    });
    println!("{} of {cases} histories went to their ends", finished.lock());
    match result {
        Ok(()) => {}
        Err(TestError::Fail(reason, history)) => panic!("{reason}\n{history:?}"),
        Err(error) => panic!("{error}"),
    }
}
