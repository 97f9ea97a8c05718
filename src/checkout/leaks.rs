//! Guards that were leaked (`mem::forget`, `Box::leak`), and the room they took.
//!
//! A guard stays on its thread, so once the thread has ended nobody can give the connection back, but
//! for the thread's own thread-locals: they are dropped around that moment, in an order that cannot be
//! known. So housekeeping waits a while. Then it says whose guard it was, and has another connection
//! opened in place of the leaked one. That one is never used again, nor closed: a leaked reference to
//! it may still be in use. If its guard is dropped after all, its connection is closed, and nothing
//! else is touched.
//!
//! r2d2 goes on to count a leaked connection, its limit is fixed, and it goes on to open for those who
//! have given up waiting. So that there are never more connections than slots in force, every slot has
//! a source of its own, for one connection; one whose connection was leaked gets another source.

use std::collections::BTreeMap;
use std::time::Duration;

use parking_lot::Mutex;

use super::clock;
use super::shared::{Lent, Shared};
use super::source::{Manage, Source};
use super::threads;

/// For how long a thread must have been gone: its thread-locals may take as long to be dropped.
const GRACE: Duration = Duration::from_secs(1);

/// The slots whose connections were leaked, and where they get others from.
///
/// Locked while a connection is given up and by whoever comes to give one back from a thread that has
/// ended, so that either comes first.
pub(super) struct Leaks<M: Manage>(Mutex<BTreeMap<usize, r2d2::Pool<Source<M>>>>);

impl<M: Manage> Leaks<M> {
    pub(super) fn new() -> Self {
        Self(Mutex::new(BTreeMap::new()))
    }

    /// Where the connections of this slot come from: one at a time.
    pub(super) fn source(
        &self,
        slot: usize,
        new: impl FnOnce() -> r2d2::Pool<Source<M>>,
    ) -> r2d2::Pool<Source<M>> {
        self.0.lock().entry(slot).or_insert_with(new).clone()
    }

    /// What r2d2 has opened for nobody there, or is about to, is closed.
    pub(super) fn forget(&self, slots: impl FnMut(usize) -> bool) {
        let mut slots = slots;
        let mut sources = self.0.lock();
        let gone: Vec<_> = sources.extract_if(.., |slot, _| slots(*slot)).collect();
        drop(sources);
        drop(gone);
    }
}

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
            let mut leaks = self.leaks.0.lock();
            // It may have been given back at the last moment.
            if note.holder() != Some(held.holder.number()) {
                continue;
            }
            note.give_up();
            leaks.insert(slot, self.new_source(1));
            drop(leaks);
            self.settings.metrics.leaks.increment(1);
            self.settings.log.leak(self.settings.role, &held.describe(now));
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
            let leaks = self.leaks.0.lock();
            if self.is_current(lent) {
                self.dispatch.note(lent.slot).detach();
            }
            drop(leaks);
        }
    }

    /// Whether the slot is still this connection's.
    #[inline]
    pub(super) fn is_current(&self, lent: &Lent<M>) -> bool {
        lent.generation == self.dispatch.note(lent.slot).generation()
    }
}
