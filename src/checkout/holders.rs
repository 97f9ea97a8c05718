//! Who holds what, since when, taken where.
//!
//! Every checkout is noted, so that a time-out can name the holder that has kept others waiting
//! longest, and a status page can list them all. A note belongs to a slot and is written by whoever
//! owns the slot's connection at that moment, with plain stores and no lock; who reads it looks
//! twice, and looks again if it was written meanwhile. The thread's name is kept as a handle, and replaced only when the connection goes to another thread than last time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering as StdOrdering, fence};

use crossbeam_utils::atomic::AtomicCell;
use parking_lot::Mutex;

use super::sync::{AtomicU8, Ordering};
use super::threads::{self, Me};
pub(super) use crate::who::Place;
use crate::who::thread_name;

/// What becomes of the connection of a slot.
const VACANT: u8 = 0;
const IDLE: u8 = 1;
const HELD: u8 = 2;
const DETACHED: u8 = 3;

/// How often a reader looks again before it takes what it sees.
const LOOKS: usize = 8;

/// Somebody who wants a connection, or has one.
#[derive(Clone)]
pub(super) struct Asker {
    number: u64,
    thread: Arc<Me>,
    pub(super) place: Place,
    /// It stands in line however many do already: the pool's own threads.
    pub(super) always_admitted: bool,
}

impl Asker {
    /// The calling thread.
    pub(super) fn current(place: Place) -> Self {
        Self { number: threads::number(), thread: threads::me(), place, always_admitted: false }
    }

    /// As it is, but standing in line however many do already.
    pub(super) fn admitted(self) -> Self {
        Self { always_admitted: true, ..self }
    }

    /// The thread's number, see [`threads::number`].
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// The thread's name, or its number for one that has none.
    pub(super) fn thread_name(&self) -> String {
        thread_name(self.thread.thread())
    }

    /// Since when the thread is gone, if it held connections when it ended.
    pub(super) fn ended(&self) -> Option<u64> {
        self.thread.ended()
    }
}

/// A note that was read: somebody holds the connection.
pub(super) struct Held {
    pub(super) holder: Asker,
    /// On [`clock::now`](super::clock::now)'s scale.
    pub(super) since: u64,
    pub(super) detached: bool,
    /// Of the note.
    pub(super) version: u64,
}

/// What is noted about the connection of one slot.
///
/// Written only by the owner of the connection, which is why no store here is a read-modify-write.
pub(super) struct Note {
    phase: AtomicU8,
    /// Odd while the note is written; every hold begins with a change of it.
    version: AtomicU64,
    thread: AtomicU64,
    place: AtomicCell<Option<Place>>,
    since: AtomicU64,
    /// When the connection was opened.
    opened: AtomicU64,
    /// The thread of that number; locked by readers for a copy.
    handle: Mutex<Option<Arc<Me>>>,
    /// How many connections of this slot were given up because their guards were leaked.
    generation: AtomicU64,
}

impl Note {
    pub(super) fn new() -> Self {
        Self {
            phase: AtomicU8::new(VACANT),
            version: AtomicU64::new(0),
            thread: AtomicU64::new(0),
            place: AtomicCell::new(None),
            since: AtomicU64::new(0),
            opened: AtomicU64::new(0),
            handle: Mutex::new(None),
            generation: AtomicU64::new(0),
        }
    }

    /// The calling thread holds the connection.
    #[inline]
    pub(super) fn hold(&self, place: Place, since: u64) {
        let number = threads::number();
        self.write(HELD, number, place, since, threads::me);
    }

    /// The waiter to whom it is given holds the connection, whether it has woken yet or not.
    pub(super) fn hand_over(&self, to: &Asker, since: u64) {
        self.write(HELD, to.number, to.place, since, || Arc::clone(&to.thread));
    }

    /// Nobody does; it can be lent.
    #[inline]
    pub(super) fn idle(&self) {
        self.phase.store(IDLE, Ordering::Relaxed);
    }

    /// There is none, or it is being opened or closed.
    pub(super) fn vacant(&self) {
        self.phase.store(VACANT, Ordering::Relaxed);
    }

    /// A connection was opened; nobody else has seen it yet.
    pub(super) fn opened(&self, now: u64) {
        self.opened.store(now, StdOrdering::Relaxed);
    }

    pub(super) fn opened_at(&self) -> u64 {
        self.opened.load(StdOrdering::Relaxed)
    }

    /// It waits to be attached to some thread.
    pub(super) fn detach(&self) {
        self.phase.store(DETACHED, Ordering::Relaxed);
    }

    /// The calling thread owns it from now on; the time it has been out goes on.
    pub(super) fn attach(&self, place: Place) {
        self.hold(place, self.since.load(StdOrdering::Relaxed));
    }

    #[inline]
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(StdOrdering::Relaxed)
    }

    /// What is held now is given up: it is not this slot's connection any more.
    pub(super) fn give_up(&self) {
        self.generation.store(self.generation() + 1, StdOrdering::Relaxed);
    }

    /// A hint only: by the time the caller acts on it, it may be otherwise.
    #[inline]
    pub(super) fn looks_idle(&self) -> bool {
        self.phase.load(Ordering::Relaxed) == IDLE
    }

    pub(super) fn looks_held(&self) -> bool {
        matches!(self.phase.load(Ordering::Relaxed), HELD | DETACHED)
    }

    /// Rises with every hold, by which one is told from another: by labels and by housekeeping.
    pub(super) fn version(&self) -> u64 {
        self.version.load(StdOrdering::Relaxed)
    }

    /// Who holds the connection; `None` when nobody does.
    pub(super) fn held(&self) -> Option<Held> {
        for look in 0..LOOKS {
            let before = self.version.load(StdOrdering::Acquire);
            let phase = self.phase.load(Ordering::Relaxed);
            if phase != HELD && phase != DETACHED {
                return None;
            }
            let number = self.thread.load(StdOrdering::Relaxed);
            let place = self.place.load();
            let since = self.since.load(StdOrdering::Relaxed);
            let thread = self.handle.lock().clone();
            fence(StdOrdering::Acquire);
            let steady = before.is_multiple_of(2)
                && self.version.load(StdOrdering::Relaxed) == before
                && self.phase.load(Ordering::Relaxed) == phase;
            // A connection that changes hands without pause is better seen blurred than not at all.
            if steady || look == LOOKS - 1 {
                let (thread, place) = (thread?, place?);
                let holder = Asker { number, thread, place, always_admitted: false };
                let detached = phase == DETACHED;
                return Some(Held { holder, since, detached, version: before });
            }
        }
        None
    }

    /// Since when the connection is held; `None` when nobody holds it, or somebody has this moment
    /// begun to. Takes no lock.
    pub(super) fn held_since(&self) -> Option<u64> {
        let before = self.version.load(StdOrdering::Acquire);
        let since = self.since.load(StdOrdering::Relaxed);
        let held = self.looks_held();
        fence(StdOrdering::Acquire);
        let steady = before.is_multiple_of(2) && self.version.load(StdOrdering::Relaxed) == before;
        (held && steady).then_some(since)
    }

    /// The number of the thread that holds the connection; `None` when none does, the connection is
    /// detached, or the note is being written.
    pub(super) fn holder(&self) -> Option<u64> {
        let before = self.version.load(StdOrdering::Acquire);
        let number = self.thread.load(StdOrdering::Relaxed);
        let held = self.phase.load(Ordering::Relaxed) == HELD;
        fence(StdOrdering::Acquire);
        let steady = before.is_multiple_of(2) && self.version.load(StdOrdering::Relaxed) == before;
        (held && steady).then_some(number)
    }

    #[cold]
    fn set_handle(&self, handle: Arc<Me>) {
        *self.handle.lock() = Some(handle);
    }

    #[inline]
    fn write(
        &self,
        phase: u8,
        number: u64,
        place: Place,
        since: u64,
        handle: impl FnOnce() -> Arc<Me>,
    ) {
        let version = self.version.load(StdOrdering::Relaxed);
        self.version.store(version + 1, StdOrdering::Relaxed);
        fence(StdOrdering::Release);
        if self.thread.load(StdOrdering::Relaxed) != number {
            self.thread.store(number, StdOrdering::Relaxed);
            self.set_handle(handle());
        }
        self.place.store(Some(place));
        self.since.store(since, StdOrdering::Relaxed);
        self.phase.store(phase, Ordering::Relaxed);
        self.version.store(version + 2, StdOrdering::Release);
    }
}
