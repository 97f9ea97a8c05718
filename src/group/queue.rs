//! Who leads, and who waits for the next batch.
//!
//! At most one caller leads at a time: it takes the writer in turn, like anyone, and runs its own work
//! and what is in the queue. Before it commits it hands the lead on, to the first caller whose work it
//! has not taken, so that the next batch gathers, and its leader wakes, while this one is being
//! written. With nobody to hand it to there is no leader, and the next to come is one.
//!
//! A thread of its own that writes for all would cost a lone caller two changes of thread for each
//! commit. A token in a channel that all waiting callers listen to would wake callers whose work is
//! being committed already. A channel for the requests cannot let go of those that were given up:
//! while one batch took long they filled it, and callers were turned away although nobody waited.
//!
//! **Nobody is forgotten.** Whether somebody leads and who waits change together, under one lock: a
//! caller that finds nobody leading leads, one that is put into the queue has a leader before it, who
//! hands on the lead when its batch is over, whatever has become of it. A caller that was told to lead
//! is out of the queue and does not look at its deadline before it has.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::request::{Caller, Job};
use super::sync::{Condvar, Mutex};
use super::yielding::Yielding;

/// For how long a batch may gather callers that are being woken with the answers of the one before.
/// Without it they find a core busy with a batch of one, and the commits are as many as the callers.
const GATHERING: Duration = Duration::from_micros(300);

/// Why a caller is not let in.
#[derive(Debug)]
pub(super) enum Refused {
    /// So many are waiting already.
    Full(usize),
    Closed,
}

/// How a caller was let in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Place {
    /// It runs its own work, and that of those who come meanwhile.
    Leader,
    /// Its work is in the queue, and so many others are inside.
    Queue { others: usize },
    /// It shares with nobody.
    Alone,
}

#[derive(Default)]
struct State {
    /// Somebody leads, or has been told to.
    led: bool,
    waiting: VecDeque<Arc<dyn Job>>,
    /// Callers that have been let in and have not returned.
    sharing: usize,
    alone: usize,
    closed: bool,
}

pub(crate) struct GroupQueue {
    /// How many may wait beside the one who leads.
    limit: usize,
    /// Held for a few moves at a time, and while no code of the application runs.
    state: Mutex<State>,
    empty: Condvar,
    yielding: Yielding,
}

impl GroupQueue {
    /// At most so many may wait.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            state: Mutex::new(State::default()),
            empty: Condvar::new(),
            yielding: Yielding::new(),
        }
    }

    /// Of the callers of this queue.
    pub(super) fn yielding(&self) -> &Yielding {
        &self.yielding
    }

    /// Lets a caller in that may share with others. It leads when nobody does.
    pub(super) fn join(&self, request: Arc<dyn Job>) -> Result<Place, Refused> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(Refused::Closed);
        }
        if state.led {
            if state.waiting.len() >= self.limit {
                return Err(Refused::Full(state.waiting.len()));
            }
            state.waiting.push_back(request);
            state.sharing += 1;
            return Ok(Place::Queue { others: state.sharing - 1 });
        }
        state.led = true;
        state.sharing += 1;
        Ok(Place::Leader)
    }

    /// Lets a caller in that shares with nobody.
    pub(super) fn enter_alone(&self) -> Result<Place, Refused> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(Refused::Closed);
        }
        state.alone += 1;
        Ok(Place::Alone)
    }

    /// A caller returns.
    pub(super) fn left(&self, place: Place) {
        let mut state = self.state.lock();
        match place {
            Place::Alone => state.alone -= 1,
            Place::Leader | Place::Queue { .. } => state.sharing -= 1,
        }
        if state.closed && state.sharing + state.alone == 0 {
            self.empty.notify_all();
        }
    }

    pub(super) fn next(&self) -> Option<Arc<dyn Job>> {
        self.state.lock().waiting.pop_front()
    }

    /// As [`next`](Self::next), for a batch that has begun with so many. Callers that were answered and
    /// have not returned yet are about to run, and may come again: they are let run first.
    pub(super) fn next_soon(&self, taken: usize, began: Instant) -> Option<Arc<dyn Job>> {
        self.next().or_else(|| {
            if self.state.lock().sharing <= taken || began.elapsed() >= GATHERING {
                return None;
            }
            self.yielding.once();
            self.next()
        })
    }

    /// Whose deadline has passed has no place in the queue any more.
    pub(super) fn give_up(&self, request: &Arc<dyn Job>) {
        let is_it = |waiting: &Arc<dyn Job>| Arc::ptr_eq(waiting, request);
        let mut state = self.state.lock();
        if let Some(at) = state.waiting.iter().position(is_it) {
            state.waiting.remove(at);
        }
    }

    /// By the leader: the first in the queue leads from now on, if there is one.
    pub(super) fn hand_on(&self) {
        loop {
            let mut state = self.state.lock();
            let Some(request) = state.waiting.pop_front() else {
                state.led = false;
                return;
            };
            drop(state);
            // Else it was given up meanwhile.
            if request.appoint() {
                return;
            }
        }
    }

    /// Who waits for a transaction and has not been told to lead one, in order.
    pub(super) fn waiting(&self) -> Vec<Caller> {
        self.state.lock().waiting.iter().map(|job| job.caller().clone()).collect()
    }

    /// How many those are.
    pub(super) fn waiting_count(&self) -> usize {
        self.state.lock().waiting.len()
    }

    /// How many callers are inside.
    pub(super) fn inside(&self) -> usize {
        let state = self.state.lock();
        state.sharing + state.alone
    }

    /// Lets nobody in any more, and waits for those inside until the deadline.
    pub(super) fn close(&self, deadline: Option<Instant>) {
        let mut state = self.state.lock();
        state.closed = true;
        let mut passed = false;
        while state.sharing + state.alone > 0 && !passed {
            (state, passed) = match deadline {
                Some(deadline) => self.empty.wait_until(state, deadline),
                None => (self.empty.wait(state), false),
            };
        }
    }
}
