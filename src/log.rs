//! What is said in the log, and how often.
//!
//! Each message says where in the source the connection was checked out and which thread had it, and
//! never a bound value or SQL. A fault that comes with every request must not drown the log in the
//! very moment it is needed, so of each kind of message a pool writes ten in ten seconds at most; the
//! next one says how many were left out. The counts are in the metrics, which leave nothing out.
//! (Crates that limit a whole subscriber lost: they would need the application to install them.)

use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::status::Holder;
use crate::who::{Place, thread_name};

const WINDOW: Duration = Duration::from_secs(10);
const AT_MOST: u32 = 10;

/// How many messages of one kind were written lately.
#[derive(Debug)]
pub(crate) struct Rate(Mutex<Window>);

#[derive(Debug)]
struct Window {
    began: Option<Instant>,
    written: u32,
    left_out: u64,
}

impl Rate {
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(Window { began: None, written: 0, left_out: 0 }))
    }

    /// `Some` = write it, and say that so many were left out before.
    pub(crate) fn admit(&self, now: Instant) -> Option<u64> {
        let mut window = self.0.lock();
        if window.began.is_none_or(|began| now.saturating_duration_since(began) >= WINDOW) {
            window.began = Some(now);
            window.written = 0;
        }
        if window.written == AT_MOST {
            window.left_out += 1;
            return None;
        }
        window.written += 1;
        Some(std::mem::take(&mut window.left_out))
    }
}

/// The log of one pool.
#[derive(Debug)]
pub(crate) struct Log {
    pool: String,
    repairs: Rate,
    discards: Rate,
    busy_timeouts: Rate,
    statement_timeouts: Rate,
    slow_checkouts: Rate,
    long_holds: Rate,
    old_snapshots: Rate,
    checkpoints: Rate,
}

/// Writes a warning if its rate allows.
macro_rules! warn_at {
    ($rate:expr, $($content:tt)+) => {
        if let Some(left_out) = $rate.admit(Instant::now()) {
            tracing::warn!(left_out, $($content)+);
        }
    };
}

impl Log {
    /// The name of the pool.
    pub(crate) fn pool(&self) -> &str {
        &self.pool
    }

    pub(crate) const fn new(pool: String) -> Self {
        Self {
            pool,
            repairs: Rate::new(),
            discards: Rate::new(),
            busy_timeouts: Rate::new(),
            statement_timeouts: Rate::new(),
            slow_checkouts: Rate::new(),
            long_holds: Rate::new(),
            old_snapshots: Rate::new(),
            checkpoints: Rate::new(),
        }
    }

    /// A check-in found something left over.
    pub(crate) fn repair(&self, role: &str, place: Option<Place>, what: &str) {
        let (pool, thread, place) = (&self.pool, current_thread(), shown(place));
        warn_at!(self.repairs, pool, role, thread, place, "a connection came back with {what}");
    }

    /// A connection is closed instead of lent again.
    pub(crate) fn discard(&self, role: &str, place: Option<Place>) {
        let (pool, thread, place) = (&self.pool, current_thread(), shown(place));
        warn_at!(
            self.discards,
            pool,
            role,
            thread,
            place,
            "a connection is closed and opened again, for it cannot be put right with certainty"
        );
    }

    /// A lock stayed taken for the whole time-out.
    pub(crate) fn busy_timeout(
        &self,
        role: &str,
        place: Option<Place>,
        operation: &str,
        limit: Duration,
    ) {
        let (pool, thread, place) = (&self.pool, current_thread(), shown(place));
        warn_at!(
            self.busy_timeouts,
            pool,
            role,
            thread,
            place,
            operation,
            ?limit,
            "another connection kept the database locked until the time was up"
        );
    }

    /// A statement ran, or waited for a lock, for too long.
    pub(crate) fn statement_timeout(&self, role: &str, place: Option<Place>, limit: Duration) {
        let (pool, thread, place) = (&self.pool, current_thread(), shown(place));
        warn_at!(
            self.statement_timeouts,
            pool,
            role,
            thread,
            place,
            ?limit,
            "a statement was stopped, for it took longer than `statement_timeout`"
        );
    }

    /// A checkout waited for long.
    pub(crate) fn slow_checkout(&self, role: &str, place: Place, waited: Duration) {
        let (pool, thread, place) = (&self.pool, current_thread(), place.to_string());
        warn_at!(
            self.slow_checkouts,
            pool,
            role,
            thread,
            place,
            ?waited,
            "a checkout waited long for its turn"
        );
    }

    /// A connection has been held for long.
    pub(crate) fn long_hold(&self, role: &str, holder: &Holder) {
        let (pool, Holder { thread, place, held, .. }) = (&self.pool, holder);
        warn_at!(
            self.long_holds,
            pool,
            role,
            thread,
            place,
            label = holder.label.as_deref(),
            ?held,
            "a connection is held for longer than `long_held_after`"
        );
    }
}

/// The WAL.
impl Log {
    /// A snapshot has been open for long.
    pub(crate) fn old_snapshot(&self, holder: &Holder) {
        let (pool, Holder { thread, place, held, .. }) = (&self.pool, holder);
        warn_at!(
            self.old_snapshots,
            pool,
            thread,
            place,
            ?held,
            "a snapshot is open for longer than `snapshot_warn_after`: until it ends the WAL grows with every commit"
        );
    }

    /// The WAL has reached its limit because somebody reads from it.
    pub(crate) fn wal_held(&self, holder: Option<&Holder>, bytes: u64, limit_mib: u32) {
        let pool = &self.pool;
        match holder {
            Some(Holder { thread, place, held, .. }) => warn_at!(
                self.checkpoints,
                pool,
                thread,
                place,
                ?held,
                bytes,
                limit_mib,
                "the WAL has grown past `wal_limit_mib`: a reader has held its state of the database for so long; end that read sooner"
            ),
            None => warn_at!(
                self.checkpoints,
                pool,
                bytes,
                limit_mib,
                "the WAL has grown past `wal_limit_mib`: somebody outside the pool reads an old state of the database, or reads overlap without a gap; look for long reads in other processes"
            ),
        }
    }

    /// A checkpoint failed. The commits stand: they are in the WAL.
    pub(crate) fn checkpoint_failed(&self, error: &dyn std::error::Error) {
        let pool = &self.pool;
        warn_at!(
            self.checkpoints,
            pool,
            %error,
            "a checkpoint failed and will be tried again; what was committed is safe in the WAL, which grows until one succeeds"
        );
    }
}

impl Log {
    /// A thread has ended without giving back what it held. Rare, and never left out.
    pub(crate) fn leak(&self, role: &str, holder: &Holder) {
        let (pool, Holder { thread, place, held, .. }) = (&self.pool, holder);
        let label = holder.label.as_deref();
        match role {
            "write" => tracing::error!(
                pool,
                role,
                thread,
                place,
                label,
                ?held,
                "a guard was leaked, and its thread has ended; another connection is opened, but if a transaction was open the database stays locked until the program ends"
            ),
            _ => tracing::error!(
                pool,
                role,
                thread,
                place,
                label,
                ?held,
                "a guard was leaked, and its thread has ended; another connection is opened"
            ),
        }
    }
}

fn current_thread() -> String {
    thread_name(&thread::current())
}

fn shown(place: Option<Place>) -> String {
    place.map_or_else(|| "unknown".to_owned(), ToString::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_in_ten_seconds_and_the_next_one_says_how_many_were_left_out() {
        let rate = Rate::new();
        let began = Instant::now();
        let admitted = (0..1000).filter(|_| rate.admit(began).is_some()).count();
        assert_eq!(admitted, 10);
        assert_eq!(rate.admit(began + WINDOW), Some(990));
        assert_eq!(rate.admit(began + WINDOW), Some(0));
    }
}
