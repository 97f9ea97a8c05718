//! Guards that were leaked (`mem::forget`, `Box::leak`), and the room they took.
//!
//! A guard stays on its thread, so once the thread has ended nobody can give the connection back, but
//! for the thread's own thread-locals: they are dropped around that moment, in an order that cannot be
//! known. So housekeeping waits a while. Then it says whose guard it was, and has another connection
//! opened in place of the leaked one. That one is never used again, nor closed: a leaked reference to
//! it may still be in use. If its guard is dropped after all, its connection is closed, and nothing
//! else is touched.

use std::time::Duration;

use super::clock;
use super::shared::{Lent, Shared};
use super::source::Manage;
use super::threads;

/// For how long a thread must have been gone: its thread-locals may take as long to be dropped.
const GRACE: Duration = Duration::from_secs(1);

impl<M: Manage> Shared<M> {
    /// Looks for connections whose holders have ended. No checkout waits for this.
    pub(super) fn give_up_leaks(&self) {
        let now = clock::now();
        for (slot, note) in self.dispatch.notes().enumerate() {
            let Some(held) = note.held().filter(|held| !held.detached) else { continue };
            let gone = |ended| u128::from(now.saturating_sub(ended)) >= GRACE.as_nanos();
            if !held.holder.ended().is_some_and(gone) {
                continue;
            }
            let holder = self.describe(slot, &held, now);
            let giving_up = self.giving_up.lock();
            // It may have been given back at the last moment.
            if note.holder() != Some(held.holder.number()) {
                continue;
            }
            note.give_up();
            drop(giving_up);
            // It goes on to count the connection that is gone.
            self.sources.forget(|one| one == slot);
            self.settings.metrics.leaks.increment(1);
            self.settings.log.leak(self.settings.role, &holder);
            self.dispatch.vacate(slot);
            if self.dispatch.miss() {
                self.ask_for_refill();
            }
        }
    }

    /// To be called before the holder writes the note of a connection or gives it back.
    #[inline]
    pub(super) fn keep_from_being_given_up(&self, lent: &Lent<M>) {
        if threads::has_ended() {
            let giving_up = self.giving_up.lock();
            if self.is_current(lent) {
                self.dispatch.note(lent.slot).detach();
            }
            drop(giving_up);
        }
    }

    /// Whether the slot is still this connection's.
    #[inline]
    pub(super) fn is_current(&self, lent: &Lent<M>) -> bool {
        lent.generation == self.dispatch.note(lent.slot).generation()
    }
}
