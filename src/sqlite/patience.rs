//! For how long readers that keep the WAL from starting over are put up with, and by whom.
//!
//! Reads that overlap end soon, and it is worth to have a commit wait for them when the WAL is near its
//! limit. A read that goes on is not waited for, or all writers would be as slow as it. From outside the
//! two look the same, except by age, and the pool knows how old its own are at most. Readers of other
//! processes are found out by trying, for less time after each time that it was in vain.

use std::time::{Duration, Instant};

use super::wal::Backfilled;

/// A read that is as old as that is not waited for by a commit.
pub(super) const SHORT_READ: Duration = Duration::from_millis(100);
/// Not worth the waking up.
const LEAST: Duration = Duration::from_millis(2);

/// The pause of the thread after a reader was in the way, doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

/// Since the WAL has started over.
#[derive(Debug)]
pub(super) struct Patience {
    pause: Duration,
    held_up_since: Option<Instant>,
    /// How long a commit may wait for readers.
    of_commits: Duration,
    /// One did, in vain, when so much of the WAL was in the database.
    in_vain_at: Option<Backfilled>,
}

impl Patience {
    pub(super) fn new() -> Self {
        Self { pause: FIRST_PAUSE, held_up_since: None, of_commits: SHORT_READ, in_vain_at: None }
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
    pub(super) fn of_commits(&self, backfilled: Backfilled) -> Option<Duration> {
        let may = self.of_commits >= LEAST && self.in_vain_at != Some(backfilled);
        may.then_some(self.of_commits)
    }

    /// A commit has waited in vain. `known` = for a reader of the pool, which has become too old.
    pub(super) fn in_vain(&mut self, backfilled: Backfilled, known: bool) {
        self.in_vain_at = Some(backfilled);
        if !known {
            self.of_commits /= 2;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(frames: u32) -> Backfilled {
        Backfilled { epoch: 0, frames }
    }

    #[test]
    fn nothing_is_waited_for_twice() {
        let mut patience = Patience::new();
        assert_eq!(patience.of_commits(at(1)), Some(SHORT_READ));
        patience.in_vain(at(1), true);
        assert_eq!(patience.of_commits(at(1)), None);
        assert_eq!(patience.of_commits(at(2)), Some(SHORT_READ));
    }

    #[test]
    fn all_that_is_waited_for_readers_outside_the_pool_has_an_end() {
        let mut patience = Patience::new();
        let mut waited = Duration::ZERO;
        for frames in 0..100 {
            if let Some(time) = patience.of_commits(at(frames)) {
                waited += time;
                patience.in_vain(at(frames), false);
            }
        }
        assert!(waited < 2 * SHORT_READ, "{waited:?}");
        assert_eq!(patience.of_commits(at(100)), None);
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
