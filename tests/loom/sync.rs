//! loom's primitives under the names of the real ones.

use std::cell::Cell;
use std::time::Instant;

pub(crate) use loom::sync::MutexGuard;
pub(crate) use loom::sync::atomic::{AtomicUsize, Ordering};

thread_local! {
    // Of the system's thread, on which all of loom's threads of one test run.
    static LATE_HINTS: Cell<bool> = const { Cell::new(false) };
}

/// Whether hints are seen late, as far as the memory model allows, in what is made from now on.
pub(crate) fn set_late_hints(late: bool) {
    LATE_HINTS.set(late);
}

/// What a slot looks like from outside: a hint, on which nothing may depend.
///
/// Late ones multiply the interleavings. Where they are not late, threads that ask without looking
/// stand for those that have overlooked something.
pub(crate) enum AtomicU8 {
    Late(loom::sync::atomic::AtomicU8),
    AtOnce(std::sync::atomic::AtomicU8),
}

impl AtomicU8 {
    pub(crate) fn new(value: u8) -> Self {
        if LATE_HINTS.get() {
            Self::Late(loom::sync::atomic::AtomicU8::new(value))
        } else {
            Self::AtOnce(std::sync::atomic::AtomicU8::new(value))
        }
    }

    pub(crate) fn load(&self, order: Ordering) -> u8 {
        match self {
            Self::Late(hint) => hint.load(order),
            Self::AtOnce(hint) => hint.load(order),
        }
    }

    pub(crate) fn store(&self, value: u8, order: Ordering) {
        match self {
            Self::Late(hint) => hint.store(value, order),
            Self::AtOnce(hint) => hint.store(value, order),
        }
    }
}

// A hint for a thread that spins, which none does here.
pub(crate) use std::sync::atomic::AtomicBool;

pub(crate) fn spin_until(_: impl Fn() -> bool, _: Instant) {}

/// Without poison, as `parking_lot`'s.
pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(loom::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap()
    }
}

pub(crate) struct Condvar(loom::sync::Condvar);

impl Condvar {
    pub(crate) fn new() -> Self {
        Self(loom::sync::Condvar::new())
    }

    pub(crate) fn wait<'g, T>(&self, guard: MutexGuard<'g, T>) -> MutexGuard<'g, T> {
        self.0.wait(guard).unwrap()
    }

    /// The deadline has passed: that it may do so at any moment is what loom's other threads are for.
    pub(crate) fn wait_until<'g, T>(
        &self,
        guard: MutexGuard<'g, T>,
        _: Instant,
    ) -> (MutexGuard<'g, T>, bool) {
        (guard, true)
    }

    pub(crate) fn notify_one(&self) {
        self.0.notify_one();
    }

    pub(crate) fn notify_all(&self) {
        self.0.notify_all();
    }
}

/// An exchange that acquires and releases, and a store that releases, as the real ones.
///
/// The store is an exchange that acquires nothing: to loom a store and an exchange of two threads have no
/// order, and what comes after them could be found in two orders at once. Unlike a store it hands on what
/// the exchange before it has released, which processors do anyway.
pub(crate) struct AtomicCell<T> {
    seen: loom::sync::atomic::AtomicUsize,
    value: std::sync::Mutex<T>,
}

impl<T> AtomicCell<T> {
    pub(crate) fn new(value: T) -> Self {
        let seen = loom::sync::atomic::AtomicUsize::new(0);
        Self { seen, value: std::sync::Mutex::new(value) }
    }

    pub(crate) fn store(&self, value: T) {
        self.seen.swap(0, Ordering::Release);
        *self.value.lock().unwrap() = value;
    }

    pub(crate) fn swap(&self, value: T) -> T {
        self.seen.swap(0, Ordering::AcqRel);
        std::mem::replace(&mut *self.value.lock().unwrap(), value)
    }
}

thread_local! {
    static CALM: Cell<bool> = const { Cell::new(false) };
}

/// Whether what is made from now on begins calm.
pub(crate) fn set_calm(calm: bool) {
    CALM.set(calm);
}

/// Of a light and a heavy one, the second has seen what was before the first. So have two light ones
/// here, which is more than they do, and two checkouts that make neither have not.
pub(crate) mod asymmetric_fence {
    use loom::sync::atomic::{AtomicUsize, Ordering};

    loom::lazy_static! {
        static ref FENCES: AtomicUsize = AtomicUsize::new(0);
    }

    pub(crate) fn is_available() -> bool {
        super::CALM.get()
    }

    pub(crate) fn light() {
        FENCES.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn heavy() {
        FENCES.fetch_add(1, Ordering::AcqRel);
    }
}
