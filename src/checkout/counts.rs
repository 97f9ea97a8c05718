//! What is counted for every checkout: per slot, and published in bulk.
//!
//! A counter shared by all threads would be what they wait for, and an exporter's histogram costs
//! more than a whole checkout. So each slot has numbers of its own, which only the owner of its
//! connection changes, and publishing adds up what has come since the last time. Hold times are
//! counted in classes a sixteenth of a power of two wide, and published as the middle of their class:
//! off by 3 % at most. An exporter keeps each of them until it is rendered or looked after, 16 bytes and
//! 60 ns apiece, so no more than a certain number is published at a time: of more, an even share.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crossbeam_utils::CachePadded;
use parking_lot::Mutex;

use crate::metrics::{CheckoutOutcome, RoleMetrics};

/// Classes per power of two.
const FINE: usize = 16;

/// Up to 2^42 ns, more than an hour.
const CLASSES: usize = FINE * (42 - 2);

/// The most times that are published at once, or hardly more.
const AT_MOST: u64 = 1 << 18;

/// The class of a time in nanoseconds.
fn class(nanoseconds: u64) -> usize {
    let fine = FINE as u64;
    if nanoseconds < fine {
        return nanoseconds as usize;
    }
    let power = nanoseconds.ilog2();
    let within = (nanoseconds >> (power - FINE.ilog2())) & (fine - 1);
    let class = (power as usize - 3) * FINE + within as usize;
    class.min(CLASSES - 1)
}

/// The middle of a class, in seconds.
fn middle(class: usize) -> f64 {
    if class < FINE {
        return class as f64 * 1e-9;
    }
    let power = i32::try_from(class / FINE).unwrap_or(i32::MAX) + 3;
    let width = 2_f64.powi(power) / FINE as f64;
    (2_f64.powi(power) + width * ((class % FINE) as f64 + 0.5)) * 1e-9
}

/// The numbers of one slot.
struct Counts {
    immediate: AtomicU64,
    nested: AtomicU64,
    timed: AtomicU64,
    /// Made when the first hold is timed: most slots of a pool that may grow are never used.
    holds: OnceLock<Box<[AtomicU32]>>,
}

/// What was published already.
struct Published {
    immediate: u64,
    nested: u64,
    timed: Vec<u64>,
    holds: Vec<u32>,
}

/// The numbers of all slots.
pub(super) struct AllCounts {
    slots: Box<[CachePadded<Counts>]>,
    published: Mutex<Published>,
}

impl AllCounts {
    pub(super) fn new(slots: usize) -> Self {
        let counts = |_| {
            CachePadded::new(Counts {
                immediate: AtomicU64::new(0),
                nested: AtomicU64::new(0),
                timed: AtomicU64::new(0),
                holds: OnceLock::new(),
            })
        };
        let published =
            Published { immediate: 0, nested: 0, timed: vec![0; slots], holds: vec![0; CLASSES] };
        Self { slots: (0..slots).map(counts).collect(), published: Mutex::new(published) }
    }

    /// A checkout did not have to wait. The caller owns the slot's connection.
    #[inline]
    pub(super) fn immediate(&self, slot: usize) {
        add_one(&self.slots[slot].immediate);
    }

    /// The thread that checked out holds another connection. The caller owns the slot's connection.
    #[cold]
    pub(super) fn nested(&self, slot: usize) {
        add_one(&self.slots[slot].nested);
    }

    /// A hold was timed. The caller owns the slot's connection.
    pub(super) fn hold(&self, slot: usize, nanoseconds: u64) {
        let counts = &self.slots[slot];
        let holds = counts.holds.get_or_init(|| (0..CLASSES).map(|_| AtomicU32::new(0)).collect());
        let count = &holds[class(nanoseconds)];
        count.store(count.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        add_one(&counts.timed);
    }

    /// How many more of each class there are than `before`.
    fn holds_since(&self, before: &[u32]) -> Vec<u32> {
        let mut more: Vec<u32> = before.iter().map(|before| before.wrapping_neg()).collect();
        // Slot by slot, as they are in memory.
        for holds in self.slots.iter().filter_map(|slot| slot.holds.get()) {
            for (more, count) in more.iter_mut().zip(holds) {
                *more = more.wrapping_add(count.load(Ordering::Relaxed));
            }
        }
        more
    }

    /// Hands what has come since the last time to the recorder.
    pub(super) fn publish(&self, metrics: &RoleMetrics) {
        let mut published = self.published.lock();
        let published = &mut *published;
        let immediate = self.slots.iter().map(|slot| slot.immediate.load(Ordering::Relaxed)).sum();
        metrics.checkouts(CheckoutOutcome::Immediate, immediate - published.immediate);
        published.immediate = immediate;
        let nested = self.slots.iter().map(|slot| slot.nested.load(Ordering::Relaxed)).sum();
        metrics.nested.increment(nested - published.nested);
        published.nested = nested;

        let mut timed = false;
        for (slot, published) in self.slots.iter().zip(&mut published.timed) {
            let now = slot.timed.load(Ordering::Acquire);
            timed |= now != *published;
            *published = now;
        }
        if !timed {
            return;
        }
        let more = self.holds_since(&published.holds);
        let total: u64 = more.iter().copied().map(u64::from).sum();
        // One in so many; the rest of each class stays for the next time.
        let share = u32::try_from(total.div_ceil(AT_MOST)).unwrap_or(u32::MAX).max(1);
        for (class, (more, published)) in more.into_iter().zip(&mut published.holds).enumerate() {
            if more >= share {
                metrics.hold.record_many(middle(class), (more / share) as usize);
                *published = published.wrapping_add(more - more % share);
            }
        }
    }
}

/// Only one thread at a time adds, so no atomic addition is needed.
#[inline]
fn add_one(count: &AtomicU64) {
    count.store(count.load(Ordering::Relaxed) + 1, Ordering::Release);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_is_near_the_middle_of_its_class() {
        let mut before = 0;
        for power in 0..42 {
            for part in 0..64_u64 {
                let time = (1_u64 << power) + ((part << power) >> 6);
                let class = class(time);
                assert!(class >= before && class < CLASSES, "{time}: {class}");
                before = class;
                let off = middle(class) * 1e9 / time as f64 - 1.0;
                assert!(off.abs() <= 1.0 / 31.0, "{time} ns in class {class}, off by {off}");
            }
        }
        assert_eq!(class(u64::MAX), CLASSES - 1);
    }

    /// How many times were recorded, after each of so many times of publishing. Between two of them one
    /// more is timed.
    fn recorded(counts: &AllCounts, times: usize) -> Vec<u64> {
        let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
        let metrics =
            metrics::with_local_recorder(&recorder, || RoleMetrics::alone("counted", "read"));
        let count = |_| {
            counts.publish(&metrics);
            counts.hold(0, 10);
            let page = recorder.handle().render();
            let line = page.lines().find(|line| line.starts_with("tenure_hold_seconds_count"));
            line.and_then(|line| line.rsplit(' ').next()).map_or(0, |count| count.parse().unwrap())
        };
        (0..times).map(count).collect()
    }

    #[test]
    fn of_many_times_an_even_share_is_published() {
        let counts = AllCounts::new(2);
        for (slot, nanoseconds) in [(0, 100), (1, 100), (0, 1_000_000)] {
            for _ in 0..AT_MOST {
                counts.hold(slot, nanoseconds);
            }
        }
        // Three times as many as are published at once: one in three, and of each class what makes no
        // three the next time.
        let share = 2 * AT_MOST / 3 + AT_MOST / 3;
        let rest = 2 * AT_MOST % 3 + AT_MOST % 3;
        assert_eq!(recorded(&counts, 3), [share, share + rest + 1, share + rest + 2]);
    }

    #[test]
    fn few_times_are_all_published() {
        let counts = AllCounts::new(1);
        for nanoseconds in 0..1_000 {
            counts.hold(0, nanoseconds);
        }
        assert_eq!(recorded(&counts, 2), [1_000, 1_001]);
    }
}
