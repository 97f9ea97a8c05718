//! SQLite's limits on memory, which are the whole process's: put back after somebody has changed them.
//!
//! They are noted when the first holder does what may change them, and put back when any such holder
//! is done. A change that another part of the program makes meanwhile is taken back as well.

use parking_lot::Mutex;

use crate::ffi::{HeapLimits, heap_limits, set_heap_limits};
use crate::fork::PerProcess;

struct Noted {
    before: Option<HeapLimits>,
    /// How many holders are watched.
    holders: usize,
}

/// A child has limits and holders of its own.
static NOTED: PerProcess<Mutex<Noted>> =
    PerProcess::new([const { Mutex::new(Noted { before: None, holders: 0 }) }; 8]);

/// A holder may change the limits from now on.
pub(super) fn watch() {
    let mut noted = NOTED.here().lock();
    if noted.holders == 0 {
        noted.before = Some(heap_limits());
    }
    noted.holders += 1;
}

/// That holder is done; `true` when the limits had been changed.
pub(super) fn put_back() -> bool {
    let mut noted = NOTED.here().lock();
    noted.holders -= 1;
    match noted.before {
        Some(before) if before != heap_limits() => {
            set_heap_limits(before);
            true
        }
        _ => false,
    }
}
