//! Waiting for what another thread does, where it cannot send a message.

use std::thread;
use std::time::{Duration, Instant};

/// Far above what anything here takes.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// Looks until it holds. The bound only keeps a fault from hanging the suite.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < LONG, "waited in vain until {what}");
        // Not in a tight loop: where threads run one at a time, as under Valgrind, that keeps those it
        // waits for from running.
        thread::sleep(Duration::from_micros(200));
    }
}
