//! A clock that moves on by one each time it is read.

use std::cell::Cell;

thread_local! {
    // Of the system's thread, on which all of loom's threads of one test run.
    static NOW: Cell<u64> = const { Cell::new(1) };
}

pub(crate) fn reset() {
    NOW.set(1);
}

pub(crate) fn now() -> u64 {
    NOW.replace(NOW.get() + 1)
}
