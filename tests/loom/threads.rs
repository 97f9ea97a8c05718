//! What loom's threads remember; the same in every execution.

use std::cell::Cell;

pub(crate) const POOLS: usize = 8;

loom::thread_local! {
    static NUMBER: Cell<u64> = Cell::new(1);
    static LAST_SLOT: Cell<usize> = Cell::new(usize::MAX);
}

pub(crate) fn set_number(number: u64) {
    NUMBER.with(|of_thread| of_thread.set(number));
}

pub(crate) fn number() -> u64 {
    NUMBER.with(Cell::get)
}

pub(crate) fn last_slot(_: usize) -> usize {
    LAST_SLOT.with(Cell::get)
}

pub(crate) fn set_last_slot(_: usize, slot: usize) {
    LAST_SLOT.with(|last| last.set(slot));
}

/// The system's thread, on which all of loom's run.
pub(crate) struct Me(std::thread::Thread);

impl Me {
    pub(crate) fn thread(&self) -> &std::thread::Thread {
        &self.0
    }

    pub(crate) fn ended(&self) -> Option<u64> {
        None
    }
}

pub(crate) fn me() -> std::sync::Arc<Me> {
    std::sync::Arc::new(Me(std::thread::current()))
}
