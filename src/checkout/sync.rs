//! The primitives that the queue and the slots are built on.
//!
//! They are named here, and only here, so that `tests/loom` can compile the same files with loom's
//! and try every interleaving of three threads. `parking_lot` itself has no loom support.

pub(super) use crossbeam_utils::atomic::AtomicCell;
pub(super) use parking_lot::{Condvar, Mutex, MutexGuard};
pub(super) use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
