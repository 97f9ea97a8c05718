//! Connections that are closed for their age: idle for too long, or open for too long.
//!
//! No checkout and no check-in reads a clock for this. Once a second housekeeping looks whether a
//! connection has been held since it looked last; one that has not has been idle for at least so
//! long.
//!
//! Connections that were opened at the same moment do not end at the same: each slot has its share of the
//! last tenth of the lifetime. Else all of a role would be opened again at once, and everybody would wait.

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
            let expired = has_outlived(limit, slot, note.opened_at(), now);
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

/// Whether the connection of this slot is not to be kept any longer: for so long, less up to a tenth.
pub(super) fn has_outlived(limit: Duration, slot: usize, opened: u64, now: u64) -> bool {
    longer(opened, now, lifetime(limit, slot))
}

fn lifetime(limit: Duration, slot: usize) -> Duration {
    // Multiples of the golden ratio, of which the fractions are spread evenly however many there are
    // (Knuth, "The Art of Computer Programming", volume 3, 6.4).
    let part = (slot as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 48;
    limit - limit / 10 / (1 << 16) * part as u32
}

fn longer(since: u64, now: u64, limit: Duration) -> bool {
    u128::from(now.saturating_sub(since)) >= limit.as_nanos()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_of_the_same_age_end_one_after_another() {
        let hour = Duration::from_secs(3600);
        for readers in [2, 8, 64] {
            let mut all: Vec<_> = (0..readers).map(|slot| lifetime(hour, slot)).collect();
            all.sort_unstable();
            assert!(all[0] > hour - hour / 10 && all[readers - 1] == hour, "{all:?}");
            let apart = all.windows(2).map(|pair| pair[1] - pair[0]).min().unwrap();
            assert!(apart > hour / 10 / (4 * readers as u32), "{readers}: {apart:?} apart");
        }
    }
}
