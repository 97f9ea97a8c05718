//! A clock that stands until it is moved.

use std::cell::Cell;

thread_local! {
    static NOW: Cell<u64> = const { Cell::new(1) };
}

pub(crate) fn now() -> u64 {
    NOW.get()
}

pub(crate) fn advance(by: u64) {
    NOW.set(NOW.get() + by);
}
