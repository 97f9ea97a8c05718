//! The waiters: served strictly in order of arrival, each by its deadline.
//!
//! A connection that comes back is handed to the waiter at the head, not put where anyone may take
//! it: a condition variable shared by all would let newcomers overtake without bound. What is handed
//! over is a [`Turn`]. It is put down under the pool's lock, so a waiter whose deadline passes at the
//! same moment either is still in the queue (and leaves it) or has its turn already (and takes it);
//! nothing can be lost in between.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::{self, Thread};
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

use super::holders::{Place, thread_name};
use crate::status::Waiter as WaiterStatus;

/// What a waiter is given.
pub(super) enum Turn<L> {
    /// A connection, ready to use and noted as held by the waiter.
    Lease(L),
    /// The right to open one: the limit has room and the room is reserved.
    Open,
    /// The pool was closed.
    Closed,
}

/// One thread's wait.
pub(super) struct Waiter<L> {
    thread: Thread,
    place: Place,
    since: Instant,
    /// Written once, under the pool's lock; locked by the waiting thread only while it sleeps.
    turn: Mutex<Option<Turn<L>>>,
    granted: Condvar,
}

impl<L> Waiter<L> {
    /// Sleeps until a turn comes or the deadline passes.
    pub(super) fn wait(&self, deadline: Option<Instant>) -> Option<Turn<L>> {
        let mut turn = self.turn.lock();
        loop {
            if let Some(turn) = turn.take() {
                return Some(turn);
            }
            match deadline {
                None => self.granted.wait(&mut turn),
                Some(deadline) => {
                    if self.granted.wait_until(&mut turn, deadline).timed_out() {
                        return turn.take();
                    }
                }
            }
        }
    }
}

/// All waits, the longest first.
pub(super) struct Queue<L> {
    waiters: VecDeque<Arc<Waiter<L>>>,
}

impl<L> Queue<L> {
    pub(super) fn new() -> Self {
        Self { waiters: VecDeque::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.waiters.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiters.is_empty()
    }

    /// Takes a place at the end.
    pub(super) fn join(&mut self, place: Place, since: Instant) -> Arc<Waiter<L>> {
        let waiter = Arc::new(Waiter {
            thread: thread::current(),
            place,
            since,
            turn: Mutex::new(None),
            granted: Condvar::new(),
        });
        self.waiters.push_back(Arc::clone(&waiter));
        waiter
    }

    /// Who is next, and where it asked.
    pub(super) fn first(&self) -> Option<(Thread, Place)> {
        self.waiters.front().map(|waiter| (waiter.thread.clone(), waiter.place))
    }

    /// Gives the turn to the waiter at the head; `false` when nobody waits.
    pub(super) fn grant(&mut self, turn: Turn<L>) -> bool {
        let Some(waiter) = self.waiters.pop_front() else {
            return false;
        };
        *waiter.turn.lock() = Some(turn);
        waiter.granted.notify_one();
        true
    }

    /// Leaves after a deadline. `Some` when the turn had been granted at the same moment.
    pub(super) fn leave(&mut self, waiter: &Arc<Waiter<L>>) -> Option<Turn<L>> {
        if let Some(at) = self.waiters.iter().position(|other| Arc::ptr_eq(other, waiter)) {
            self.waiters.remove(at);
            return None;
        }
        waiter.turn.lock().take()
    }

    pub(super) fn describe(&self, now: Instant) -> Vec<WaiterStatus> {
        let describe = |waiter: &Arc<Waiter<L>>| WaiterStatus {
            thread: thread_name(&waiter.thread),
            place: waiter.place.to_string(),
            waited: now.saturating_duration_since(waiter.since),
        };
        self.waiters.iter().map(describe).collect()
    }
}
