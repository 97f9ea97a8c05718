//! Who gets which connection: the state machine of a role, in one place.
//!
//! While nobody waits, checkouts and check-ins exchange connections with the [slots](super::slots)
//! and touch nothing that is shared. As soon as somebody waits the `gate` is shut, and everything is
//! decided under one lock, held for a few moves at a time: a connection that comes back goes to the
//! waiter at the head, or, as long as that one has been at the head for less than `overtaking`, is
//! put down as a spare, which the head is invited to fetch and a newcomer may take before it comes.
//! Why: a thread takes long to wake, and a connection that lies idle meanwhile is what makes strict
//! order slow where holds are short. Why by time: a bound on the number of those who overtake bounds
//! no wait.
//!
//! **No wake-up is lost.** The first waiter shuts the gate and then exchanges every slot for nothing.
//! A check-in exchanges its slot for the connection and then looks at the gate. For that slot one
//! exchange comes first: if the check-in's does, the waiter finds the connection; if the waiter's
//! does, the check-in has seen what was written before it, that is, the gate shut, and goes to the
//! lock. Later waiters find the gate shut already. `tests/loom` tries all interleavings.
//!
//! **Strict order.** With `overtaking` 0 nothing is ever a spare while somebody waits. A newcomer
//! that finds the gate open has come before every waiter that it might seem to overtake.

use std::sync::Arc;
use std::time::Instant;

use super::clock;
use super::holders::{Asker, Note};
use super::queue::{Message, Queue, Told, Turn, Waiter};
use super::slots::Slots;
use super::sync::{AtomicUsize, Condvar, Mutex, MutexGuard, Ordering};

const OPEN: usize = 0;
const SHUT: usize = 1;

/// What somebody who asks is told at once.
pub(super) enum Answer<T> {
    Connection(T),
    /// The right to open one into this slot.
    Room(usize),
    /// Stand in line.
    Wait(Arc<Waiter<T>>),
    /// There is no connection without waiting. `refill` = somebody ought to open one.
    Unavailable {
        refill: bool,
    },
    /// Too many are waiting.
    Overloaded,
    Closed,
}

struct State<T> {
    queue: Queue<T>,
    /// Free connections and their slots, while somebody waits; empty while nobody does.
    spare: Vec<(usize, T)>,
    /// Slots without a connection: room to open one.
    vacant: Vec<usize>,
    /// How many connections were closed for a fault and are to be opened again.
    missing: usize,
    closed: bool,
}

/// Hands out at most as many `T` as there are slots, each to one owner.
pub(super) struct Dispatch<T> {
    slots: Slots<T>,
    /// [`OPEN`] only if nobody waits and the pool is not closed. Written under the lock of `state`.
    gate: AtomicUsize,
    /// Guards who waits; taken by a checkout only when it found no idle connection.
    state: Mutex<State<T>>,
    /// Told when the last connection of a closed pool is gone. Waited on with `state`.
    all_gone: Condvar,
    /// How long newcomers may overtake the head of the queue, in nanoseconds.
    overtaking: u64,
    max_waiters: usize,
}

/// Without waiting.
impl<T> Dispatch<T> {
    pub(super) fn new(limit: usize, max_waiters: usize, overtaking: u64) -> Self {
        let state = State {
            queue: Queue::new(),
            spare: Vec::new(),
            // The first slot is used first.
            vacant: (0..limit).rev().collect(),
            missing: 0,
            closed: false,
        };
        Self {
            slots: Slots::new(limit),
            gate: AtomicUsize::new(OPEN),
            state: Mutex::new(state),
            all_gone: Condvar::new(),
            overtaking,
            max_waiters,
        }
    }

    /// An idle connection, if there is one and nobody waits.
    #[inline]
    pub(super) fn take(&self) -> Option<T> {
        if self.gate.load(Ordering::Acquire) != OPEN {
            return None;
        }
        self.slots.take_likely()
    }

    /// The connection of this slot comes back, or is new. `Some` = the pool is closed; it is the
    /// caller's to close.
    #[must_use]
    #[inline]
    pub(super) fn give(&self, slot: usize, mut connection: T) -> Option<T> {
        if self.gate.load(Ordering::Acquire) == OPEN {
            self.slots.put(slot, connection);
            if self.gate.load(Ordering::Acquire) == OPEN {
                return None;
            }
            // Somebody has begun to wait, and may have looked into this slot before.
            connection = self.slots.take(slot)?;
        }
        self.give_in_turn(slot, connection)
    }

    #[cold]
    fn give_in_turn(&self, slot: usize, connection: T) -> Option<T> {
        let mut told = Told::nobody();
        let mut state = self.state.lock();
        if state.closed {
            return Some(connection);
        }
        self.slots.note(slot).idle();
        state.spare.push((slot, connection));
        self.settle(&mut state, clock::now(), &mut told);
        drop(state);
        None
    }
}

/// In turn.
impl<T> Dispatch<T> {
    /// To be called when [`take`](Self::take) found nothing. `asker` = may wait.
    #[cold]
    pub(super) fn ask(&self, asker: Option<Asker>, now: u64) -> Answer<T> {
        let mut state = self.state.lock();
        if state.closed {
            return Answer::Closed;
        }
        if state.queue.is_empty() {
            // In this order: see the head of this file.
            self.gate.store(SHUT, Ordering::Release);
            if let Some(connection) = self.slots.take_any() {
                self.set_gate(&state);
                return Answer::Connection(connection);
            }
        } else if asker.is_some()
            // A newcomer may overtake, or there is one for everybody who waits as well.
            && (state.queue.first_for(now) < self.overtaking
                || state.queue.len() < state.spare.len())
            && let Some((_, connection)) = state.spare.pop()
        {
            return Answer::Connection(connection);
        }
        let answer = match asker {
            None => {
                let refill = state.missing < state.vacant.len();
                state.missing += usize::from(refill);
                Answer::Unavailable { refill }
            }
            // Room goes to those who waited when it appeared: while somebody waits there is none.
            Some(_) if !state.vacant.is_empty() => {
                debug_assert!(state.queue.is_empty(), "room while somebody waits");
                Answer::Room(state.vacant.pop().unwrap_or_default())
            }
            Some(_) if state.queue.len() >= self.max_waiters => Answer::Overloaded,
            Some(asker) => Answer::Wait(state.queue.join(asker, now)),
        };
        self.set_gate(&state);
        answer
    }

    /// Sleeps until the turn comes; `None` when the deadline has passed without one.
    pub(super) fn wait(&self, waiter: &Waiter<T>, deadline: Option<Instant>) -> Option<Turn<T>> {
        loop {
            match waiter.wait(deadline) {
                Some(Message::Turn(turn)) => return Some(turn),
                Some(Message::Look) => {
                    if let Some(turn) = self.look(waiter, false) {
                        return Some(turn);
                    }
                }
                None => return self.look(waiter, true),
            }
        }
    }

    /// Fetches the spare that the waiter was invited to. If there is none any more it stays in the
    /// queue, or leaves it for good.
    pub(super) fn look(&self, waiter: &Waiter<T>, leave: bool) -> Option<Turn<T>> {
        let mut told = Told::nobody();
        let mut state = self.state.lock();
        let Some(at) = state.queue.before(waiter) else {
            // Granted at the same moment.
            return waiter.turn();
        };
        state.queue.looked(at);
        // There has to be one for everybody before as well.
        let spare = if at < state.spare.len() { state.spare.pop() } else { None };
        if spare.is_none() && !leave {
            return None;
        }
        let now = clock::now();
        state.queue.remove(at, now);
        self.settle(&mut state, now, &mut told);
        drop(state);
        let (slot, connection) = spare?;
        self.slots.note(slot).hand_over(&waiter.asker, now);
        Some(Turn::Connection(connection))
    }

    /// The connection of this slot is gone: there is room for another.
    pub(super) fn vacate(&self, slot: usize) {
        let mut told = Told::nobody();
        let mut state = self.state.lock();
        self.slots.note(slot).vacant();
        state.vacant.push(slot);
        self.settle(&mut state, clock::now(), &mut told);
        let last = state.closed && state.vacant.len() == self.slots.len();
        drop(state);
        if last {
            self.all_gone.notify_one();
        }
    }

    /// Brings those who wait and what is free together. After every change of either.
    fn settle(&self, state: &mut MutexGuard<'_, State<T>>, now: u64, told: &mut Told<T>) {
        let state = &mut **state;
        while !state.queue.is_empty() && !state.closed {
            let turn = if let Some(slot) = state.vacant.pop() {
                Turn::Room(slot)
            } else if state.queue.first_for(now) < self.overtaking {
                break;
            } else if let Some((slot, connection)) = state.spare.pop() {
                if let Some(first) = state.queue.waiters().next() {
                    self.slots.note(slot).hand_over(&first.asker, now);
                }
                Turn::Connection(connection)
            } else {
                break;
            };
            if let Some(first) = state.queue.pop(now) {
                told.tell(first, Message::Turn(turn));
            }
        }
        if state.queue.is_empty() {
            for (slot, connection) in state.spare.drain(..) {
                self.slots.put(slot, connection);
            }
        } else {
            for at in 0..state.spare.len() {
                state.queue.invite(at, told);
            }
        }
        self.set_gate(state);
    }

    fn set_gate(&self, state: &State<T>) {
        let gate = if state.queue.is_empty() && !state.closed { OPEN } else { SHUT };
        self.gate.store(gate, Ordering::Release);
    }
}

/// For those who look after it.
impl<T> Dispatch<T> {
    /// No more turns. What is idle is the caller's to close; what is held comes back by
    /// [`give`](Self::give).
    pub(super) fn close(&self) -> Vec<(usize, T)> {
        let mut told = Told::nobody();
        let mut state = self.state.lock();
        state.closed = true;
        self.set_gate(&state);
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

    /// After [`close`](Self::close): sleeps until every connection is gone, also those that were held
    /// or being opened; `false` = the deadline came first.
    pub(super) fn wait_for_the_last(&self, deadline: Option<Instant>) -> bool {
        let mut state = self.state.lock();
        let mut passed = false;
        while state.vacant.len() < self.slots.len() && !passed {
            (state, passed) = match deadline {
                None => (self.all_gone.wait(state), false),
                Some(deadline) => self.all_gone.wait_until(state, deadline),
            };
        }
        let gone = state.vacant.len() == self.slots.len();
        drop(state);
        if gone {
            // Somebody else may wait for the same; each tells the next.
            self.all_gone.notify_one();
        }
        gone
    }

    /// Room that nobody has asked for, to open a connection ahead of time.
    pub(super) fn room(&self) -> Option<usize> {
        let mut state = self.state.lock();
        if state.closed { None } else { state.vacant.pop() }
    }

    /// Room for one of the connections that are to be opened again; `None` when there is none left.
    pub(super) fn missing_room(&self) -> Option<usize> {
        let mut state = self.state.lock();
        let missing = std::mem::take(&mut state.missing).min(state.vacant.len());
        if missing == 0 || state.closed {
            return None;
        }
        state.missing = missing - 1;
        state.vacant.pop()
    }

    /// One connection more is to be opened again, unless somebody waits and does so himself.
    pub(super) fn miss(&self) -> bool {
        let mut state = self.state.lock();
        let missed = !state.closed && state.missing < state.vacant.len();
        state.missing += usize::from(missed);
        missed
    }

    /// Takes the connection of this slot if it is idle and `more` than so many are open.
    pub(super) fn withdraw(&self, slot: usize, more: usize) -> Option<T> {
        let state = self.state.lock();
        if self.slots.len() - state.vacant.len() <= more {
            return None;
        }
        let connection = self.slots.take(slot)?;
        self.slots.note(slot).vacant();
        Some(connection)
    }

    #[inline]
    pub(super) fn note(&self, slot: usize) -> &Note {
        self.slots.note(slot)
    }

    pub(super) fn notes(&self) -> impl Iterator<Item = &Note> {
        self.slots.notes()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state.lock().closed
    }

    /// How many connections are idle, held or being opened.
    pub(super) fn open(&self) -> usize {
        self.slots.len() - self.state.lock().vacant.len()
    }

    pub(super) fn waiting(&self) -> usize {
        self.state.lock().queue.len()
    }

    /// Who waits and since when, in the order in which they will be served.
    pub(super) fn waiters(&self) -> Vec<(Asker, u64)> {
        let state = self.state.lock();
        state.queue.waiters().map(|waiter| (waiter.asker.clone(), waiter.since)).collect()
    }
}
