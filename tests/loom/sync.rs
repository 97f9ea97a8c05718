//! loom's primitives under the names of the real ones.

use std::time::Instant;

pub(crate) use loom::sync::MutexGuard;
pub(crate) use loom::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

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

/// An exchange that acquires and releases, as the real one.
pub(crate) struct AtomicCell<T>(loom::sync::Mutex<T>);

impl<T> AtomicCell<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(loom::sync::Mutex::new(value))
    }

    pub(crate) fn swap(&self, value: T) -> T {
        std::mem::replace(&mut *self.0.lock().unwrap(), value)
    }
}
