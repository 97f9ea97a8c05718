//! The idle connections, one slot each, taken and put back without a lock.
//!
//! A slot holds a connection or nothing, and both ways are one atomic access. A thread tries the
//! slot it had last (of this pool) first: its connection's caches are warm and no other thread's
//! write to that slot is in the way, so the cost is the same for one thread and for many. Only then
//! it looks at the others.
//!
//! A connection may also be put back by a store, which costs a fraction of an exchange but says nothing
//! about who else has looked into the slot. When that will do is for
//! [`Dispatch`](super::dispatch::Dispatch) to know: that no wake-up is lost rests on how the two ways meet.

use std::mem::ManuallyDrop;
use std::sync::atomic::{AtomicUsize as StdAtomicUsize, Ordering as StdOrdering};

use crossbeam_utils::CachePadded;

use super::holders::Note;
use super::sync::AtomicCell;
use super::threads;

struct Slot<T> {
    /// A value that is dropped on its own could not be stored without an exchange, for the sake of what
    /// it would take the place of.
    idle: AtomicCell<Option<ManuallyDrop<T>>>,
    note: Note,
}

impl<T> Drop for Slot<T> {
    fn drop(&mut self) {
        drop(self.idle.swap(None).map(ManuallyDrop::into_inner));
    }
}

/// A fixed number of slots.
pub(super) struct Slots<T> {
    /// Each on its own cache line, or threads would wait for each other's.
    slots: Box<[CachePadded<Slot<T>>]>,
    /// Under which threads remember their slot of this pool.
    number: usize,
}

impl<T> Slots<T> {
    pub(super) fn new(count: usize) -> Self {
        static NEXT: StdAtomicUsize = StdAtomicUsize::new(0);
        let slot = |_| CachePadded::new(Slot { idle: AtomicCell::new(None), note: Note::new() });
        Self {
            slots: (0..count).map(slot).collect(),
            number: NEXT.fetch_add(1, StdOrdering::Relaxed) % threads::POOLS,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    #[inline]
    pub(super) fn note(&self, slot: usize) -> &Note {
        &self.slots[slot].note
    }

    /// Of the first so many slots.
    pub(super) fn notes(&self, count: usize) -> impl Iterator<Item = &Note> {
        self.slots[..count].iter().map(|slot| &slot.note)
    }

    /// Puts an idle connection into its slot.
    #[inline]
    pub(super) fn put(&self, slot: usize, connection: T) {
        let slot = &self.slots[slot];
        // Before the exchange, which ends the ownership that allows it.
        slot.note.idle();
        let before = slot.idle.swap(Some(ManuallyDrop::new(connection)));
        debug_assert!(before.is_none(), "two connections in one slot");
    }

    /// As [`put`](Self::put), by a store.
    #[inline]
    pub(super) fn put_by_a_store(&self, slot: usize, connection: T) {
        let slot = &self.slots[slot];
        slot.note.idle();
        slot.idle.store(Some(ManuallyDrop::new(connection)));
    }

    /// Takes what is idle in this slot.
    #[inline]
    pub(super) fn take(&self, slot: usize) -> Option<T> {
        self.slots[slot].idle.swap(None).map(ManuallyDrop::into_inner)
    }

    /// Takes an idle connection from the first `count` slots, the calling thread's last one if
    /// possible.
    ///
    /// It may overlook one that is put back at the same time.
    #[inline(always)]
    pub(super) fn take_likely(&self, count: usize) -> Option<T> {
        if count == 1 {
            return self.take_if_it_looks_idle(0);
        }
        let favourite = threads::last_slot(self.number);
        let likely = if favourite < count { self.take_if_it_looks_idle(favourite) } else { None };
        likely.or_else(|| self.take_another(favourite, count))
    }

    #[inline(never)]
    fn take_another(&self, favourite: usize, count: usize) -> Option<T> {
        let (first, last) = match favourite < count {
            true => (favourite + 1, favourite),
            false => {
                // Spread the threads from the start.
                let first = threads::number() as usize % count;
                (first, first)
            }
        };
        let mut others = (first..count).chain(0..last);
        others.find_map(|slot| {
            let connection = self.take_if_it_looks_idle(slot)?;
            threads::set_last_slot(self.number, slot);
            Some(connection)
        })
    }

    /// Takes an idle connection; looks into each of the first `count` slots for sure.
    pub(super) fn take_any(&self, count: usize) -> Option<T> {
        (0..count).find_map(|slot| self.take(slot))
    }

    /// An exchange would take the cache line away from the slot's user; a look does not.
    #[inline(always)]
    fn take_if_it_looks_idle(&self, slot: usize) -> Option<T> {
        if self.slots[slot].note.looks_idle() { self.take(slot) } else { None }
    }
}
