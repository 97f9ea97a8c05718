//! Who gets which connection: the state machine of a role, in one place.
//!
//! While nobody waits, checkouts and check-ins exchange connections with the [slots](super::slots)
//! and touch nothing that is shared. As soon as somebody waits the `gate` is shut, and everything is
//! decided under one lock, held for a few moves at a time: a connection that comes back goes to the
//! waiter at the head, or, as long as that one has been at the head for less than `overtaking`, and where
//! cores are scarce for somewhat longer, is put down as a spare, which the head is invited to fetch and a
//! newcomer may take before it comes. Why: a thread takes long to wake, and a connection that lies idle
//! meanwhile is what makes strict order slow where holds are short; where they are long nobody overtakes
//! ([`Pace`]). Why by time: a bound on the number of those who overtake bounds no wait.
//!
//! **No wake-up is lost.** The first waiter shuts the gate and then exchanges every slot for nothing.
//! A check-in exchanges its slot for the connection and then looks at the gate. For that slot one
//! exchange comes first: if the check-in's does, the waiter finds the connection; if the waiter's
//! does, the check-in has seen what was written before it, that is, the gate shut, and goes to the
//! lock. Later waiters find the gate shut already. `tests/loom` tries this: of two threads all
//! interleavings, of three all of nine models, and of longer ones those with few preemptions.
//!
//! **Calm.** An exchange is a fifth of what a checkout costs, and where nobody ever waits it is made for
//! nobody. So the gate also says whether all is calm: a check-in then stores its connection, and looks at
//! the gate again. Who shuts a gate that is calm makes a [fence](super::sync::asymmetric_fence) in all
//! threads before it looks into the slots. A check-in either has stored before that fence, and its
//! connection is found; or it looks after it, and finds another gate, or the same one calm again, which
//! the next to shut it fences again. If it finds another it takes the connection back under the lock, by
//! an exchange: who has taken it meanwhile either has returned it before that, and it is found, or does so
//! later, and knows of the gate what the lock tells. After the fence check-ins make exchanges, until
//! housekeeping finds that nobody has had to ask for a while: a fence takes microseconds, and is made once
//! for each such time and not for each waiter. Where the system has none it is never calm.
//!
//! **Another limit.** There are more slots than the limit, up to a ceiling; those in force are the
//! first ones, and the gate, while it is open, says how many. A shrink sets the gate before it
//! exchanges the slots that are out of force, so for them the same holds as above: a connection that
//! comes back late is found by one of the two, and closed. While more connections are out than the
//! limit allows the gate is shut, and each that comes back is closed.
//!
//! **Strict order.** With `overtaking` 0 nothing is ever a spare while somebody waits. A newcomer
//! that finds the gate open has come before every waiter that it might seem to overtake.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize as StdAtomicUsize, Ordering as StdOrdering};
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use super::clock;
use super::holders::{Asker, Note};
use super::pace::Pace;
use super::queue::{Message, Queue, Told, Turn, Waiter};
use super::slots::Slots;
use super::sync::{AtomicUsize, Condvar, Mutex, MutexGuard, Ordering, asymmetric_fence};

/// What checkouts and check-ins look at: how many slots are in force if nobody waits, the pool is not
/// closed and no more connections are out than the limit allows; and whether it is calm.
#[derive(Clone, Copy, PartialEq)]
struct Gate(usize);

impl Gate {
    const SHUT: Self = Self(0);

    fn open(in_force: usize, calm: bool) -> Self {
        Self(in_force << 1 | usize::from(calm))
    }

    /// How many slots are in force; 0 = it is shut.
    #[inline]
    fn in_force(self) -> usize {
        self.0 >> 1
    }

    #[inline]
    fn is_calm(self) -> bool {
        self.0 & 1 == 1
    }
}

/// For how long a waiter keeps its core busy, at most once for each invitation. A thread takes about
/// as long to wake. Only where holders cannot use all cores: else it would be one of theirs.
const AWAKE: Duration = Duration::from_micros(30);

/// How many threads can run at the same time. To ask the system means to read several files.
fn cores() -> usize {
    // No lock, which a child that is forked meanwhile would find taken for ever.
    static CORES: StdAtomicUsize = StdAtomicUsize::new(0);
    match CORES.load(StdOrdering::Relaxed) {
        0 => {
            let cores = available_parallelism().map_or(1, usize::from);
            CORES.store(cores, StdOrdering::Relaxed);
            cores
        }
        cores => cores,
    }
}

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

/// Why a waiter looks whether there is a spare.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Look {
    /// It was told to.
    Invited,
    /// It came too late the last time.
    Again,
    /// Its time is over.
    Last,
}

pub(super) struct State<T> {
    pub(super) queue: Queue<T>,
    pace: Pace,
    /// Free connections and their slots, while somebody waits; empty while nobody does.
    pub(super) spare: Vec<(usize, T)>,
    /// How many slots are in force: the first ones.
    pub(super) limit: usize,
    /// Slots in force without a connection: room to open one, as far as the limit allows.
    pub(super) vacant: Vec<usize>,
    /// Slots out of force without a connection.
    pub(super) retired: Vec<usize>,
    /// How many connections whoever has made the pool smaller is closing just now.
    pub(super) closing: usize,
    /// How many connections were closed for a fault and are to be opened again.
    pub(super) missing: usize,
    /// What the gate says.
    gate: Gate,
    /// Check-ins may be stores: who shuts the gate has to make a fence.
    pub(super) calm: bool,
    /// Somebody has asked since housekeeping last looked.
    pub(super) asked: bool,
    pub(super) closed: bool,
}

impl<T> State<T> {
    /// How many connections are idle, held, being opened or being closed, of so many slots.
    pub(super) fn open(&self, slots: usize) -> usize {
        slots - self.vacant.len() - self.retired.len()
    }

    /// Whether connections have to be closed that somebody has in hand.
    fn too_many(&self, slots: usize) -> bool {
        self.open(slots) - self.closing > self.limit
    }

    /// How many more may be opened.
    pub(super) fn room(&self, slots: usize) -> usize {
        self.limit.saturating_sub(self.open(slots))
    }

    /// Whether a newcomer may have what the first in the queue could.
    fn may_overtake(&self, now: u64) -> bool {
        self.pace.may_overtake(self.queue.first_for(now), self.queue.waited(now), self.limit)
    }

    /// Reserves a slot to open one.
    pub(super) fn take_room(&mut self, slots: usize) -> Option<usize> {
        if self.room(slots) == 0 { None } else { self.vacant.pop() }
    }
}

/// Hands out at most as many `T` as the limit allows, each to one owner.
pub(super) struct Dispatch<T> {
    pub(super) slots: Slots<T>,
    /// A [`Gate`]. Written under the lock of `state`.
    gate: AtomicUsize,
    /// So many slots have ever been in force. Written under the lock of `state`.
    pub(super) reach: AtomicUsize,
    /// Guards who waits; taken by a checkout only when it found no idle connection.
    pub(super) state: Mutex<State<T>>,
    /// Told when the last connection of a closed pool is gone. Waited on with `state`.
    pub(super) all_gone: Condvar,
    /// How long newcomers may overtake the head of the queue at most, in nanoseconds.
    overtaking: u64,
    max_waiters: usize,
    /// How many threads can run at the same time.
    cores: usize,
}

/// Without waiting.
impl<T> Dispatch<T> {
    /// The limit can be changed later, up to `ceiling`.
    pub(super) fn new(limit: usize, ceiling: usize, max_waiters: usize, overtaking: u64) -> Self {
        let cores = cores();
        let calm = asymmetric_fence::is_available();
        let state = State {
            queue: Queue::new(),
            pace: Pace::new(overtaking, cores),
            spare: Vec::new(),
            // The first slot is used first.
            vacant: (0..limit).rev().collect(),
            limit,
            retired: (limit..ceiling).collect(),
            closing: 0,
            missing: 0,
            gate: Gate::open(limit, calm),
            calm,
            asked: false,
            closed: false,
        };
        Self {
            slots: Slots::new(ceiling),
            gate: AtomicUsize::new(state.gate.0),
            reach: AtomicUsize::new(limit),
            state: Mutex::new(state),
            all_gone: Condvar::new(),
            overtaking,
            max_waiters,
            cores,
        }
    }

    /// An idle connection, if there is one and nobody waits.
    #[inline(always)]
    pub(super) fn take(&self) -> Option<T> {
        match self.gate().in_force() {
            0 => None,
            in_force => self.slots.take_likely(in_force),
        }
    }

    /// The connection of this slot comes back, or is new. `Some` = the pool is closed, or has become
    /// smaller; it is the caller's to close.
    #[must_use]
    #[inline(always)]
    pub(super) fn give(&self, slot: usize, connection: T) -> Option<T> {
        let gate = self.gate();
        if slot < gate.in_force() {
            if gate.is_calm() {
                self.slots.put_by_a_store(slot, connection);
                asymmetric_fence::light();
            } else {
                self.slots.put(slot, connection);
            }
            if self.gate() == gate {
                return None;
            }
            return self.give_again(slot);
        }
        self.give_in_turn(slot, connection)
    }

    /// After the connection of this slot has been put there: somebody has begun to wait, or the pool has
    /// become smaller, and the slot may have been looked into before.
    #[cold]
    fn give_again(&self, slot: usize) -> Option<T> {
        let state = self.state.lock();
        // In this order: see the head of this file.
        let connection = self.slots.take(slot)?;
        self.give_under(state, slot, connection)
    }

    #[inline]
    pub(super) fn note(&self, slot: usize) -> &Note {
        self.slots.note(slot)
    }

    #[inline(always)]
    fn gate(&self) -> Gate {
        Gate(self.gate.load(Ordering::Acquire))
    }

    #[cold]
    fn give_in_turn(&self, slot: usize, connection: T) -> Option<T> {
        self.give_under(self.state.lock(), slot, connection)
    }

    fn give_under(
        &self,
        mut state: MutexGuard<'_, State<T>>,
        slot: usize,
        connection: T,
    ) -> Option<T> {
        let mut told = Told::nobody();
        let slots = self.slots.len();
        if state.closed || slot >= state.limit || state.too_many(slots) {
            // It counts as gone already, or others would be closed for the same surplus meanwhile.
            self.slots.note(slot).vacant();
            state.closing += 1;
            self.set_gate(&mut state);
            return Some(connection);
        }
        self.slots.note(slot).idle();
        state.spare.push((slot, connection));
        let now = clock::now();
        if !state.queue.is_empty() {
            state.pace.one_came_back(now);
        }
        self.settle(&mut state, now, &mut told);
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
        state.asked = true;
        if state.queue.is_empty() {
            // In this order: see the head of this file.
            self.shut(&mut state);
            if let Some(connection) = self.slots.take_any(state.limit) {
                self.set_gate(&mut state);
                return Answer::Connection(connection);
            }
        } else if asker.is_some()
            // A newcomer may overtake, or there is one for everybody who waits as well.
            && (state.may_overtake(now) || state.queue.len() < state.spare.len())
            && let Some((_, connection)) = state.spare.pop()
        {
            return Answer::Connection(connection);
        }
        let answer = match asker {
            None => {
                let refill = state.missing < state.room(self.slots.len());
                state.missing += usize::from(refill);
                Answer::Unavailable { refill }
            }
            // Room goes to those who waited when it appeared: while somebody waits there is none.
            Some(_) if state.room(self.slots.len()) > 0 => {
                debug_assert!(state.queue.is_empty(), "room while somebody waits");
                Answer::Room(state.vacant.pop().unwrap_or_default())
            }
            Some(asker) if state.queue.len() >= self.max_waiters && !asker.always_admitted => {
                Answer::Overloaded
            }
            Some(asker) => {
                if state.queue.is_empty() {
                    state.pace.begin(now);
                }
                Answer::Wait(state.queue.join(asker, now))
            }
        };
        self.set_gate(&mut state);
        answer
    }

    /// Sleeps until the turn comes; `None` when the deadline has passed without one. When it passes it may
    /// be put off; the place in the queue stays the same.
    pub(super) fn wait(
        &self,
        waiter: &Waiter<T>,
        mut deadline: Option<Instant>,
        put_off: impl Fn() -> Option<Instant>,
    ) -> Option<Turn<T>> {
        // When a waiter that was woken in vain looks again by itself.
        let mut alarm = None;
        loop {
            let until = alarm.map_or(deadline, |at| Some(deadline.map_or(at, |end| end.min(at))));
            let look = match waiter.mailbox.wait(until) {
                Some(Message::Turn(turn)) => return Some(turn),
                Some(Message::Look) => Look::Invited,
                None if until == deadline => {
                    let Some(later) = put_off() else { return self.look(waiter, Look::Last) };
                    deadline = Some(later);
                    continue;
                }
                None => Look::Again,
            };
            if let Some(turn) = self.look(waiter, look) {
                return Some(turn);
            }
            alarm = (look == Look::Invited).then(|| {
                let pause = Duration::from_nanos(self.overtaking);
                if self.reach.load(Ordering::Relaxed) < self.cores {
                    waiter.mailbox.stay_awake(Instant::now() + pause.min(AWAKE));
                }
                Instant::now() + pause
            });
        }
    }

    /// Fetches a spare. If there is none the waiter stays in the queue, or leaves it for good.
    pub(super) fn look(&self, waiter: &Waiter<T>, look: Look) -> Option<Turn<T>> {
        let mut told = Told::nobody();
        let mut state = self.state.lock();
        let Some(at) = state.queue.before(waiter.number) else {
            // Granted at the same moment.
            return waiter.turn();
        };
        // There has to be one for everybody before as well.
        let spare = if at < state.spare.len() { state.spare.pop() } else { None };
        if spare.is_none() && look != Look::Last {
            if look == Look::Again {
                state.queue.may_be_invited(at);
            }
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

    /// Tells the waiter of that number that it waits in vain; `false` = it has left the queue already.
    pub(super) fn refuse(&self, number: u64) -> bool {
        let mut told = Told::nobody();
        let mut state = self.state.lock();
        let now = clock::now();
        let refused = state.queue.before(number).and_then(|at| state.queue.remove(at, now));
        let found = refused.is_some();
        if let Some(waiter) = refused {
            told.tell(waiter, Message::Turn(Turn::WouldDeadlock));
            self.settle(&mut state, now, &mut told);
        }
        drop(state);
        found
    }

    /// The connection of this slot is gone: there is room for another.
    pub(super) fn vacate(&self, slot: usize) {
        self.vacate_under(self.state.lock(), slot);
    }

    /// As [`vacate`](Self::vacate), for what [`give`](Self::give) and [`resize`](Self::resize) have
    /// returned.
    pub(super) fn vacate_surplus(&self, slot: usize) {
        let mut state = self.state.lock();
        state.closing -= 1;
        self.vacate_under(state, slot);
    }

    fn vacate_under(&self, mut state: MutexGuard<'_, State<T>>, slot: usize) {
        let mut told = Told::nobody();
        self.slots.note(slot).vacant();
        if slot < state.limit {
            state.vacant.push(slot);
        } else {
            state.retired.push(slot);
        }
        self.settle(&mut state, clock::now(), &mut told);
        let last = state.closed && state.open(self.slots.len()) == 0;
        drop(state);
        if last {
            self.all_gone.notify_one();
        }
    }

    /// Brings those who wait and what is free together. After every change of either.
    pub(super) fn settle(
        &self,
        state: &mut MutexGuard<'_, State<T>>,
        now: u64,
        told: &mut Told<T>,
    ) {
        let state = &mut **state;
        while !state.queue.is_empty() && !state.closed {
            let turn = if let Some(slot) = state.take_room(self.slots.len()) {
                Turn::Room(slot)
            } else if state.may_overtake(now) {
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

    pub(super) fn set_gate(&self, state: &mut State<T>) {
        let too_many = state.too_many(self.slots.len());
        let open = state.queue.is_empty() && !state.closed && !too_many;
        let gate = if open { Gate::open(state.limit, state.calm) } else { Gate::SHUT };
        self.write_gate(state, gate);
    }

    /// Only if it says something new: every thread that comes looks at it.
    fn write_gate(&self, state: &mut State<T>, gate: Gate) {
        if gate != state.gate {
            state.gate = gate;
            self.gate.store(gate.0, Ordering::Release);
        }
    }

    /// To look into the slots afterwards.
    pub(super) fn shut(&self, state: &mut State<T>) {
        self.write_gate(state, Gate::SHUT);
        if std::mem::take(&mut state.calm) {
            asymmetric_fence::heavy();
        }
    }
}
