//! A checkout that has found nothing idle: what it asks for, what it waits for, and why it is refused.
//!
//! [`Dispatch`](super::dispatch) says at once what there is for it: a connection after all, room to open
//! one, a place in the queue, or nothing. Here the wait has its deadline, is listed for
//! [deadlocks](super::deadlock), and is counted.

use std::sync::Arc;
use std::time::Instant;

use super::clock;
use super::deadlock::{Outlook, Waiting};
use super::dispatch::{Answer, Look};
use super::holders::{Asker, Place};
use super::pool::Wait;
use super::queue::Turn;
use super::shared::{Lent, Shared};
use super::source::Manage;
use crate::error::{CheckoutError, CheckoutErrorKind, Refusal, quietly};
use crate::metrics::{CheckoutOutcome, CloseReason};

impl<M: Manage> Shared<M> {
    #[cold]
    pub(super) fn check_out_slowly(
        self: &Arc<Self>,
        wait: Wait,
        place: Place,
    ) -> Result<Box<Lent<M>>, CheckoutError> {
        let (answer, waiting) = self.ask(wait, place);
        let lent = match answer {
            // Where holds are short this is the usual case of a pool for whose connections threads wait:
            // the system's clock is not read for it.
            Answer::Connection(mut lent) => {
                self.begin_hold(&mut lent, place);
                let lent = self.unless_refused(lent).inspect_err(|error| {
                    self.settings.metrics.checkouts(error.outcome(), 1);
                })?;
                self.counts.immediate(lent.slot);
                lent
            }
            answer => {
                let started = Instant::now();
                let queued = waiting.is_ok() && matches!(answer, Answer::Wait(_));
                let result = self
                    .wait_for(answer, waiting, wait, place, started, || None)
                    .and_then(|(lent, outcome)| Ok((self.unless_refused(lent)?, outcome)));
                let outcome = match &result {
                    Ok((_, outcome)) => *outcome,
                    Err(error) => error.outcome(),
                };
                match &result {
                    Ok((lent, CheckoutOutcome::Immediate)) => self.counts.immediate(lent.slot),
                    _ => {
                        // A panic of the recorder or the log would lose the connection.
                        quietly(|| {
                            self.settings.metrics.checkout(outcome, started, queued);
                            self.say_if_slow(place, started);
                        });
                    }
                }
                result?.0
            }
        };
        Ok(lent)
    }

    /// Gives it back if the pool has stopped meanwhile.
    fn unless_refused(&self, lent: Box<Lent<M>>) -> Result<Box<Lent<M>>, CheckoutError> {
        let Some(refusal) = (self.settings.refusal)() else { return Ok(lent) };
        self.keep_from_being_given_up(&lent);
        self.check_in(lent);
        Err(refusal)
    }

    fn say_if_slow(&self, place: Place, started: Instant) {
        if let Some(limit) = self.settings.slow_checkout_after {
            let waited = started.elapsed();
            if waited >= limit {
                self.settings.log.slow_checkout(self.settings.role, place, waited);
            }
        }
    }

    pub(super) fn ask(
        self: &Arc<Self>,
        wait: Wait,
        place: Place,
    ) -> (Answer<Box<Lent<M>>>, Outlook) {
        let asker = match wait {
            Wait::Never => None,
            Wait::Usual | Wait::AtMost(_) => Some(Asker::current(place)),
            Wait::AlwaysAdmitted(_) => Some(Asker::current(place).admitted()),
        };
        Waiting::ask(self, asker, clock::now())
    }

    /// What follows from the answer: a wait, at most. `put_off` = until when instead, when its time is over.
    pub(super) fn wait_for(
        self: &Arc<Self>,
        answer: Answer<Box<Lent<M>>>,
        waiting: Outlook,
        wait: Wait,
        place: Place,
        started: Instant,
        put_off: impl Fn() -> Option<Instant>,
    ) -> Result<(Box<Lent<M>>, CheckoutOutcome), CheckoutError> {
        // A deadline too far away to be represented is none.
        let deadline = match wait {
            Wait::Never => Some(started),
            Wait::Usual => started.checked_add(self.settings.checkout_timeout),
            Wait::AtMost(limit) | Wait::AlwaysAdmitted(limit) => started.checked_add(limit),
        };
        let waiter = match answer {
            Answer::Connection(mut lent) => {
                self.begin_hold(&mut lent, place);
                return Ok((lent, CheckoutOutcome::Immediate));
            }
            Answer::Room(slot) => {
                let lent = self.open_for(slot, place, started, deadline)?;
                return Ok((lent, CheckoutOutcome::Immediate));
            }
            Answer::Unavailable { refill } => {
                if refill {
                    self.ask_for_refill();
                }
                return Err(self.error(CheckoutErrorKind::Unavailable, started));
            }
            Answer::Overloaded => return Err(self.error(CheckoutErrorKind::Overloaded, started)),
            Answer::Closed => return Err(self.error(CheckoutErrorKind::Closed, started)),
            Answer::Wait(waiter) => waiter,
        };
        let (turn, holders) = match waiting {
            Ok(waiting) => (self.dispatch.wait(&waiter, deadline, &put_off), waiting.end()),
            // A turn that was granted at this very moment is taken.
            Err(holders) => {
                let turn = self.dispatch.look(&waiter, Look::Last);
                (Some(turn.unwrap_or(Turn::WouldDeadlock)), holders)
            }
        };
        let lent = match turn {
            Some(Turn::Connection(mut lent)) => {
                self.time_hold(&mut lent);
                lent
            }
            Some(Turn::Room(slot)) => {
                self.open_for(slot, place, started, put_off().or(deadline))?
            }
            Some(Turn::Closed) => return Err(self.error(CheckoutErrorKind::Closed, started)),
            Some(Turn::WouldDeadlock) => {
                let refusal = self.refusal(CheckoutErrorKind::WouldDeadlock, started);
                return Err(Refusal { holders, ..refusal }.into_error());
            }
            None => {
                let mut refusal = self.refusal(CheckoutErrorKind::Timeout, started);
                // Nobody is in the way: it is the opening that takes so long.
                if refusal.held == 0 && refusal.cause.is_some() {
                    refusal.kind = CheckoutErrorKind::Connect;
                }
                return Err(refusal.into_error());
            }
        };
        Ok((lent, CheckoutOutcome::Waited))
    }

    fn open_for(
        &self,
        slot: usize,
        place: Place,
        started: Instant,
        deadline: Option<Instant>,
    ) -> Result<Box<Lent<M>>, CheckoutError> {
        let mut lent = self.open(slot, started, deadline)?;
        if self.dispatch.is_closed() {
            self.replace(lent, CloseReason::PoolClosed);
            return Err(self.error(CheckoutErrorKind::Closed, started));
        }
        self.begin_hold(&mut lent, place);
        Ok(lent)
    }

    pub(super) fn error(&self, kind: CheckoutErrorKind, started: Instant) -> CheckoutError {
        self.refusal(kind, started).into_error()
    }

    pub(super) fn refuse_and_count(
        &self,
        kind: CheckoutErrorKind,
        started: Instant,
        waiting: usize,
    ) -> CheckoutError {
        let error = Refusal { waiting, ..self.refusal(kind, started) }.into_error();
        self.settings.metrics.checkout(error.outcome(), started, false);
        error
    }

    fn refusal(&self, kind: CheckoutErrorKind, started: Instant) -> Refusal {
        let mut held = self.held();
        Refusal {
            role: self.settings.role,
            kind,
            waited: started.elapsed(),
            limit: self.dispatch.limit(),
            held: held.len(),
            waiting: self.dispatch.waiting(),
            longest: (!held.is_empty()).then(|| held.swap_remove(0)),
            holders: Vec::new(),
            cause: self.sources.last_failure(),
        }
    }
}
