//! What to do while another connection holds a lock.
//!
//! Inside one pool writers take turns, so SQLite's lock is met only when somebody outside the pool
//! holds it: another process, or a connection that the pool did not open. SQLite's own handler sleeps
//! up to 100 ms at a time, which lets newcomers win over those who have waited; this one sleeps for
//! short, irregular times until a deadline, and counts each try under the operation that met the
//! lock. SQLite does not call any handler when a read transaction tries to write: it answers BUSY at
//! once. That is why transactions begin IMMEDIATE.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::ffi::BusyHandler;
use crate::metrics::{Operation, PoolMetrics};

/// The first tries come quickly: most locks are held for less than a millisecond.
const QUICK_TRIES: u32 = 10;
const QUICK_SLEEP: Duration = Duration::from_micros(100);
const SLEEP: Duration = Duration::from_millis(1);

/// One connection's busy handler.
///
/// Only the thread that uses the connection touches it; the fields are atomics because SQLite holds
/// a shared pointer to it.
pub(crate) struct Busy {
    timeout: Duration,
    metrics: Arc<PoolMetrics>,
    operation: AtomicU8,
    /// When the wait for the present lock began, in nanoseconds since `born`.
    wait_began: AtomicU64,
    born: Instant,
}

impl Busy {
    /// `usual` is what raw statements count under.
    pub(super) fn new(timeout: Duration, usual: Operation, metrics: Arc<PoolMetrics>) -> Self {
        Self {
            timeout,
            metrics,
            operation: AtomicU8::new(usual as u8),
            wait_began: AtomicU64::new(0),
            born: Instant::now(),
        }
    }

    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Counts what happens while `work` runs under `operation`.
    pub(super) fn during<T>(&self, operation: Operation, work: impl FnOnce() -> T) -> T {
        let usual = self.operation.swap(operation as u8, Ordering::Relaxed);
        let result = work();
        self.operation.store(usual, Ordering::Relaxed);
        result
    }

    fn operation(&self) -> Operation {
        const ALL: [Operation; 4] =
            [Operation::Begin, Operation::Read, Operation::Write, Operation::Commit];
        let stored = self.operation.load(Ordering::Relaxed);
        ALL.into_iter().find(|operation| *operation as u8 == stored).unwrap_or(Operation::Read)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

impl BusyHandler for Busy {
    fn busy(&self, attempt: u32) -> bool {
        let now = self.now();
        if attempt == 0 {
            self.wait_began.store(now, Ordering::Relaxed);
        }
        let waited = Duration::from_nanos(now - self.wait_began.load(Ordering::Relaxed));
        let Some(left) = self.timeout.checked_sub(waited).filter(|left| !left.is_zero()) else {
            self.metrics.busy_timeout(self.operation());
            return false;
        };
        self.metrics.busy_retry(self.operation());
        let sleep = if attempt < QUICK_TRIES { QUICK_SLEEP } else { SLEEP };
        // Half to one and a half times: threads that met the lock together come back apart.
        thread::sleep(sleep.mul_f64(0.5 + fastrand::f64()).min(left));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_up_at_the_deadline_and_not_before() {
        let metrics = Arc::new(PoolMetrics::new("busy-deadline"));
        let busy = Busy::new(Duration::from_millis(20), Operation::Read, metrics);
        let began = Instant::now();
        let mut attempt = 0;
        while busy.busy(attempt) {
            attempt += 1;
        }
        assert!(
            began.elapsed() >= Duration::from_millis(20),
            "gave up after {:?}",
            began.elapsed()
        );
        assert!(attempt >= 2, "tried {attempt} times only");
    }

    #[test]
    fn a_timeout_of_zero_gives_up_at_once() {
        let metrics = Arc::new(PoolMetrics::new("busy-zero"));
        let busy = Busy::new(Duration::ZERO, Operation::Read, metrics);
        assert!(!busy.busy(0));
    }
}
