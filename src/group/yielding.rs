//! Whether to let other threads run, instead of sleeping until one of them wakes this one.
//!
//! To be woken costs a thread, and whoever wakes it, more than to run once more, and all callers of a
//! batch are woken at once: with 64 of them, on two cores, half of the processors' time went into that.
//! So a caller that waits yields a few times before it sleeps, and so does a leader that gathers. To
//! spin instead would need a core that nobody else wants.
//!
//! That is right while those who run are callers too, or nobody does. But a thread that computes keeps
//! the core for its whole slice of time, some milliseconds, whereas one that sleeps and is woken gets
//! the core sooner. So each yield is measured. When long ones are frequent, nobody yields for a hundred
//! times as long as the last one took; then one caller tries, and if that was short, all may again.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::Instant;

/// All the callers of a batch run in less, and a thread that computes for longer. In nanoseconds.
const LONG: u64 = 1_000_000;
/// The longest that a caller yields in all.
const LONGEST_IN_ALL: u64 = 2 * LONG;
/// What is longer was no slice of time: the whole process was stopped.
const LONGEST: u64 = 20 * LONG;

/// Now and then one is long by accident: the host of a virtual machine had taken the core. Two are no
/// accident with less than so many short ones between them,
const FEW: u64 = 64;
/// or less than so many times what the second took.
const NEAR: u64 = 4;
/// For so many times what it took nobody yields then.
const PAUSE: u64 = 100;

/// Times are in nanoseconds since it was made.
pub(super) struct Yielding {
    made: Instant,
    /// When the last long one ended, of those that were not at the same time; 0 = there was none.
    long: AtomicU64,
    /// Short ones since, about.
    short: AtomicU64,
    /// Nobody yields before then; 0 = everybody may.
    again: AtomicU64,
}

impl Yielding {
    pub(super) fn new() -> Self {
        let [long, short, again] = [const { AtomicU64::new(0) }; 3];
        Self { made: Instant::now(), long, short, again }
    }

    /// Yields so often at most, until there is something to see or the moment passes.
    pub(super) fn wait(&self, times: usize, moment: Option<Instant>, seen: impl Fn() -> bool) {
        let moment = moment.map_or(u64::MAX, |moment| nanoseconds(self.made, moment));
        self.wait_by(|| self.now(), thread::yield_now, times, moment, seen);
    }

    fn wait_by(
        &self,
        clock: impl Fn() -> u64,
        others_run: impl Fn(),
        times: usize,
        moment: u64,
        seen: impl Fn() -> bool,
    ) {
        let mut now = clock();
        let until = moment.min(now.saturating_add(LONGEST_IN_ALL));
        for _ in 0..times {
            let again = self.again.load(Relaxed);
            let tries = again > 0;
            if now >= until || seen() || tries && !self.may_try(again, now) {
                return;
            }
            others_run();
            let began = now;
            now = clock();
            self.took(now - began, began, tries);
        }
    }

    /// Yields once, if all do: to try is not for those whom others wait for.
    pub(super) fn once(&self) {
        if self.again.load(Relaxed) == 0 {
            let began = self.now();
            thread::yield_now();
            self.took(self.now() - began, began, false);
        }
    }

    fn now(&self) -> u64 {
        nanoseconds(self.made, Instant::now())
    }

    /// Whether it is this caller that tries.
    fn may_try(&self, again: u64, now: u64) -> bool {
        let after_this = now.saturating_add(PAUSE * LONG);
        now >= again && self.again.compare_exchange(again, after_this, Relaxed, Relaxed).is_ok()
    }

    fn took(&self, time: u64, began: u64, tried: bool) {
        if time < LONG {
            // Exact enough: it is a threshold among thousands.
            self.short.store(self.short.load(Relaxed).saturating_add(1), Relaxed);
            if tried {
                self.again.store(0, Relaxed);
            }
            return;
        }
        let ended = began.saturating_add(time);
        let time = time.min(LONGEST);
        let last = self.long.load(Relaxed);
        let is_another = began >= last;
        // Many callers measure the same one, those on other cores perhaps a little later.
        let short = if is_another {
            self.long.store(ended, Relaxed);
            self.short.swap(0, Relaxed)
        } else {
            u64::MAX
        };
        let is_frequent = last > 0 && is_another && (began - last < NEAR * time || short < FEW);
        if tried || is_frequent {
            self.again.store(ended.saturating_add(PAUSE * time), Relaxed);
        }
    }
}

fn nanoseconds(from: Instant, to: Instant) -> u64 {
    u64::try_from(to.saturating_duration_since(from).as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const SLICE: u64 = 4 * LONG;
    const SHORT: u64 = 1000;

    /// What one that begins then does: it yields, or not.
    fn yields(yielding: &Yielding, began: u64, time: u64) -> bool {
        let again = yielding.again.load(Relaxed);
        let may = again == 0 || yielding.may_try(again, began);
        if may {
            yielding.took(time, began, again > 0);
        }
        may
    }

    fn many_short(yielding: &Yielding, began: u64) {
        (0..10 * FEW).for_each(|_| assert!(yields(yielding, began, SHORT)));
    }

    /// Long ones one after the other; returns the end.
    fn computing_threads(yielding: &Yielding) -> u64 {
        assert!(yields(yielding, SLICE, SLICE));
        many_short(yielding, SLICE * 3);
        assert!(yields(yielding, SLICE * 6 - 1, SLICE));
        SLICE * 7 - 1
    }

    #[test]
    fn beside_threads_that_compute_nobody_yields_for_a_hundred_times_as_long() {
        let yielding = Yielding::new();
        let ended = computing_threads(&yielding);
        assert!(!yields(&yielding, ended, SHORT));
        assert!(!yields(&yielding, ended + SLICE * 100 - 1, SHORT));
        assert!(yields(&yielding, ended + SLICE * 100, SLICE), "one tries");
        let ended = ended + SLICE * 101;
        assert!(!yields(&yielding, ended + SLICE * 100 - 1, SHORT), "and it was long");
        assert!(yields(&yielding, ended + SLICE * 100, SHORT));
        assert!(yields(&yielding, ended + SLICE * 100 + 1, SHORT), "it was short");
    }

    #[test]
    fn so_it_is_on_many_cores_whose_slices_overlap() {
        for cores in [2, 8, 64] {
            let yielding = Yielding::new();
            let mut slices = (0..1000).map(|n| SLICE + n * SLICE / cores);
            let yielded = slices.position(|began| !yields(&yielding, began, SLICE));
            assert!(yielded.is_some_and(|yielded| yielded as u64 <= cores + 1), "{yielded:?}");
        }
    }

    #[test]
    fn and_where_callers_seldom_meet() {
        let yielding = Yielding::new();
        assert!(yields(&yielding, SLICE * 50, SLICE));
        assert!(yields(&yielding, SLICE * 100, SLICE));
        assert!(!yields(&yielding, SLICE * 150, SLICE));
    }

    #[test]
    fn while_one_tries_the_others_do_not_yield() {
        let yielding = Yielding::new();
        let tried = computing_threads(&yielding) + SLICE * 100;
        let again = yielding.again.load(Relaxed);
        assert!(yielding.may_try(again, tried));
        assert!(!yields(&yielding, tried, SHORT));
        assert!(!yields(&yielding, tried + SLICE, SHORT));
    }

    #[test]
    fn one_that_began_before_does_not_end_the_pause() {
        let yielding = Yielding::new();
        let ended = computing_threads(&yielding);
        yielding.took(SHORT, ended, false);
        assert!(!yields(&yielding, ended + SHORT, SHORT));
    }

    #[test]
    fn long_ones_now_and_then_keep_nobody_from_it() {
        let yielding = Yielding::new();
        let mut now = SLICE;
        for _ in 0..10 {
            // All callers measure the same one.
            assert!(yields(&yielding, now, SLICE));
            assert!(yields(&yielding, now + SHORT, SLICE));
            assert!(yields(&yielding, now + SLICE - 1, SLICE));
            many_short(&yielding, now + SLICE * 2);
            now += SLICE * 6;
        }
    }

    #[test]
    fn a_stopped_process_does_not_keep_callers_from_it_for_long() {
        let yielding = Yielding::new();
        let ended = computing_threads(&yielding) + SLICE * 100;
        let hour = 3_600_000_000_000;
        assert!(yields(&yielding, ended, hour));
        assert!(yields(&yielding, ended + hour + LONGEST * PAUSE, SHORT));
    }

    /// How often a caller yields that may nine times, each of which takes so long.
    fn yields_of_nine(time: u64, moment: u64, seen: impl Fn(u64) -> bool) -> u64 {
        let (yielding, now, yields) = (Yielding::new(), Cell::new(SLICE), Cell::new(0));
        let others_run = || {
            now.set(now.get() + time);
            yields.set(yields.get() + 1);
        };
        yielding.wait_by(|| now.get(), others_run, 9, moment, || seen(yields.get()));
        yields.get()
    }

    #[test]
    fn a_caller_yields_no_more_when_it_has_seen_something_or_its_moment_has_passed() {
        assert_eq!(yields_of_nine(SHORT, u64::MAX, |_| false), 9);
        assert_eq!(yields_of_nine(SHORT, u64::MAX, |yields| yields == 3), 3);
        assert_eq!(yields_of_nine(SHORT, SLICE, |_| false), 0);
        assert_eq!(yields_of_nine(SHORT, SLICE + SHORT + 1, |_| false), 2);
        assert_eq!(yields_of_nine(LONG - 1, u64::MAX, |_| false), 3, "2 ms are enough");
    }
}
