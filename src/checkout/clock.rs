//! Time, precise where somebody waits and coarse where nobody does.
//!
//! A precise reading costs about as much as a whole uncontended checkout, so the start of a hold is
//! noted from a number in memory that a thread keeps up to date. That thread runs for a second at a
//! time and stops: the next reader finds no time, reads the precise clock, and starts it again. A
//! process whose pools are idle is therefore never woken. (The kernel's own coarse clock costs a
//! third of a checkout, and not every system has one.)

use std::mem;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::thread::{self, Thread};
use std::time::Duration;

use crossbeam_utils::atomic::AtomicCell;

use crate::fork;

/// How far the coarse clock is behind, at most, on a machine that runs its threads in time.
const TICK: Duration = Duration::from_millis(10);

/// How many ticks there are before the thread looks whether anybody still reads the clock.
const TICKS: u32 = 100;

/// 0 = nobody keeps it up to date.
static COARSE: AtomicU64 = AtomicU64::new(0);

/// Taken out by whoever wakes it.
static TICKER: AtomicCell<Option<Thread>> = AtomicCell::new(None);

/// For which process the clock was set up, by the number of its forks.
static SET_UP_FOR: AtomicU32 = AtomicU32::new(0);

/// A forked child does not have its parent's thread. To be called before anything is timed there.
pub(super) fn start_over_in_child() {
    let here = fork::depth();
    if SET_UP_FOR.swap(here, Ordering::Relaxed) != here {
        mem::forget(TICKER.take());
        COARSE.store(0, Ordering::Relaxed);
    }
}

/// The processor's own counter where there is one to rely on: a third of the cost of the system's
/// clock, which is read twice for each hold while somebody waits, or when a hold is timed.
static COUNTER: LazyLock<(quanta::Clock, u64)> = LazyLock::new(|| {
    let clock = quanta::Clock::new();
    let start = clock.raw();
    (clock, start)
});

/// Nanoseconds since some moment in the life of this process; never 0.
#[inline(never)]
pub(super) fn now() -> u64 {
    let (clock, start) = &*COUNTER;
    clock.delta_as_nanos(*start, clock.raw()) + 1
}

/// A moment that only [`nanoseconds_since`] can read.
#[derive(Clone, Copy)]
pub(super) struct Moment(u64);

#[inline]
pub(super) fn moment() -> Moment {
    Moment(COUNTER.0.raw())
}

#[inline]
pub(super) fn nanoseconds_since(moment: Moment) -> u64 {
    let (clock, _) = &*COUNTER;
    clock.delta_as_nanos(moment.0, clock.raw())
}

/// As [`now`], but up to a [`TICK`] or so late; about the cost of reading a variable.
#[inline]
pub(super) fn coarse() -> u64 {
    match COARSE.load(Ordering::Relaxed) {
        0 => restart(),
        now => now,
    }
}

#[cold]
fn restart() -> u64 {
    let now = now();
    // Whoever stores also wakes: the number never stays as it is.
    if COARSE.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
        match TICKER.take().or_else(start) {
            Some(ticker) => {
                ticker.unpark();
                TICKER.store(Some(ticker));
            }
            None => COARSE.store(0, Ordering::Relaxed),
        }
    }
    now
}

fn start() -> Option<Thread> {
    let ticker = thread::Builder::new().name("tenure-clock".to_owned()).spawn(tick);
    ticker.ok().map(|handle| handle.thread().clone())
}

fn tick() {
    loop {
        for _ in 0..TICKS {
            thread::sleep(TICK);
            COARSE.store(now(), Ordering::Relaxed);
        }
        COARSE.store(0, Ordering::Relaxed);
        thread::park();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn the_coarse_clock_follows_the_precise_one_and_never_runs_ahead() {
        let began = Instant::now();
        // Longer than it runs by itself.
        while began.elapsed() < TICK * (TICKS + 20) {
            let coarse = coarse();
            let now = now();
            assert!(coarse <= now);
            // Generous: the machine may be busy.
            assert!(now - coarse < 1_000_000_000, "{} behind", now - coarse);
            thread::yield_now();
        }
    }
}
