//! The pool of one role, as the rest of the crate sees it.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use scheduled_thread_pool::ScheduledThreadPool;

use super::guard::Guard;
use super::holders::Place;
use super::shared::Shared;
use super::source::Manage;
use crate::error::{CheckoutError, CheckoutErrorKind};
use crate::log::Log;
use crate::metrics::{Publish, RoleMetrics};
use crate::status::{Holder, RoleStatus};

/// What a pool of one role is told.
pub(crate) struct Settings {
    /// Named in errors, in the log and in metrics.
    pub(crate) role: &'static str,
    pub(crate) limit: usize,
    /// The most that the limit can be raised to.
    pub(crate) ceiling: usize,
    pub(crate) max_waiters: usize,
    pub(crate) checkout_timeout: Duration,
    /// For how long newcomers may overtake the waiter at the head of the queue, where holds are short.
    pub(crate) overtaking: Duration,
    pub(crate) idle_limit: Option<Duration>,
    pub(crate) max_lifetime: Option<Duration>,
    /// A checkout that waits for so long is said in the log.
    pub(crate) slow_checkout_after: Option<Duration>,
    /// A connection held for so long is said in the log.
    pub(crate) long_held_after: Option<Duration>,
    pub(crate) log: Arc<Log>,
    /// One hold in so many is timed; 0 = none.
    pub(crate) hold_sampling: u32,
    /// Asked when somebody has waited and may have a connection: why it gets none after all.
    pub(crate) refusal: Box<dyn Fn() -> Option<CheckoutError> + Send + Sync>,
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
    /// As long as the settings say.
    Usual,
    AtMost(Duration),
    /// As `AtMost`, for the pool's own threads, which no limit on the number of waiters keeps out.
    AlwaysAdmitted(Duration),
}

/// Connections of one role.
pub(crate) struct Pool<M: Manage> {
    shared: Arc<Shared<M>>,
}

impl<M: Manage> Pool<M> {
    pub(crate) fn new(manager: M, settings: Settings) -> Self {
        Self { shared: Arc::new(Shared::new(manager, settings)) }
    }

    /// Opens connections until the limit is reached, so that the first callers need not wait.
    pub(crate) fn fill(&self) -> Result<(), CheckoutError> {
        self.shared.fill()
    }

    #[inline(always)]
    pub(crate) fn check_out(
        &self,
        wait: Wait,
        place: Place,
    ) -> Result<Guard<'_, M>, CheckoutError> {
        self.shared.check_out(wait, place).map(|lent| Guard::borrowed(&self.shared, lent))
    }

    /// For the pool's own thread; not counted among the checkouts. Waits as long as the limit, and again
    /// as often as `goes_on` says so then, without losing its place.
    pub(crate) fn take_turn(
        &self,
        limit: Duration,
        goes_on: impl Fn() -> bool,
        place: Place,
    ) -> Result<Guard<'_, M>, CheckoutError> {
        self.shared.take_turn(limit, goes_on, place).map(|lent| Guard::borrowed(&self.shared, lent))
    }

    /// As [`take_turn`](Self::take_turn), if nobody has one or waits for one.
    pub(crate) fn try_turn(&self, place: Place) -> Option<Guard<'_, M>> {
        self.shared.try_turn(place).map(|lent| Guard::borrowed(&self.shared, lent))
    }

    pub(crate) fn check_out_owned(
        &self,
        wait: Wait,
        place: Place,
    ) -> Result<Guard<'static, M>, CheckoutError> {
        self.shared.check_out(wait, place).map(|lent| Guard::owned(Arc::clone(&self.shared), lent))
    }

    /// An error about a wait that took place elsewhere, for the same connections.
    pub(crate) fn refuse(&self, kind: CheckoutErrorKind, started: Instant) -> CheckoutError {
        self.shared.error(kind, started)
    }

    /// As [`refuse`](Self::refuse), of a wait that was not counted there, where so many wait.
    pub(crate) fn refuse_and_count(
        &self,
        kind: CheckoutErrorKind,
        started: Instant,
        waiting: usize,
    ) -> CheckoutError {
        self.shared.refuse_and_count(kind, started, waiting)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.shared.dispatch.is_closed()
    }

    pub(crate) fn status(&self) -> RoleStatus {
        self.shared.status()
    }

    /// Closes connections that have been idle, or open, for longer than their limit.
    pub(crate) fn close_old(&self) {
        self.shared.close_old();
    }

    /// Says in the log who has held a connection for longer than the limit.
    pub(crate) fn report_long_holds(&self) {
        self.shared.report_long_holds();
    }

    /// Opens others in place of connections whose holders have ended without giving them back.
    pub(crate) fn give_up_leaks(&self) {
        self.shared.give_up_leaks();
    }

    /// Opens again what was closed for a fault, off the callers' path.
    pub(crate) fn refill(&self) {
        self.shared.refill();
    }

    /// Makes check-ins cheaper again when nobody has had to ask for a connection lately.
    pub(crate) fn calm_down(&self) {
        self.shared.dispatch.calm_down();
    }

    /// Hands what was counted to the recorder.
    pub(crate) fn publish_metrics(&self) {
        self.shared.publish_metrics();
    }

    pub(crate) fn downgrade(&self) -> WeakPool<M> {
        WeakPool { shared: Arc::downgrade(&self.shared) }
    }

    /// For whoever has all pools publish.
    pub(crate) fn publisher(&self) -> Weak<dyn Publish> {
        let shared: Weak<Shared<M>> = Arc::downgrade(&self.shared);
        shared
    }

    pub(crate) fn is_forked(&self) -> bool {
        self.shared.is_forked()
    }

    /// Somebody in a forked child has tried what cannot be done there.
    pub(crate) fn count_forked(&self) {
        self.shared.count_forked();
    }

    /// No more checkouts; idle connections are closed now, the others as they come back.
    pub(crate) fn close(&self) {
        self.shared.close();
    }
}

/// Another size.
impl<M: Manage> Pool<M> {
    /// Changes the limit; `false` = the pool is closed.
    pub(crate) fn resize(&self, limit: usize) -> bool {
        self.shared.resize(limit)
    }

    pub(crate) fn ceiling(&self) -> usize {
        self.shared.settings.ceiling
    }
}

/// The end.
impl<M: Manage> Pool<M> {
    /// After [`close`](Self::close): waits until the last connection is closed, those included
    /// that r2d2 was opening for somebody who has given up; else who has one.
    pub(crate) fn wait_until_closed(&self, deadline: Option<Instant>) -> Result<(), Vec<Holder>> {
        let shared = &self.shared;
        if shared.dispatch.wait_for_the_last(deadline) && shared.sources.end(deadline) {
            Ok(())
        } else {
            Err(self.shared.held())
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
