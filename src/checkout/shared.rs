//! A checkout and a check-in: what is done around the decision who is next. A checkout that finds nothing
//! idle goes on in [`wait`](super::wait).
//!
//! [`Dispatch`] decides; here connections are opened, inspected, timed and closed, all of it without
//! any lock. Whoever has a slot's connection in hand, or the right to open it, owns what is noted and
//! counted for that slot.
//!
//! A checkout that finds a connection idle is one function without a call, and so is its check-in: what
//! they do takes no longer than to pass a guard through memory between two. Hence `inline(always)`, here
//! and in what they use, and the rest apart.

use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::clock;
use super::counts::AllCounts;
use super::deadlock;
use super::dispatch::Dispatch;
use super::holders::Place;
use super::labels::Labels;
use super::long_holds::Reported;
use super::old::{Idleness, has_outlived};
use super::pool::{Settings, Wait};
use super::source::{Manage, Source};
use super::sources::Sources;
use super::threads;
use crate::error::{CheckoutError, CheckoutErrorKind, caught, quietly};
use crate::fork::Birthplace;
use crate::metrics::CloseReason;

/// How long opening one of the first connections may take.
const FILL_PATIENCE: Duration = Duration::from_secs(5);

/// How long housekeeping waits for one connection to be reopened before it sees to its other work. What
/// takes longer goes on without it, and is fetched by its next try.
const REOPEN_PATIENCE: Duration = Duration::from_millis(500);

/// A connection with what goes with it from hand to hand.
pub(super) struct Lent<M: Manage> {
    /// From r2d2, checked out there for its whole life.
    pub(super) connection: r2d2::PooledConnection<Source<M>>,
    pub(super) slot: usize,
    /// Of the slot, when this was opened.
    pub(super) generation: u64,
    /// So many holds until one is timed.
    until_timed: u32,
    /// When the present hold began, if it is timed.
    timed_since: Option<clock::Moment>,
    /// While it is held by a guard that borrows no pool.
    pub(super) keeps: Option<Arc<Shared<M>>>,
}

pub(super) struct Shared<M: Manage> {
    pub(super) settings: Settings,
    manager: Arc<M>,
    pub(super) sources: Sources<M>,
    /// Boxed, so that a hand-over is the exchange of a pointer.
    pub(super) dispatch: Dispatch<Box<Lent<M>>>,
    pub(super) counts: AllCounts,
    pub(super) labels: Labels,
    pub(super) idleness: Idleness,
    pub(super) reported: Reported,
    birthplace: Birthplace,
    /// Locked while a connection is given up, and by whoever comes to write its note or to give it back
    /// from a thread that has ended, so that either comes first.
    pub(super) giving_up: Mutex<()>,
    /// Locked while the limit is changed and the metric set, so that the two agree in the end.
    resizing: Mutex<()>,
}

impl<M: Manage> Shared<M> {
    pub(super) fn new(manager: M, settings: Settings) -> Self {
        let manager = Arc::new(manager);
        let opener = Arc::clone(&settings.opener);
        let ceiling = settings.ceiling.max(settings.limit);
        settings.metrics.limit.set(settings.limit as f64);
        clock::start_over_in_child();
        let overtaking = u64::try_from(settings.overtaking.as_nanos()).unwrap_or(u64::MAX);
        Self {
            dispatch: Dispatch::new(settings.limit, ceiling, settings.max_waiters, overtaking),
            counts: AllCounts::new(ceiling),
            labels: Labels::new(ceiling),
            idleness: Idleness::new(ceiling),
            reported: Reported::new(ceiling),
            giving_up: Mutex::new(()),
            resizing: Mutex::new(()),
            sources: Sources::new(
                settings.role,
                Arc::clone(&settings.log),
                Arc::clone(&manager),
                opener,
                settings.metrics.connect.clone(),
            ),
            settings,
            manager,
            birthplace: Birthplace::here(),
        }
    }

    /// Whether this process is a child of the one that opened the pool. Nothing here may be touched
    /// then: threads of the parent, which do not exist any more, may have held any of the locks.
    #[inline]
    pub(super) fn is_forked(&self) -> bool {
        self.birthplace.is_elsewhere()
    }

    /// For somebody in a child who lets go of this: it is not dropped with the last one who does.
    #[cold]
    pub(super) fn leak(self: &Arc<Self>) {
        mem::forget(Arc::clone(self));
    }

    pub(super) fn fill(&self) -> Result<(), CheckoutError> {
        while let Some(slot) = self.dispatch.room() {
            let now = Instant::now();
            let lent = self.open(slot, now, Some(now + FILL_PATIENCE))?;
            self.give(lent);
        }
        Ok(())
    }
}

/// The checkout.
impl<M: Manage> Shared<M> {
    #[inline(always)]
    pub(super) fn check_out(
        self: &Arc<Self>,
        wait: Wait,
        place: Place,
    ) -> Result<Box<Lent<M>>, CheckoutError> {
        if self.is_forked() {
            return Err(self.refuse_forked());
        }
        let lent = match self.dispatch.take() {
            Some(mut lent) => {
                self.begin_hold(&mut lent, place);
                self.counts.immediate(lent.slot);
                lent
            }
            None => self.check_out_slowly(wait, place)?,
        };
        if threads::holds_any() {
            self.counts.nested(lent.slot);
        }
        Ok(lent)
    }

    /// A turn of the pool's own thread, in the queue like anybody's, however long that is. It is waited for
    /// as long as the limit, and again as often as `goes_on` says so then. It is not counted among the
    /// checkouts.
    pub(super) fn take_turn(
        self: &Arc<Self>,
        limit: Duration,
        goes_on: impl Fn() -> bool,
        place: Place,
    ) -> Result<Box<Lent<M>>, CheckoutError> {
        if self.is_forked() {
            return Err(self.refuse_forked());
        }
        match self.take_idle(place) {
            Some(lent) => Ok(lent),
            None => {
                let wait = Wait::AlwaysAdmitted(limit);
                let (answer, waiting) = self.ask(wait, place);
                let put_off = || goes_on().then(|| Instant::now() + limit);
                let served = self.wait_for(answer, waiting, wait, place, Instant::now(), put_off);
                served.map(|(lent, _)| lent)
            }
        }
    }

    /// As [`take_turn`](Self::take_turn), if nobody has one or waits for one.
    pub(super) fn try_turn(self: &Arc<Self>, place: Place) -> Option<Box<Lent<M>>> {
        if self.is_forked() { None } else { self.take_idle(place) }
    }

    fn take_idle(self: &Arc<Self>, place: Place) -> Option<Box<Lent<M>>> {
        let mut lent = self.dispatch.take()?;
        self.begin_hold(&mut lent, place);
        Some(lent)
    }

    #[cold]
    fn refuse_forked(&self) -> CheckoutError {
        self.count_forked();
        CheckoutError::forked(self.settings.role)
    }

    pub(super) fn count_forked(&self) {
        self.settings.metrics.forked.increment(1);
    }

    #[inline(always)]
    pub(super) fn begin_hold(&self, lent: &mut Lent<M>, place: Place) {
        self.time_hold(lent);
        self.dispatch.note(lent.slot).hold(place, clock::coarse());
    }

    /// Reads the clock if this hold is one of those to be timed.
    #[inline]
    pub(super) fn time_hold(&self, lent: &mut Lent<M>) {
        lent.until_timed -= 1;
        if lent.until_timed == 0 {
            let sampling = self.settings.hold_sampling;
            (lent.until_timed, lent.timed_since) = match sampling {
                0 => (u32::MAX, None),
                _ => (sampling, Some(clock::moment())),
            };
        }
    }

    /// Has r2d2 open a connection into a slot that is reserved for the caller.
    ///
    /// r2d2 tries again with back-off until the deadline, which is what a cause that heals (no file
    /// descriptor left, say) needs.
    pub(super) fn open(
        &self,
        slot: usize,
        started: Instant,
        deadline: Option<Instant>,
    ) -> Result<Box<Lent<M>>, CheckoutError> {
        let patience =
            deadline.map_or(Duration::MAX / 4, |at| at.saturating_duration_since(started));
        let asked = Instant::now();
        // r2d2 adds its time-out to the clock and would panic on an overflow.
        let patience =
            patience.saturating_sub(asked - started).min(Duration::from_secs(86_400 * 365));
        let source = self.sources.of(slot);
        match source.get_timeout(patience) {
            Ok(mut connection) => {
                // From here on it is the slot that counts it.
                connection.opening = None;
                self.settings.metrics.opened.increment(1);
                let note = self.dispatch.note(slot);
                note.opened(clock::now());
                let generation = note.generation();
                Ok(Box::new(Lent {
                    connection,
                    slot,
                    generation,
                    until_timed: 1,
                    timed_since: None,
                    keeps: None,
                }))
            }
            Err(_) => {
                if self.dispatch.is_closed() || slot >= self.dispatch.limit() {
                    self.sources.forget(|one| one == slot);
                }
                // Or it might open one when the slot is empty and the pool said to be closed.
                drop(source);
                self.dispatch.vacate(slot);
                let kind = match self.sources.last_failure() {
                    Some(_) => CheckoutErrorKind::Connect,
                    None => CheckoutErrorKind::Timeout,
                };
                Err(self.error(kind, started))
            }
        }
    }
}

/// The check-in.
impl<M: Manage> Shared<M> {
    /// Inspects, then hands on, parks or closes.
    #[inline(always)]
    pub(super) fn check_in(&self, mut lent: Box<Lent<M>>) {
        if !self.is_current(&lent) {
            return self.close_given_up(lent);
        }
        let connection = &mut lent.connection.connection;
        // A panic here would leave the holder's name and the room behind.
        let broken = caught(|| self.manager.has_broken(connection)).unwrap_or(true);
        if let Some(since) = lent.timed_since.take() {
            self.end_timed_hold(lent.slot, since);
        }
        if broken {
            self.replace(lent, CloseReason::Broken);
        } else if self.has_expired(lent.slot) {
            self.replace(lent, CloseReason::Lifetime);
        } else {
            self.give(lent);
        }
    }

    /// A connection leaves its holder's thread.
    pub(super) fn detach(&self, lent: &Lent<M>) {
        self.keep_from_being_given_up(lent);
        if self.is_current(lent) {
            self.dispatch.note(lent.slot).detach();
        }
    }

    /// A connection has come to the calling thread.
    pub(super) fn attach(&self, lent: &Lent<M>, place: Place) {
        if self.is_current(lent) {
            let note = self.dispatch.note(lent.slot);
            self.labels.carry(lent.slot, note, || note.attach(place));
        }
    }

    // Apart from what every check-in does, so that this stays short.
    #[inline(never)]
    fn end_timed_hold(&self, slot: usize, since: clock::Moment) {
        self.counts.hold(slot, clock::nanoseconds_since(since));
    }

    #[inline(always)]
    fn give(&self, lent: Box<Lent<M>>) {
        if let Some(lent) = self.dispatch.give(lent.slot, lent) {
            self.close_surplus(lent);
        }
    }

    #[inline]
    fn has_expired(&self, slot: usize) -> bool {
        self.settings.max_lifetime.is_some_and(|limit| {
            let opened = self.dispatch.note(slot).opened_at();
            has_outlived(limit, slot, opened, clock::coarse())
        })
    }

    /// Closes a connection; another is opened by whoever waits, or else in the background.
    #[cold]
    #[inline(never)]
    #[allow(clippy::boxed_local)] // A pointer for the fast path to pass, rather than a copy.
    pub(super) fn replace(&self, lent: Box<Lent<M>>, reason: CloseReason) {
        let closed = self.dispatch.is_closed();
        self.discard(*lent, if closed { CloseReason::PoolClosed } else { reason });
        if self.dispatch.miss() {
            self.ask_for_refill();
        }
    }

    pub(super) fn discard(&self, lent: Lent<M>, reason: CloseReason) {
        let slot = self.close_connection(lent, reason);
        self.dispatch.vacate(slot);
    }

    /// The slot has another connection by now.
    #[cold]
    #[inline(never)]
    #[allow(clippy::boxed_local)] // As of `replace`.
    fn close_given_up(&self, lent: Box<Lent<M>>) {
        self.close_connection(*lent, CloseReason::Leaked);
    }

    /// Returns its slot, which is to be vacated.
    fn close_connection(&self, lent: Lent<M>, reason: CloseReason) -> usize {
        let slot = lent.slot;
        let mut connection = lent.connection;
        connection.discard = true;
        // Closed here, by r2d2, before the room is given up: r2d2 counts against the same limit.
        // A value of the caller's that lives in it may panic when it is dropped.
        if let Err(message) = caught(|| drop(connection)) {
            let (pool, role) = (self.settings.log.pool(), self.settings.role);
            quietly(|| tracing::error!(pool, role, message, "closing a connection panicked"));
        }
        self.settings.metrics.closed(reason);
        slot
    }

    pub(super) fn ask_for_refill(&self) {
        // Full means that housekeeping has been told already.
        let _ = self.settings.refill.try_send(());
    }

    pub(super) fn refill(&self) {
        while let Some(slot) = self.dispatch.missing_room() {
            let now = Instant::now();
            match self.open(slot, now, Some(now + REOPEN_PATIENCE)) {
                Ok(lent) => self.give(lent),
                Err(error) => {
                    // Left for the next try, a second later, unless a checkout comes first.
                    self.dispatch.miss();
                    tracing::warn!(pool = self.settings.log.pool(), role = self.settings.role, %error, "could not reopen a connection yet");
                    return;
                }
            }
        }
    }

    /// Closes what the dispatch did not want back, or has no place for any more. Of the slots that are
    /// left some may be empty: then another is opened there.
    #[cold]
    #[inline(never)]
    #[allow(clippy::boxed_local)] // As of `replace`.
    fn close_surplus(&self, lent: Box<Lent<M>>) {
        let closed = self.dispatch.is_closed();
        let reason = if closed { CloseReason::PoolClosed } else { CloseReason::Resized };
        let slot = self.close_connection(*lent, reason);
        self.dispatch.vacate_surplus(slot);
        if self.dispatch.miss() {
            self.ask_for_refill();
        }
    }

    /// `false` = the pool is closed.
    pub(super) fn resize(&self, limit: usize) -> bool {
        let resizing = self.resizing.lock();
        let before = self.dispatch.limit();
        let Some(surplus) = deadlock::look_again(|| self.dispatch.resize(limit)) else {
            return false;
        };
        self.settings.metrics.limit.set(limit as f64);
        drop(resizing);
        for (_, lent) in surplus {
            self.close_surplus(lent);
        }
        // Somebody else may have raised it again.
        let in_force = self.dispatch.limit();
        self.sources.forget(|slot| slot >= in_force);
        if limit > before {
            // What nobody has asked for is opened in the background.
            while self.dispatch.miss() {}
            self.ask_for_refill();
        }
        true
    }

    pub(super) fn close(&self) {
        let resizing = self.resizing.lock();
        let idle = self.dispatch.close();
        self.settings.metrics.limit.set(0.0);
        drop(resizing);
        for (_, lent) in idle {
            self.discard(*lent, CloseReason::PoolClosed);
        }
        self.sources.forget(|_| true);
        self.publish_metrics();
    }
}

impl<M: Manage> Drop for Shared<M> {
    /// The last guard is gone: what it counted is not lost.
    fn drop(&mut self) {
        self.publish_metrics();
    }
}
