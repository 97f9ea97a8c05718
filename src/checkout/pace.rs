//! How fast connections come back while somebody waits, and so whether it pays to let newcomers overtake.
//!
//! A thread takes ten microseconds and more to wake. Where holds are about as short, a connection that is
//! kept for the first in the queue lies idle for a good part of the time, and one that newcomers may use
//! in between does not. Where holds are longer nothing is gained, and each who overtakes still has all
//! others wait for another hold: with 64 threads on 4 connections held for 200 us half of all waits were
//! 9.4 ms instead of 6.4, the longest 14.6 instead of 10.5, at the same throughput. So newcomers overtake
//! only while connections are held for less than the `overtaking` of the config.
//!
//! That is 70 us by default. With 30, where it takes 20 to wake a thread, 64 threads on one connection held
//! for 20 us had 0.77-1.00 of r2d2's throughput, 16 on four 0.78-0.85, and 16 that made queries on four
//! without a pause 0.79-1.06; with 70 us 1.03-1.12, 0.86-0.94 and 0.96-1.35. Waits become longer by it:
//! the 99th percentile of the first was a tenth of r2d2's, and is a sixth.
//!
//! Where there are as many connections as cores, or more, it is the cores that holders wait for. To have a
//! sleeping thread take its turn then costs one that runs its core, and gains the first in the queue less
//! than it seems, for it has to wait for a core in any case. So there newcomers may overtake, besides, until
//! the first has waited for [`PATIENCE`] times as long in all, or 2 ms. Of 15 threads that read on four
//! connections and two cores, without a pause, it made 1.03 to 1.24 times the throughput where each
//! connection has its own page cache, and no difference where they share one; 16 threads on four held for
//! 20 us had 0.93 of r2d2's by it, and 0.89-0.92 without. Those who wait do so for longer: the 99th
//! percentile of the last was a thirtieth of r2d2's, and is a fifteenth. The bound is on the whole wait,
//! unlike the other, so that a long queue waits no longer than before.
//!
//! For how long one is held is reckoned from how often one comes back. More of them than there are cores
//! count as if they shared those; where holders do not compute but wait for something, many connections
//! come back often, and the first in the queue has one soon in either case.

/// So many times as long as newcomers may overtake the first in the queue, it is overtaken since it came,
/// where cores are scarcer than connections.
const PATIENCE: u64 = 25;

/// In nanoseconds: 2 ms. Where holders do not compute it has no core to wait for.
const MOST_PATIENCE: u64 = 2_000_000;

/// Connections that come back while somebody waits.
pub(super) struct Pace {
    /// How long newcomers may overtake if it pays, in nanoseconds.
    overtaking: u64,
    /// How many threads can run at the same time.
    cores: usize,
    /// When the latest came back, or somebody began to wait.
    latest: u64,
    /// The time between two of them: an average in which each new one counts an eighth.
    between: u64,
}

impl Pace {
    pub(super) fn new(overtaking: u64, cores: usize) -> Self {
        Self { overtaking, cores, latest: 0, between: 0 }
    }

    /// Somebody begins to wait, and nobody had.
    pub(super) fn begin(&mut self, now: u64) {
        self.latest = now;
    }

    pub(super) fn one_came_back(&mut self, now: u64) {
        // A single one that was kept for long says little.
        let between = now.saturating_sub(self.latest).min(self.overtaking.saturating_mul(2));
        self.between = self.between - self.between / 8 + between / 8;
        self.latest = now;
    }

    /// Whether a newcomer may have one of so many connections before somebody who has been the first in the
    /// queue for so long, and in the queue for so long.
    pub(super) fn may_overtake(&self, first_for: u64, waited: u64, connections: usize) -> bool {
        let held_for = self.between.saturating_mul(connections.min(self.cores) as u64);
        let patience = self.overtaking.saturating_mul(PATIENCE).min(MOST_PATIENCE);
        held_for < self.overtaking
            && (first_for < self.overtaking || connections >= self.cores && waited < patience)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OVERTAKING: u64 = 70_000;

    /// Of two cores, on which connections come back so often.
    fn after(holds: usize, between: u64) -> Pace {
        let mut pace = Pace::new(OVERTAKING, 2);
        pace.begin(1);
        (1..=holds as u64).for_each(|number| pace.one_came_back(1 + number * between));
        pace
    }

    /// The longest wait after which somebody who has just become the first is overtaken.
    fn patience(pace: &Pace, connections: usize) -> u64 {
        let is_overtaken = |waited: &u64| pace.may_overtake(OVERTAKING, *waited, connections);
        (0..100 * OVERTAKING).step_by(1000).take_while(is_overtaken).last().unwrap_or(0)
    }

    #[test]
    fn newcomers_overtake_where_holds_are_short() {
        let just_first = |pace: Pace, connections| {
            pace.may_overtake(OVERTAKING - 1, u64::MAX, connections)
                && !pace.may_overtake(OVERTAKING, u64::MAX, connections)
        };
        assert!(just_first(after(0, 0), 4));
        // Two at a time of 60 us, or one.
        assert!(just_first(after(100, 30_000), 4));
        assert!(just_first(after(100, 60_000), 1));
    }

    #[test]
    fn nobody_overtakes_where_holds_are_long() {
        // Two at a time of 80 us, or one.
        assert!(!after(100, 40_000).may_overtake(0, 0, 4));
        assert!(!after(100, 80_000).may_overtake(0, 0, 1));
    }

    #[test]
    fn newcomers_overtake_for_longer_where_cores_are_scarcer_than_connections() {
        for connections in [2, 4] {
            assert_eq!(patience(&after(100, 10_000), connections), 25 * OVERTAKING - 1000);
        }
        let slow = Pace::new(4_000_000, 2);
        assert!(slow.may_overtake(3_999_999, u64::MAX, 4), "for as long as it is the first");
        assert!(slow.may_overtake(4_000_000, 1_999_999, 4));
        assert!(!slow.may_overtake(4_000_000, 2_000_000, 4), "and not for much longer than usual");
        assert_eq!(patience(&after(100, 10_000), 1), 0);
        assert_eq!(patience(&after(100, 40_000), 4), 0, "not where holds are long");
    }

    #[test]
    fn a_single_long_hold_says_little_and_several_change_it() {
        let mut pace = after(100, 10_000);
        let mut now = 1_000_000;
        let mut hold = |pace: &mut Pace, time: u64| {
            now += time;
            pace.one_came_back(now);
        };
        hold(&mut pace, 10_000_000);
        assert!(pace.may_overtake(0, 0, 4));
        (0..20).for_each(|_| hold(&mut pace, 100_000));
        assert!(!pace.may_overtake(0, 0, 4));
        (0..20).for_each(|_| hold(&mut pace, 10_000));
        assert!(pace.may_overtake(0, 0, 4));
    }

    #[test]
    fn no_overtaking_at_all_stays_none() {
        assert!(!Pace::new(0, 2).may_overtake(0, 0, 4));
    }
}
