//! For how long readers that keep the WAL from starting over are put up with, and by whom.
//!
//! Reads that overlap end soon, and it is worth to have a commit wait for them when the WAL is near its
//! limit. A read that goes on is not waited for, or all writers would be as slow as it. From outside the
//! two look the same, so it is found out by waiting: those who read an older state have to end before all
//! is in the database, and then those who read the newest, from the WAL yet. That takes twice as long as
//! a read. Who has been waited for in vain is not waited for again; others are, but of all time
//! commits wait for readers no more than a ninth, apart from moments in between.
//!
//! The pool knows the age of its snapshots, and waits for no old one. How old other reads are it does not
//! know: a connection may be held for long by somebody who makes short ones.

use std::time::{Duration, Instant};

use super::wal::Backfilled;

/// A snapshot that is as old as that is not waited for by a commit.
pub(super) const SHORT_READ: Duration = Duration::from_millis(100);

/// How long a commit may wait for readers. After a wait that was in vain none does for so many times as
/// long, but for a moment: who was in the way may be gone.
const OF_COMMITS: Duration = SHORT_READ.saturating_mul(2);
const REST: u32 = 8;
const IN_BETWEEN: Duration = Duration::from_millis(2);

/// The pause of the thread after a reader was in the way, doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

/// Since the WAL has started over.
#[derive(Debug)]
pub(super) struct Patience {
    pause: Duration,
    held_up_since: Option<Instant>,
    /// A commit has waited in vain when so much of the WAL was in the database.
    in_vain_at: Option<Backfilled>,
    /// Before that none waits again.
    rests_until: Option<Instant>,
}

impl Patience {
    pub(super) fn new() -> Self {
        Self { pause: FIRST_PAUSE, held_up_since: None, in_vain_at: None, rests_until: None }
    }

    /// Something is in the way: how long to pause.
    pub(super) fn pause(&mut self) -> Duration {
        let pause = self.pause;
        self.pause = (pause * 2).min(LONGEST_PAUSE);
        pause
    }

    /// It has not been for long.
    pub(super) fn is_fresh(&self) -> bool {
        self.pause < LONGEST_PAUSE
    }

    /// Readers are in the way: since when.
    pub(super) fn held_up_since(&mut self) -> Instant {
        *self.held_up_since.get_or_insert_with(Instant::now)
    }

    /// How long a commit may wait for readers, if that could be of use: it was not in vain the last
    /// time, or more of the WAL could be brought into the database since, so that whoever was in the way
    /// then has ended.
    pub(super) fn of_commits(&self, backfilled: Backfilled, now: Instant) -> Option<Duration> {
        let rests = self.rests_until.is_some_and(|at| now < at);
        let limit = if rests { IN_BETWEEN } else { OF_COMMITS };
        (self.in_vain_at != Some(backfilled)).then_some(limit)
    }

    /// A commit has waited for so long, in vain.
    pub(super) fn in_vain(&mut self, backfilled: Backfilled, waited: Duration, now: Instant) {
        self.in_vain_at = Some(backfilled);
        let until = now + waited * REST;
        self.rests_until = Some(self.rests_until.map_or(until, |at| at.max(until)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(frames: u32) -> Backfilled {
        Backfilled { epoch: 0, frames }
    }

    #[test]
    fn nobody_is_waited_for_twice() {
        let (mut patience, now) = (Patience::new(), Instant::now());
        assert_eq!(patience.of_commits(at(1), now), Some(OF_COMMITS));
        patience.in_vain(at(1), OF_COMMITS, now);
        let later = now + Duration::from_secs(60);
        assert_eq!(patience.of_commits(at(1), later), None);
        assert_eq!(patience.of_commits(at(2), later), Some(OF_COMMITS));
    }

    #[test]
    fn commits_wait_in_vain_for_a_small_part_of_all_time() {
        let (mut patience, began) = (Patience::new(), Instant::now());
        let (mut now, mut waited) = (began, Duration::ZERO);
        for frames in 0..10_000 {
            if let Some(time) = patience.of_commits(at(frames / 20), now) {
                (now, waited) = (now + time, waited + time);
                patience.in_vain(at(frames / 20), time, now);
            }
            now += Duration::from_millis(1);
        }
        let all = now - began;
        assert!(waited > all / 10 && waited < all / 4, "{waited:?} of {all:?}");
    }

    #[test]
    fn pauses_grow_up_to_a_limit() {
        let mut patience = Patience::new();
        assert_eq!(patience.pause(), FIRST_PAUSE);
        assert!(patience.is_fresh());
        for _ in 0..10 {
            patience.pause();
        }
        assert_eq!(patience.pause(), LONGEST_PAUSE);
        assert!(!patience.is_fresh());
    }
}
