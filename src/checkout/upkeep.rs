//! What a [`Dispatch`] does for those who look after it: another limit, the end, opening ahead of time
//! and again, and what is to be seen of it.
//!
//! Apart from the checkout itself, because none of it is on its way: all is done under the lock. What
//! keeps it in step with checkouts that take none is told at the head of [`dispatch`](super::dispatch).

use std::time::Instant;

use super::clock;
use super::dispatch::Dispatch;
use super::holders::{Asker, Note};
use super::queue::{Message, Told, Turn};
use super::sync::{Ordering, asymmetric_fence};

impl<T> Dispatch<T> {
    /// No more turns. What is idle is the caller's to close; what is held comes back by
    /// [`give`](Self::give).
    pub(super) fn close(&self) -> Vec<(usize, T)> {
        let mut told = Told::nobody();
        let mut state = self.state.lock();
        state.closed = true;
        self.shut(&mut state);
        let mut idle = std::mem::take(&mut state.spare);
        let slots = 0..self.slots.len();
        idle.extend(slots.filter_map(|slot| Some((slot, self.slots.take(slot)?))));
        let now = clock::now();
        while let Some(waiter) = state.queue.pop(now) {
            told.tell(waiter, Message::Turn(Turn::Closed));
        }
        drop(state);
        idle
    }

    /// Changes the limit: new room goes to those who wait. The connections that are returned are the
    /// caller's to close, and then to [`vacate_surplus`](Self::vacate_surplus); what else is too much is
    /// returned by [`give`](Self::give) when it comes back. `None` = the pool is closed.
    pub(super) fn resize(&self, limit: usize) -> Option<Vec<(usize, T)>> {
        let mut told = Told::nobody();
        let mut guard = self.state.lock();
        let state = &mut *guard;
        if state.closed {
            return None;
        }
        let slots = self.slots.len();
        let before = std::mem::replace(&mut state.limit, limit);
        self.reach.store(self.reach.load(Ordering::Relaxed).max(limit), Ordering::Relaxed);
        // In this order: see the head of `dispatch`.
        self.shut(state);
        let mut surplus: Vec<(usize, T)> = (limit..before)
            .filter_map(|slot| Some((slot, self.slots.take(slot)?)))
            .chain(state.spare.extract_if(.., |(slot, _)| *slot >= limit))
            .collect();
        let mut empty = std::mem::take(&mut state.vacant);
        empty.append(&mut state.retired);
        // The first slot is used first.
        empty.sort_unstable_by(|one, other| other.cmp(one));
        (state.retired, state.vacant) = empty.into_iter().partition(|slot| *slot >= limit);
        // The rest of what is idle and too much, the last slots first.
        let mut left = state.open(slots) - state.closing - surplus.len();
        let mut idle = (0..limit).rev();
        while left > limit {
            let found = state
                .spare
                .pop()
                .or_else(|| idle.find_map(|slot| Some((slot, self.slots.take(slot)?))));
            let Some(found) = found else { break };
            surplus.push(found);
            left -= 1;
        }
        state.closing += surplus.len();
        for (slot, _) in &surplus {
            self.slots.note(*slot).vacant();
        }
        self.settle(&mut guard, clock::now(), &mut told);
        drop(guard);
        Some(surplus)
    }

    /// After [`close`](Self::close): sleeps until every connection is gone, also those that were held
    /// or being opened; `false` = the deadline came first.
    pub(super) fn wait_for_the_last(&self, deadline: Option<Instant>) -> bool {
        let mut state = self.state.lock();
        let mut passed = false;
        while state.open(self.slots.len()) > 0 && !passed {
            (state, passed) = match deadline {
                None => (self.all_gone.wait(state), false),
                Some(deadline) => self.all_gone.wait_until(state, deadline),
            };
        }
        let gone = state.open(self.slots.len()) == 0;
        drop(state);
        if gone {
            // Somebody else may wait for the same; each tells the next.
            self.all_gone.notify_one();
        }
        gone
    }

    /// Calm returns, if nobody has asked since this was last called.
    pub(super) fn calm_down(&self) {
        let mut state = self.state.lock();
        let asked = std::mem::take(&mut state.asked);
        if !asked && !state.calm && asymmetric_fence::is_available() {
            state.calm = true;
            self.set_gate(&mut state);
        }
    }

    /// Room that nobody has asked for, to open a connection ahead of time.
    pub(super) fn room(&self) -> Option<usize> {
        let mut state = self.state.lock();
        if state.closed { None } else { state.take_room(self.slots.len()) }
    }

    /// Room for one of the connections that are to be opened again; `None` when there is none left.
    pub(super) fn missing_room(&self) -> Option<usize> {
        let mut state = self.state.lock();
        let missing = std::mem::take(&mut state.missing).min(state.room(self.slots.len()));
        if missing == 0 || state.closed {
            return None;
        }
        state.missing = missing - 1;
        state.take_room(self.slots.len())
    }

    /// One connection more is to be opened again, unless somebody waits and does so himself.
    pub(super) fn miss(&self) -> bool {
        let mut state = self.state.lock();
        let missed = !state.closed && state.missing < state.room(self.slots.len());
        state.missing += usize::from(missed);
        missed
    }

    /// Takes the connection of this slot if it is idle and `more` than so many are open.
    pub(super) fn withdraw(&self, slot: usize, more: usize) -> Option<T> {
        let state = self.state.lock();
        if state.open(self.slots.len()) <= more {
            return None;
        }
        let connection = self.slots.take(slot)?;
        self.slots.note(slot).vacant();
        Some(connection)
    }

    pub(super) fn notes(&self) -> impl Iterator<Item = &Note> {
        self.slots.notes(self.reach.load(Ordering::Relaxed))
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state.lock().closed
    }

    /// How many connections are idle, held or being opened.
    pub(super) fn open(&self) -> usize {
        self.state.lock().open(self.slots.len())
    }

    /// The slots that are not empty, and how many more than the limit they are.
    pub(super) fn in_use(&self) -> (Vec<usize>, usize) {
        let state = self.state.lock();
        let empty = |slot: &usize| state.vacant.contains(slot) || state.retired.contains(slot);
        let slots: Vec<usize> = (0..self.slots.len()).filter(|slot| !empty(slot)).collect();
        let surplus = slots.len().saturating_sub(state.limit);
        (slots, surplus)
    }

    /// How many may be.
    pub(super) fn limit(&self) -> usize {
        self.state.lock().limit
    }

    pub(super) fn waiting(&self) -> usize {
        self.state.lock().queue.len()
    }

    /// How many wait, and since when the one who came first.
    pub(super) fn oldest_waiter(&self) -> (usize, Option<u64>) {
        let state = self.state.lock();
        (state.queue.len(), state.queue.waiters().next().map(|waiter| waiter.since))
    }

    /// Whether the waiter of that number has neither left the queue nor been granted a turn.
    pub(super) fn is_waiting(&self, number: u64) -> bool {
        self.state.lock().queue.before(number).is_some()
    }

    /// Who waits and since when, in the order in which they will be served.
    pub(super) fn waiters(&self) -> Vec<(Asker, u64)> {
        let state = self.state.lock();
        state.queue.waiters().map(|waiter| (waiter.asker.clone(), waiter.since)).collect()
    }
}
