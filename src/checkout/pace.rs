//! How fast connections come back while somebody waits, and so whether it pays to let newcomers overtake.
//!
//! A thread takes ten microseconds and more to wake. Where holds are about as short, a connection that is
//! kept for the first in the queue lies idle for a good part of the time, and one that newcomers may use
//! in between does not. Where holds are longer nothing is gained, and each who overtakes still has all
//! others wait for another hold: with 64 threads on 4 connections held for 200 us half of all waits were
//! 9.4 ms instead of 6.4, the longest 14.6 instead of 10.5, at the same throughput. So newcomers overtake
//! only while connections are held for less than twice the `overtaking` of the config.
//!
//! For how long one is held is reckoned from how often one comes back. More of them than there are cores
//! count as if they shared those; where holders do not compute but wait for something, many connections
//! come back often, and the first in the queue has one soon in either case.

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
        let between = now.saturating_sub(self.latest).min(self.overtaking.saturating_mul(4));
        self.between = self.between - self.between / 8 + between / 8;
        self.latest = now;
    }

    /// For how long the first in the queue may be overtaken, of so many connections.
    pub(super) fn overtaking(&self, connections: usize) -> u64 {
        let held_for = self.between.saturating_mul(connections.min(self.cores) as u64);
        if held_for < self.overtaking.saturating_mul(2) { self.overtaking } else { 0 }
    }
}
