//! The rules, as plainly as they can be said.

use std::thread::available_parallelism;

/// What becomes of somebody who asks or waits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Outcome {
    /// Has a connection, or room to open one.
    Served,
    Waits,
    TimedOut,
    Unavailable,
    Overloaded,
    Closed,
    WouldDeadlock,
}

/// One who waits.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Waiting {
    InLine,
    /// Given a connection or room, which the thread has not seen yet.
    Granted,
    Closed,
    InVain,
}

pub(crate) struct Model {
    pub(crate) limit: usize,
    max_waiters: usize,
    overtaking: u64,
    /// Connections that nobody holds.
    pub(crate) free: usize,
    /// Idle, held, being opened or being closed.
    pub(crate) open: usize,
    pub(crate) held: usize,
    /// In order of arrival, those who have not woken included.
    waiting: Vec<Waiting>,
    /// When each of them came.
    arrived: Vec<u64>,
    first_since: u64,
    /// When the latest came back while somebody waited, or somebody began to.
    latest: u64,
    /// The average time between two of them.
    between: u64,
    pub(crate) closed: bool,
}

impl Model {
    pub(crate) fn new(limit: usize, max_waiters: usize, overtaking: u64) -> Self {
        let (free, held, first_since) = (0, 0, 0);
        let (waiting, arrived, closed) = (Vec::new(), Vec::new(), false);
        let (open, latest, between) = (0, 0, 0);
        Self {
            limit,
            max_waiters,
            overtaking,
            free,
            open,
            held,
            waiting,
            arrived,
            first_since,
            latest,
            between,
            closed,
        }
    }

    fn room(&self) -> bool {
        self.open < self.limit
    }

    /// So many of those that are free are to be closed.
    pub(crate) fn resize(&mut self, limit: usize, surplus: usize) {
        self.limit = limit;
        self.free -= surplus;
        self.settle(crate::clock::now());
    }

    pub(crate) fn vacate_surplus(&mut self) {
        self.open -= 1;
        self.settle(crate::clock::now());
    }

    pub(crate) fn queued(&self) -> usize {
        self.waiting.iter().filter(|waiting| **waiting == Waiting::InLine).count()
    }

    pub(crate) fn ask(&mut self, may_wait: bool, now: u64) -> Outcome {
        if self.closed {
            Outcome::Closed
        } else if self.free > 0
            && (self.queued() == 0
                || (may_wait && (self.may_overtake(now) || self.queued() < self.free)))
        {
            self.free -= 1;
            self.held += 1;
            Outcome::Served
        } else if !may_wait {
            Outcome::Unavailable
        } else if self.room() {
            self.open += 1;
            self.held += 1;
            Outcome::Served
        } else if self.queued() >= self.max_waiters {
            Outcome::Overloaded
        } else {
            if self.queued() == 0 {
                self.first_since = now;
                self.latest = now;
            }
            self.waiting.push(Waiting::InLine);
            self.arrived.push(now);
            Outcome::Waits
        }
    }

    fn first(&self) -> Option<usize> {
        self.waiting.iter().position(|waiting| *waiting == Waiting::InLine)
    }

    /// Whether the first may be overtaken: not where connections are held for long; for longer where cores
    /// are no more than connections.
    fn may_overtake(&self, now: u64) -> bool {
        let cores = available_parallelism().map_or(1, usize::from);
        let held_for = u128::from(self.between) * self.limit.min(cores) as u128;
        let waited = self.first().map_or(0, |at| now - self.arrived[at]);
        let patience =
            if self.limit < cores { 0 } else { self.overtaking.saturating_mul(25).min(2_000_000) };
        let is_early = now - self.first_since < self.overtaking || waited < patience;
        held_for < u128::from(self.overtaking) && is_early
    }

    pub(crate) fn give(&mut self, now: u64) {
        if self.queued() > 0 {
            let between = u128::from(now - self.latest).min(2 * u128::from(self.overtaking));
            self.between -= self.between / 8;
            self.between += u64::try_from(between / 8).unwrap();
            self.latest = now;
        }
        self.held -= 1;
        self.free += 1;
        self.settle(now);
    }

    pub(crate) fn vacate(&mut self) {
        self.held -= 1;
        self.open -= 1;
        self.settle(crate::clock::now());
    }

    pub(crate) fn wake(&mut self, at: usize, deadline: bool, now: u64) -> Outcome {
        let before = self.waiting[..at].iter().filter(|w| **w == Waiting::InLine).count();
        let outcome = match self.waiting[at] {
            Waiting::Granted => Outcome::Served,
            Waiting::Closed => Outcome::Closed,
            Waiting::InVain => Outcome::WouldDeadlock,
            // Enough for everybody before as well.
            Waiting::InLine if before < self.free => {
                self.free -= 1;
                Outcome::Served
            }
            Waiting::InLine if deadline => Outcome::TimedOut,
            Waiting::InLine => return Outcome::Waits,
        };
        let was_first = self.waiting[at] == Waiting::InLine && before == 0;
        if outcome == Outcome::Served {
            self.held += 1;
        }
        if self.waiting[at] != Waiting::InLine {
            // It left the line when it was told. What was granted is counted as held by nobody else.
            self.leave(at);
            return outcome;
        }
        self.leave(at);
        if was_first {
            self.first_since = now;
        }
        self.settle(now);
        outcome
    }

    fn leave(&mut self, at: usize) {
        self.waiting.remove(at);
        self.arrived.remove(at);
    }

    /// Whether it is told: not if it was told something else.
    pub(crate) fn refuse(&mut self, at: usize, now: u64) -> bool {
        if self.waiting[at] != Waiting::InLine {
            return false;
        }
        if !self.waiting[..at].contains(&Waiting::InLine) {
            self.first_since = now;
        }
        self.waiting[at] = Waiting::InVain;
        self.settle(now);
        true
    }

    pub(crate) fn close(&mut self) {
        self.closed = true;
        self.open -= self.free;
        self.free = 0;
        for waiting in &mut self.waiting {
            if *waiting == Waiting::InLine {
                *waiting = Waiting::Closed;
            }
        }
    }

    /// Room goes to the first at once; a connection when newcomers have had their time.
    fn settle(&mut self, now: u64) {
        while let Some(at) = self.first() {
            if self.room() {
                self.open += 1;
            } else if self.free > 0 && !self.may_overtake(now) {
                self.free -= 1;
            } else {
                return;
            }
            self.waiting[at] = Waiting::Granted;
            self.first_since = now;
        }
    }
}
