//! The idle connections, the count against the limit, and the way in and out.
//!
//! A checkout takes an idle connection if there is one and nobody waits; else it opens one if the
//! limit has room; else it joins the queue. A check-in hands the connection to the waiter at the
//! head, else parks it. The idle ones are a stack, so that the caches used last are used next.
//!
//! Everything is decided under one lock, held for a few moves and never while a connection is
//! opened, inspected or closed. (A compare-and-swap per slot is faster without contention; it comes
//! with the fast path and keeps this interface.)

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use parking_lot::Mutex;
use scheduled_thread_pool::ScheduledThreadPool;

use super::guard::{Guard, Lease};
use super::holders::{HolderId, Holders, Place};
use super::queue::{Queue, Turn};
use super::source::{LastFailure, Manage, Notes, Source};
use crate::error::{CheckoutError, CheckoutErrorKind};
use crate::log::Log;
use crate::metrics::{CheckoutOutcome, CloseReason, RoleMetrics};
use crate::status::RoleStatus;

/// A connection that r2d2 opened and that this layer lends.
pub(super) type Connection<M> = r2d2::PooledConnection<Source<M>>;

/// How long opening one of the first connections may take.
const FILL_PATIENCE: Duration = Duration::from_secs(5);

/// The longest pause that r2d2 makes between two tries is half of this. It gives back-off under a
/// lasting fault, and connections soon after the fault is gone.
const R2D2_TIMEOUT: Duration = Duration::from_millis(500);

/// How long one try to reopen a connection in the background may take.
const REOPEN_PATIENCE: Duration = Duration::from_millis(500);

/// What a pool of one role is told.
pub(crate) struct Settings {
    /// Named in errors, in the log and in metrics.
    pub(crate) role: &'static str,
    pub(crate) limit: usize,
    pub(crate) max_waiters: usize,
    pub(crate) idle_limit: Option<Duration>,
    /// A checkout that waits for so long is said in the log.
    pub(crate) slow_checkout_after: Option<Duration>,
    /// A connection held for so long is said in the log.
    pub(crate) long_held_after: Option<Duration>,
    pub(crate) log: Arc<Log>,
    pub(crate) metrics: RoleMetrics,
    /// r2d2's thread, shared by the roles.
    pub(crate) opener: Arc<ScheduledThreadPool>,
    /// Told when a connection was closed that ought to be opened again.
    pub(crate) refill: Sender<()>,
}

/// How long a checkout may wait for its turn.
#[derive(Clone, Copy)]
pub(crate) enum Wait {
    /// Not at all.
    Never,
    AtMost(Duration),
}

struct Idle<M: Manage> {
    connection: Connection<M>,
    since: Instant,
}

struct State<M: Manage> {
    idle: Vec<Idle<M>>,
    /// Idle, held and being opened: never above the limit.
    open: usize,
    queue: Queue<Lease<M>>,
    holders: Holders,
    /// How many were closed for a fault and are to be opened again.
    missing: usize,
    closed: bool,
}

pub(super) struct Shared<M: Manage> {
    settings: Settings,
    manager: Arc<M>,
    source: r2d2::Pool<Source<M>>,
    last_failure: Arc<LastFailure>,
    /// Guards all of who holds and who waits; held for a few moves at a time.
    state: Mutex<State<M>>,
}

/// Connections of one role.
pub(crate) struct Pool<M: Manage> {
    shared: Arc<Shared<M>>,
}

impl<M: Manage> Pool<M> {
    pub(crate) fn new(manager: M, settings: Settings) -> Self {
        let manager = Arc::new(manager);
        let last_failure = Arc::new(LastFailure::new(settings.role));
        let source = r2d2::Pool::builder()
            .max_size(u32::try_from(settings.limit).unwrap_or(u32::MAX))
            .min_idle(Some(0))
            .max_lifetime(None)
            .idle_timeout(None)
            .connection_timeout(R2D2_TIMEOUT)
            .test_on_check_out(false)
            .error_handler(Box::new(Notes(Arc::clone(&last_failure))))
            .thread_pool(Arc::clone(&settings.opener))
            .build_unchecked(Source::new(Arc::clone(&manager), Arc::clone(&last_failure)));
        settings.metrics.limit.set(settings.limit as f64);
        let state = State {
            idle: Vec::with_capacity(settings.limit),
            open: 0,
            queue: Queue::new(),
            holders: Holders::default(),
            missing: 0,
            closed: false,
        };
        let shared = Shared { settings, manager, source, last_failure, state: Mutex::new(state) };
        Self { shared: Arc::new(shared) }
    }

    /// Opens connections until the limit is reached, so that the first callers need not wait.
    pub(crate) fn fill(&self) -> Result<(), CheckoutError> {
        let shared = &self.shared;
        for _ in 0..shared.settings.limit {
            shared.state.lock().open += 1;
            let now = Instant::now();
            let opened = shared.open(now, Some(now + FILL_PATIENCE));
            shared.park(opened?);
        }
        Ok(())
    }

    pub(crate) fn check_out(
        &self,
        wait: Wait,
        place: Place,
    ) -> Result<Guard<'_, M>, CheckoutError> {
        self.shared.check_out(wait, place).map(|lease| Guard::borrowed(&self.shared, lease))
    }

    pub(crate) fn check_out_owned(
        &self,
        wait: Wait,
        place: Place,
    ) -> Result<Guard<'static, M>, CheckoutError> {
        self.shared
            .check_out(wait, place)
            .map(|lease| Guard::owned(Arc::clone(&self.shared), lease))
    }

    pub(crate) fn status(&self) -> RoleStatus {
        let now = Instant::now();
        let state = self.shared.state.lock();
        RoleStatus {
            limit: self.shared.settings.limit,
            open: state.open,
            idle: state.idle.len(),
            held: state.holders.describe(now),
            waiting: state.queue.describe(now),
            last_connect_error: self.shared.last_failure.get().map(|cause| cause.to_string()),
        }
    }

    /// Closes connections that have been idle for longer than the limit.
    pub(crate) fn close_idle(&self) {
        self.shared.close_idle();
    }

    /// Says in the log who has held a connection for longer than the limit.
    pub(crate) fn report_long_holds(&self) {
        let settings = &self.shared.settings;
        let Some(limit) = settings.long_held_after else {
            return;
        };
        let (count, new) = self.shared.state.lock().holders.held_longer_than(limit, Instant::now());
        settings.metrics.long_held.set(count as f64);
        for holder in &new {
            settings.log.long_hold(settings.role, holder);
        }
    }

    /// Opens again what was closed for a fault, off the callers' path.
    pub(crate) fn refill(&self) {
        self.shared.refill();
    }

    pub(crate) fn downgrade(&self) -> WeakPool<M> {
        WeakPool { shared: Arc::downgrade(&self.shared) }
    }

    /// No more checkouts; idle connections are closed now, the others as they come back.
    pub(crate) fn close(&self) {
        let shared = &self.shared;
        let mut state = shared.state.lock();
        state.closed = true;
        shared.settings.metrics.limit.set(0.0);
        let idle = std::mem::take(&mut state.idle);
        while state.queue.grant(Turn::Closed) {}
        shared.publish(&state);
        drop(state);
        for idle in idle {
            shared.discard(idle.connection, CloseReason::PoolClosed);
        }
    }
}

/// A pool that housekeeping can reach for as long as somebody else keeps it.
pub(crate) struct WeakPool<M: Manage> {
    shared: Weak<Shared<M>>,
}

impl<M: Manage> WeakPool<M> {
    pub(crate) fn upgrade(&self) -> Option<Pool<M>> {
        self.shared.upgrade().map(|shared| Pool { shared })
    }
}

impl<M: Manage> Shared<M> {
    fn check_out(&self, wait: Wait, place: Place) -> Result<Lease<M>, CheckoutError> {
        let started = Instant::now();
        let result = self.take(wait, place, started);
        let outcome = match &result {
            Ok((_, outcome)) => *outcome,
            Err(error) => error.outcome(),
        };
        self.settings.metrics.checkout(outcome, started);
        // Who did not wait was not slow; that saves reading the clock.
        if let (Some(limit), true) =
            (self.settings.slow_checkout_after, outcome != CheckoutOutcome::Immediate)
        {
            let waited = started.elapsed();
            if waited >= limit {
                self.settings.log.slow_checkout(self.settings.role, place, waited);
            }
        }
        result.map(|(lease, _)| lease)
    }

    fn take(
        &self,
        wait: Wait,
        place: Place,
        started: Instant,
    ) -> Result<(Lease<M>, CheckoutOutcome), CheckoutError> {
        let deadline = match wait {
            Wait::Never => Some(started),
            // A deadline too far away to be represented is none.
            Wait::AtMost(limit) => started.checked_add(limit),
        };
        let mut state = self.state.lock();
        if state.closed {
            return Err(self.error(CheckoutErrorKind::Closed, &state, started));
        }
        // What is idle, and room to open, went to those who waited when it appeared: while somebody
        // waits there is none, so a newcomer cannot overtake here.
        if let Some(idle) = state.idle.pop() {
            debug_assert!(state.queue.is_empty());
            let holder = state.holders.add(thread::current(), place, started);
            self.publish(&state);
            let lease = Lease { connection: idle.connection, holder, since: started };
            return Ok((lease, CheckoutOutcome::Immediate));
        }
        if state.open < self.settings.limit && matches!(wait, Wait::AtMost(_)) {
            debug_assert!(state.queue.is_empty());
            state.open += 1;
            drop(state);
            let lease = self.open_for(place, started, deadline)?;
            return Ok((lease, CheckoutOutcome::Immediate));
        }
        if matches!(wait, Wait::Never) {
            // It must not open one itself, but the next one to try should find one.
            if state.open + state.missing < self.settings.limit {
                state.missing += 1;
                let _ = self.settings.refill.try_send(());
            }
            return Err(self.error(CheckoutErrorKind::Unavailable, &state, started));
        }
        if state.queue.len() >= self.settings.max_waiters {
            return Err(self.error(CheckoutErrorKind::Overloaded, &state, started));
        }
        let waiter = state.queue.join(place, started);
        self.publish(&state);
        drop(state);

        let turn = waiter.wait(deadline).or_else(|| {
            let mut state = self.state.lock();
            let turn = state.queue.leave(&waiter);
            self.publish(&state);
            turn
        });
        let lease = match turn {
            Some(Turn::Lease(lease)) => lease,
            Some(Turn::Open) => self.open_for(place, started, deadline)?,
            Some(Turn::Closed) => {
                return Err(self.error(CheckoutErrorKind::Closed, &self.state.lock(), started));
            }
            None => {
                return Err(self.error(CheckoutErrorKind::Timeout, &self.state.lock(), started));
            }
        };
        Ok((lease, CheckoutOutcome::Waited))
    }

    fn open_for(
        &self,
        place: Place,
        started: Instant,
        deadline: Option<Instant>,
    ) -> Result<Lease<M>, CheckoutError> {
        let connection = self.open(started, deadline)?;
        let since = Instant::now();
        let mut state = self.state.lock();
        let holder = state.holders.add(thread::current(), place, since);
        self.publish(&state);
        Ok(Lease { connection, holder, since })
    }

    /// Has r2d2 open a connection, for which the caller has reserved the room.
    ///
    /// r2d2 tries again with back-off until the deadline, which is what a cause that heals (no file
    /// descriptor left, say) needs.
    fn open(
        &self,
        started: Instant,
        deadline: Option<Instant>,
    ) -> Result<Connection<M>, CheckoutError> {
        let patience =
            deadline.map_or(Duration::MAX / 4, |at| at.saturating_duration_since(started));
        let asked = Instant::now();
        // r2d2 adds its time-out to the clock and would panic on an overflow.
        let patience =
            patience.saturating_sub(asked - started).min(Duration::from_secs(86_400 * 365));
        match self.source.get_timeout(patience) {
            Ok(connection) => {
                self.settings.metrics.opened.increment(1);
                Ok(connection)
            }
            Err(_) => {
                self.give_up_room();
                let state = self.state.lock();
                let kind = match self.last_failure.get() {
                    Some(_) => CheckoutErrorKind::Connect,
                    None => CheckoutErrorKind::Timeout,
                };
                Err(self.error(kind, &state, started))
            }
        }
    }

    /// The room of a connection that is closed, or was never opened, goes to the next in line.
    fn give_up_room(&self) {
        let mut state = self.state.lock();
        if state.closed || !state.queue.grant(Turn::Open) {
            state.open -= 1;
        }
        self.publish(&state);
    }

    /// The check-in: inspect, then hand on, park or close.
    pub(super) fn check_in(&self, mut lease: Lease<M>) {
        let connection = &mut lease.connection.connection;
        // A panic here would leave the holder's name and the room behind.
        let inspect = AssertUnwindSafe(|| self.manager.has_broken(connection));
        let broken = catch_unwind(inspect).unwrap_or(true);
        self.settings.metrics.hold.record(lease.since.elapsed());
        let mut state = self.state.lock();
        state.holders.remove(lease.holder);
        if broken || state.closed {
            let reason = if state.closed { CloseReason::PoolClosed } else { CloseReason::Broken };
            let replace = !state.closed && state.queue.is_empty();
            drop(state);
            self.discard(lease.connection, reason);
            if replace {
                self.state.lock().missing += 1;
                // Full means that housekeeping has been told already.
                let _ = self.settings.refill.try_send(());
            }
            return;
        }
        self.hand_on(&mut state, lease.connection);
    }

    pub(super) fn detach(&self, holder: HolderId) {
        self.state.lock().holders.detach(holder);
    }

    pub(super) fn attach(&self, holder: HolderId, place: Place) {
        self.state.lock().holders.attach(holder, place);
    }

    fn park(&self, connection: Connection<M>) {
        let mut state = self.state.lock();
        if state.closed {
            drop(state);
            self.discard(connection, CloseReason::PoolClosed);
            return;
        }
        self.hand_on(&mut state, connection);
    }

    fn hand_on(&self, state: &mut State<M>, connection: Connection<M>) {
        let since = Instant::now();
        match state.queue.first() {
            None => state.idle.push(Idle { connection, since }),
            Some((thread, place)) => {
                // Noted for the waiter here, so that it need not take the lock again.
                let holder = state.holders.add(thread, place, since);
                let granted = state.queue.grant(Turn::Lease(Lease { connection, holder, since }));
                debug_assert!(granted, "the waiter was there a moment ago, under the same lock");
            }
        }
        self.publish(state);
    }

    fn discard(&self, mut connection: Connection<M>, reason: CloseReason) {
        connection.discard = true;
        // Closed here, by r2d2, before the room is given up: r2d2 counts against the same limit.
        // A value of the caller's that lives in it may panic when it is dropped.
        let dropped = catch_unwind(AssertUnwindSafe(|| drop(connection)));
        if let Err(panic) = dropped {
            let message = crate::error::panic_message(&*panic);
            tracing::error!(role = self.settings.role, message, "closing a connection panicked");
        }
        self.settings.metrics.closed(reason);
        self.give_up_room();
    }

    fn refill(&self) {
        loop {
            let mut state = self.state.lock();
            if state.missing == 0 || state.closed {
                return;
            }
            state.missing -= 1;
            if state.open >= self.settings.limit {
                continue;
            }
            state.open += 1;
            drop(state);
            let now = Instant::now();
            match self.open(now, Some(now + REOPEN_PATIENCE)) {
                Ok(connection) => self.park(connection),
                Err(error) => {
                    tracing::warn!(role = self.settings.role, %error, "could not reopen a connection; the next checkout will try again");
                    return;
                }
            }
        }
    }

    /// Closes what has been idle too long, the coldest first; one stays, to keep the file open.
    fn close_idle(&self) {
        let Some(limit) = self.settings.idle_limit else {
            return;
        };
        let now = Instant::now();
        loop {
            let mut state = self.state.lock();
            let cold = state.idle.first().is_some_and(|idle| now - idle.since >= limit);
            if !cold || state.open <= 1 {
                return;
            }
            let idle = state.idle.remove(0);
            drop(state);
            self.discard(idle.connection, CloseReason::Idle);
        }
    }

    fn error(&self, kind: CheckoutErrorKind, state: &State<M>, started: Instant) -> CheckoutError {
        let now = Instant::now();
        CheckoutError {
            role: self.settings.role,
            kind,
            waited: now.saturating_duration_since(started),
            limit: self.settings.limit,
            held: state.holders.len(),
            waiting: state.queue.len(),
            longest: state.holders.longest(now).map(Box::new),
            cause: self.last_failure.get(),
        }
    }

    /// Gauges follow the state while it is locked, so that they never go back in time.
    fn publish(&self, state: &State<M>) {
        let metrics = &self.settings.metrics;
        metrics.idle.set(state.idle.len() as f64);
        metrics.used.set(state.holders.len() as f64);
        metrics.waiters.set(state.queue.len() as f64);
    }
}
