//! When callers work, and when what they do counts.

use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use crate::protocol::Window;

pub(crate) const WARM_UP: u8 = 0;
pub(crate) const MEASURED: u8 = 1;
pub(crate) const OVER: u8 = 2;

/// What all callers of a window look at between two operations.
#[derive(Debug)]
pub(crate) struct Phase(AtomicU8);

impl Phase {
    pub(crate) fn new() -> Self {
        Self(AtomicU8::new(WARM_UP))
    }

    pub(crate) fn now(&self) -> u8 {
        self.0.load(Ordering::Relaxed)
    }

    /// Sleeps through the window and changes the phase for the callers.
    pub(crate) fn conduct(&self, window: &Window) -> Spent {
        thread::sleep(window.warm_up);
        let (begin, cpu) = (Instant::now(), cpu_time());
        self.0.store(MEASURED, Ordering::Relaxed);
        thread::sleep(window.length);
        self.0.store(OVER, Ordering::Relaxed);
        Spent { wall: begin.elapsed(), cpu: cpu_time().saturating_sub(cpu) }
    }
}

/// What the measured phase took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spent {
    pub(crate) wall: Duration,
    /// Of all threads of the process.
    pub(crate) cpu: Duration,
}

fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Keeps the thread on the processor for `duration`: work that holds a connection.
pub(crate) fn spin(duration: Duration) {
    let begin = Instant::now();
    while begin.elapsed() < duration {
        std::hint::spin_loop();
    }
}
