//! The primitives that the queue and the slots are built on.
//!
//! They are named here, and only here, so that `tests/loom` can compile the same files with loom's
//! and try the interleavings of two and three threads. `parking_lot` itself has no loom support. The
//! queue of group commits uses them too.

use std::hint;
use std::time::Instant;

pub(crate) use crate::ffi::asymmetric_fence;
pub(crate) use crossbeam_utils::atomic::AtomicCell;
pub(crate) use parking_lot::{Mutex, MutexGuard};
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};

/// Takes its guard by value, as loom's does.
pub(crate) struct Condvar(parking_lot::Condvar);

impl Condvar {
    pub(crate) fn new() -> Self {
        Self(parking_lot::Condvar::new())
    }

    pub(crate) fn wait<'g, T>(&self, mut guard: MutexGuard<'g, T>) -> MutexGuard<'g, T> {
        self.0.wait(&mut guard);
        guard
    }

    /// `true` = the deadline has passed.
    pub(crate) fn wait_until<'g, T>(
        &self,
        mut guard: MutexGuard<'g, T>,
        deadline: Instant,
    ) -> (MutexGuard<'g, T>, bool) {
        let passed = self.0.wait_until(&mut guard, deadline).timed_out();
        (guard, passed)
    }

    pub(crate) fn notify_one(&self) {
        self.0.notify_one();
    }

    pub(crate) fn notify_all(&self) {
        self.0.notify_all();
    }
}

/// Spins until there is something to see or the moment passes.
pub(crate) fn spin_until(seen: impl Fn() -> bool, moment: Instant) {
    while !seen() && Instant::now() < moment {
        hint::spin_loop();
    }
}
