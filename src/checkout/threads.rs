//! The threads that hold and wait: their numbers, and what each remembers.

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};

/// For how many pools a thread remembers its last slot. More pools share these.
pub(super) const POOLS: usize = 8;

thread_local! {
    /// How many connections it holds, of all pools.
    static HELD: Cell<usize> = const { Cell::new(0) };
    static NUMBER: Cell<u64> = const { Cell::new(0) };
    static LAST_SLOTS: [Cell<usize>; POOLS] = const { [const { Cell::new(usize::MAX) }; POOLS] };
}

/// A number for the calling thread that no other thread of this process ever has. Never 0.
///
/// The standard library's id would cost a reference count for each look.
#[inline]
pub(super) fn number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NUMBER.with(|number| {
        if number.get() == 0 {
            number.set(NEXT.fetch_add(1, Ordering::Relaxed));
        }
        number.get()
    })
}

/// The slot that the calling thread had last of this pool; far too great if it had none.
#[inline]
pub(super) fn last_slot(pool: usize) -> usize {
    LAST_SLOTS.with(|slots| slots[pool].get())
}

#[inline]
pub(super) fn set_last_slot(pool: usize, slot: usize) {
    LAST_SLOTS.with(|slots| slots[pool].set(slot));
}

/// One connection held by the calling thread, for as long as this lives.
///
/// It is part of a guard and as pinned as that, which is what makes the count exact.
pub(super) struct Holding(PhantomData<*const ()>);

impl Holding {
    #[inline]
    pub(super) fn begin() -> Self {
        HELD.with(|held| held.set(held.get() + 1));
        Self(PhantomData)
    }
}

impl Drop for Holding {
    #[inline]
    fn drop(&mut self) {
        HELD.with(|held| held.set(held.get() - 1));
    }
}

/// Whether the calling thread holds a connection of any pool. A guard that was leaked is one.
#[inline]
pub(super) fn holds_any() -> bool {
    HELD.with(Cell::get) > 0
}
