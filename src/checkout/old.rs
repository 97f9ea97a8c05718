//! Connections that are closed for their age: idle for too long, or open for too long.
//!
//! No checkout and no check-in reads a clock for this. Once a second housekeeping looks whether a
//! connection has been held since it looked last; one that has not has been idle for at least so
//! long.

use std::time::Duration;

use parking_lot::Mutex;

use super::clock;
use super::shared::Shared;
use super::source::Manage;
use crate::metrics::CloseReason;

/// What housekeeping saw of one slot.
#[derive(Clone, Copy)]
struct Seen {
    version: u64,
    /// When this version was seen first.
    since: u64,
}

/// For how long connections have been idle.
pub(super) struct Idleness {
    /// Used by housekeeping only.
    seen: Mutex<Vec<Seen>>,
}

impl Idleness {
    pub(super) fn new(slots: usize) -> Self {
        Self { seen: Mutex::new(vec![Seen { version: 0, since: 0 }; slots]) }
    }
}

impl<M: Manage> Shared<M> {
    pub(super) fn close_old(&self) {
        self.close_expired();
        self.close_idle();
    }

    fn close_expired(&self) {
        let Some(limit) = self.settings.max_lifetime else {
            return;
        };
        let now = clock::now();
        for (slot, note) in self.dispatch.notes().enumerate() {
            let expired = longer(note.opened_at(), now, limit);
            if expired
                && note.looks_idle()
                && let Some(lent) = self.dispatch.withdraw(slot, 0)
            {
                self.replace(lent, CloseReason::Lifetime);
            }
        }
    }

    /// The coldest first; one connection stays, to keep the file open.
    fn close_idle(&self) {
        let Some(limit) = self.settings.idle_limit else {
            return;
        };
        let now = clock::now();
        let mut seen = self.idleness.seen.lock();
        let mut cold = Vec::new();
        for (slot, (note, seen)) in self.dispatch.notes().zip(seen.iter_mut()).enumerate() {
            let version = note.version();
            if version != seen.version || !note.looks_idle() || seen.since == 0 {
                *seen = Seen { version, since: now };
            } else if longer(seen.since, now, limit) {
                cold.push((seen.since, slot));
            }
        }
        drop(seen);
        cold.sort_unstable();
        for (_, slot) in cold {
            if let Some(lent) = self.dispatch.withdraw(slot, 1) {
                self.discard(*lent, CloseReason::Idle);
            }
        }
    }
}

fn longer(since: u64, now: u64, limit: Duration) -> bool {
    u128::from(now.saturating_sub(since)) >= limit.as_nanos()
}
