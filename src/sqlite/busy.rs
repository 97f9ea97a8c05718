//! What to do while another connection holds a lock, and when a statement has run long enough.
//!
//! Inside one pool writers take turns, so SQLite's lock is met only when somebody outside the pool
//! holds it: another process, or a connection that the pool did not open. SQLite's own handler sleeps
//! up to 100 ms at a time, which lets newcomers win over those who have waited; this one sleeps for
//! short, irregular times until a deadline, looks whether it was interrupted meanwhile (which SQLite
//! does not while it waits), and counts each try under the operation that met the lock. SQLite does
//! not call any handler when a read transaction tries to write: it answers BUSY at once. That is why
//! transactions begin IMMEDIATE, and why such refusals are counted apart.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::wal::Wal;
use crate::ffi::{Run, Watch};
use crate::metrics::{Operation, PoolMetrics};

/// The first tries come quickly: most locks are held for less than a millisecond.
const QUICK_TRIES: u32 = 10;
const QUICK_SLEEP: Duration = Duration::from_micros(100);
const SLEEP: Duration = Duration::from_millis(1);

/// How many instructions pass between two looks at the clock: some ten microseconds.
const INSTRUCTIONS: i32 = 1000;

/// What the two handlers are told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) busy: Duration,
    /// `None` = statements may run for as long as they like.
    pub(super) statement: Option<Duration>,
}

/// One connection's handlers.
///
/// Only the thread that uses the connection touches it; the fields are atomics and locks because
/// SQLite holds a shared pointer to it. No lock is ever contended.
pub(crate) struct Busy {
    limits: Limits,
    role: super::Role,
    metrics: Arc<PoolMetrics>,
    operation: AtomicU8,
    /// Times the handler was called.
    calls: AtomicU32,
    /// What the handlers have put an end to since somebody asked last: a [`Stopped`], or 0.
    latest_stop: AtomicU8,
    /// It gave up because it was interrupted, in this operation.
    interrupted: AtomicBool,
    /// A statement was stopped because its time was over, in this operation.
    stopped: AtomicBool,
    /// Not to wait for anything, and not to count that.
    without_waiting: AtomicBool,
    /// There is something in `wait`.
    waited: AtomicBool,
    wait: Mutex<Option<Wait>>,
    running: Mutex<Vec<(Run, Instant)>>,
    /// Told of commits; `None` = SQLite checkpoints by itself.
    wal: Option<Arc<Wal>>,
}

/// What the handlers have put an end to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stopped {
    /// A wait for a lock, whose time was over.
    Wait = 1,
    /// A statement, whose time was over.
    Statement = 2,
    /// A wait for a lock, by an interrupt.
    Interrupted = 3,
}

/// The latest wait for a lock. SQLite does not say when it is over.
struct Wait {
    operation: Operation,
    /// Without the work that may lie between two waits of one statement: SQLite counts its calls
    /// of the handler by statement.
    slept: Duration,
}

impl Busy {
    /// Raw statements count under their role.
    pub(super) fn new(
        limits: Limits,
        role: super::Role,
        metrics: Arc<PoolMetrics>,
        wal: Option<Arc<Wal>>,
    ) -> Self {
        let usual = match role {
            super::Role::Read => Operation::Read,
            super::Role::Write => Operation::Write,
            super::Role::Checkpoint => Operation::Checkpoint,
        };
        Self {
            limits,
            role,
            metrics,
            operation: AtomicU8::new(usual as u8),
            calls: AtomicU32::new(0),
            latest_stop: AtomicU8::new(0),
            interrupted: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            without_waiting: AtomicBool::new(false),
            waited: AtomicBool::new(false),
            wait: Mutex::new(None),
            running: Mutex::new(Vec::new()),
            wal,
        }
    }

    /// The longest wait for a lock of what the pool runs by itself: BEGIN, COMMIT, a copy.
    pub(super) fn limit(&self) -> Duration {
        self.limits.busy
    }

    /// The longest wait for a lock of what runs now. A wait comes at the start of a statement, so that
    /// one's own limit is met as well.
    pub(super) fn timeout(&self) -> Duration {
        match (self.operation(), self.limits.statement) {
            (Operation::Read | Operation::Write, Some(limit)) => limit.min(self.limits.busy),
            _ => self.limits.busy,
        }
    }

    /// Does something that must not wait for locks; what it meets is not counted.
    pub(super) fn without_waiting<T>(&self, work: impl FnOnce() -> T) -> T {
        self.without_waiting.store(true, Relaxed);
        let result = work();
        self.without_waiting.store(false, Relaxed);
        result
    }

    /// No statement is running that has been seen.
    pub(super) fn forget_runs(&self) {
        if self.limits.statement.is_some() {
            self.running.lock().clear();
        }
    }

    /// As [`forget_runs`](Self::forget_runs), if that is so: a statement prepared next may have the
    /// address of one that is gone, and must not be taken for it.
    pub(super) fn forget_runs_unless(&self, busy: impl FnOnce() -> bool) {
        if self.limits.statement.is_some() && !self.running.lock().is_empty() && !busy() {
            self.forget_runs();
        }
    }

    /// Counts what happens while `work` runs under `operation`.
    pub(super) fn during<T>(&self, operation: Operation, work: impl FnOnce() -> T) -> T {
        self.settle();
        let usual = self.operation.swap(operation as u8, Relaxed);
        self.interrupted.store(false, Relaxed);
        self.stopped.store(false, Relaxed);
        let result = work();
        self.settle();
        self.operation.store(usual, Relaxed);
        result
    }

    /// Writes down how long the latest wait was, which is over.
    pub(super) fn settle(&self) {
        if self.waited.load(Relaxed) {
            self.waited.store(false, Relaxed);
            if let Some(wait) = self.wait.lock().take() {
                self.metrics.busy_wait(wait.operation, wait.slept);
            }
        }
    }

    /// How often the handler has been called.
    pub(super) fn calls(&self) -> u32 {
        self.calls.load(Relaxed)
    }

    /// What the handlers have put an end to since this was asked last: the latest.
    pub(super) fn take_stopped(&self) -> Option<Stopped> {
        // A load is cheaper than a swap, and nearly always enough.
        if self.latest_stop.load(Relaxed) == 0 {
            return None;
        }
        let stopped = self.latest_stop.swap(0, Relaxed);
        [Stopped::Wait, Stopped::Statement, Stopped::Interrupted]
            .into_iter()
            .find(|other| *other as u8 == stopped)
    }

    /// The longest that a statement may run.
    pub(super) fn statement_limit(&self) -> Duration {
        self.limits.statement.unwrap_or(Duration::MAX)
    }

    /// Whether the latest wait ended by an interrupt.
    pub(super) fn was_interrupted(&self) -> bool {
        self.interrupted.load(Relaxed)
    }

    /// Whether the latest operation was stopped because its time was over.
    pub(super) fn was_stopped(&self) -> bool {
        self.stopped.load(Relaxed)
    }

    /// BUSY came without the handler being asked.
    pub(super) fn refused(&self) {
        self.metrics.busy_refusal(self.operation());
    }

    pub(super) fn operation(&self) -> Operation {
        const ALL: [Operation; 5] = [
            Operation::Begin,
            Operation::Read,
            Operation::Write,
            Operation::Commit,
            Operation::Checkpoint,
        ];
        let stored = self.operation.load(Relaxed);
        ALL.into_iter().find(|operation| *operation as u8 == stored).unwrap_or(Operation::Read)
    }

    /// SQLite asks whether to go on.
    fn stop(&self, what: Stopped) -> bool {
        self.latest_stop.store(what as u8, Relaxed);
        false
    }
}

impl Watch for Busy {
    fn busy(&self, attempt: u32, interrupted: bool) -> bool {
        if self.without_waiting.load(Relaxed) {
            return false;
        }
        self.calls.fetch_add(1, Relaxed);
        if attempt == 0 {
            self.settle();
            self.interrupted.store(false, Relaxed);
        }
        let operation = self.operation();
        let mut wait = self.wait.lock();
        let wait = wait.get_or_insert(Wait { operation, slept: Duration::ZERO });
        self.waited.store(true, Relaxed);
        if interrupted {
            self.interrupted.store(true, Relaxed);
            return self.stop(Stopped::Interrupted);
        }
        let left = self.timeout().saturating_sub(wait.slept);
        if left.is_zero() {
            if self.timeout() < self.limits.busy {
                self.metrics.statement_timeout(self.role as usize);
                return self.stop(Stopped::Statement);
            }
            self.metrics.busy_timeout(operation);
            return self.stop(Stopped::Wait);
        }
        self.metrics.busy_retry(operation);
        tracing::trace!(pool = self.metrics.name(), operation = operation.name(), "busy");
        let sleep = if attempt < QUICK_TRIES { QUICK_SLEEP } else { SLEEP };
        // Half to one and a half times: threads that met the lock together come back apart.
        let began = Instant::now();
        thread::sleep(sleep.mul_f64(0.5 + fastrand::f64()).min(left));
        wait.slept += began.elapsed();
        true
    }

    fn go_on(&self, running: &mut dyn Iterator<Item = Run>) -> bool {
        let Some(limit) = self.limits.statement else {
            return true;
        };
        if matches!(self.operation(), Operation::Begin | Operation::Commit) {
            return true;
        }
        let now = Instant::now();
        let mut known = self.running.lock();
        // Seldom more than one or two.
        let seen: Vec<_> = running
            .map(|run| {
                let since = known.iter().find(|(other, _)| *other == run);
                (run, since.map_or(now, |(_, since)| *since))
            })
            .collect();
        let over = seen.iter().any(|(_, since)| now - *since >= limit);
        *known = seen;
        if over {
            self.stopped.store(true, Relaxed);
            self.metrics.statement_timeout(self.role as usize);
            return self.stop(Stopped::Statement);
        }
        true
    }

    fn committed(&self, frames: u32, reads: impl FnOnce() -> bool) {
        if let Some(wal) = &self.wal {
            wal.committed(frames, reads);
        }
    }

    fn wants_commits(&self) -> bool {
        self.wal.is_some()
    }

    fn instructions(&self) -> Option<i32> {
        self.limits.statement.map(|_| INSTRUCTIONS)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Role;
    use super::*;

    fn busy(timeout: Duration) -> Busy {
        let metrics = Arc::new(PoolMetrics::new("busy"));
        Busy::new(Limits { busy: timeout, statement: None }, Role::Read, metrics, None)
    }

    #[test]
    fn gives_up_at_the_deadline_and_not_before() {
        let busy = busy(Duration::from_millis(20));
        let began = Instant::now();
        let mut attempt = 0;
        while busy.busy(attempt, false) {
            attempt += 1;
        }
        assert!(
            began.elapsed() >= Duration::from_millis(20),
            "gave up after {:?}",
            began.elapsed()
        );
        assert!(attempt >= 2, "tried {attempt} times only");
        assert_eq!(busy.take_stopped(), Some(Stopped::Wait));
        assert_eq!(busy.take_stopped(), None);
    }

    #[test]
    fn a_timeout_of_zero_gives_up_at_once() {
        assert!(!busy(Duration::ZERO).busy(0, false));
    }

    #[test]
    fn an_interrupt_ends_a_wait() {
        let busy = busy(Duration::from_secs(3600));
        assert!(busy.busy(0, false));
        assert!(!busy.busy(1, true));
        assert!(busy.was_interrupted());
    }

    #[test]
    fn what_ended_one_operation_is_not_told_of_the_next() {
        let busy = busy(Duration::from_secs(3600));
        busy.during(Operation::Begin, || assert!(!busy.busy(0, true)));
        assert!(busy.was_interrupted());
        busy.during(Operation::Commit, || assert!(!busy.was_interrupted()));
    }
}
