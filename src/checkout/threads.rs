//! The threads that hold and wait: their numbers, and what each remembers.

use std::cell::{Cell, OnceCell};
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::Thread;

use super::clock;

/// For how many pools a thread remembers its last slot. More pools share these.
pub(super) const POOLS: usize = 8;

thread_local! {
    /// How many connections it holds, of all pools.
    static HELD: Cell<usize> = const { Cell::new(0) };
    /// Whether it has come to its end with connections held.
    static ENDED: Cell<bool> = const { Cell::new(false) };
    static ME: Ending = const { Ending(OnceCell::new()) };
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
pub(crate) fn holds_any() -> bool {
    HELD.with(Cell::get) > 0
}

/// What is known about a thread, for as long as somebody remembers it.
pub(super) struct Me {
    thread: Thread,
    /// When it ended, if it held connections then; else 0.
    ended: AtomicU64,
}

impl Me {
    pub(super) fn thread(&self) -> &Thread {
        &self.thread
    }

    /// Since when the thread is gone that held connections when it ended. Its thread-locals may be
    /// going on to use and drop them.
    pub(super) fn ended(&self) -> Option<u64> {
        Some(self.ended.load(Ordering::Acquire)).filter(|ended| *ended > 0)
    }
}

/// The calling thread.
pub(super) fn me() -> Arc<Me> {
    let new = || Arc::new(Me { thread: std::thread::current(), ended: AtomicU64::new(0) });
    // At the very end of a thread there is nothing left that could notice its end.
    ME.try_with(|me| Arc::clone(me.0.get_or_init(new))).unwrap_or_else(|_| new())
}

/// Dropped when its thread ends.
struct Ending(OnceCell<Arc<Me>>);

impl Drop for Ending {
    fn drop(&mut self) {
        if holds_any()
            && let Some(me) = self.0.get()
        {
            ENDED.with(|ended| ended.set(true));
            me.ended.store(clock::now(), Ordering::Release);
        }
    }
}

/// Whether this is a destructor of a thread-local, of a thread that has ended with connections held.
#[inline]
pub(super) fn has_ended() -> bool {
    ENDED.with(Cell::get)
}
