//! What one caller saw, and what a load saw in a window.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::phase::{MEASURED, OVER, Phase, Spent, WARM_UP};
use crate::protocol::Load;

/// A checkout that took less than this did not wait for anybody: it is what checkouts cost.
const WAITED: Duration = Duration::from_micros(10);

/// What one load did in the measured phase of one window.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sample {
    pub seconds: f64,
    /// Of the whole process, hence of all loads of the window.
    pub cpu_seconds: f64,
    /// Operations that began and ended in the measured phase, for each caller.
    pub counts: Vec<u64>,
    /// Operations that succeeded, in all phases.
    pub succeeded: u64,
    /// Operations that failed, in all phases.
    pub failed: u64,
    pub first_failure: Option<String>,
    pub waits: Option<Waits>,
}

/// How long operations took of which any part was in the measured phase, in nanoseconds; failed ones
/// too.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Waits {
    pub p50: u64,
    pub p99: u64,
    pub p999: u64,
    pub max: u64,
    /// The 99th percentile among those that took at least 10 us.
    pub p99_waited: u64,
    /// How many of all took that long, from 0 to 1.
    pub share_waited: f64,
}

impl Sample {
    pub fn operations(&self) -> u64 {
        self.counts.iter().sum()
    }

    pub fn per_second(&self) -> f64 {
        self.operations() as f64 / self.seconds
    }

    /// Jain's index of fairness: 1 when every caller had as many turns, 1/n when one had them all.
    pub fn jain(&self) -> f64 {
        let sum: f64 = self.counts.iter().map(|&count| count as f64).sum();
        let squares: f64 = self.counts.iter().map(|&count| (count as f64).powi(2)).sum();
        if squares == 0.0 { 0.0 } else { sum * sum / (self.counts.len() as f64 * squares) }
    }

    pub(crate) fn of(callers: Vec<Caller>, spent: Spent) -> Self {
        let mut sample = Self {
            seconds: spent.wall.as_secs_f64(),
            cpu_seconds: spent.cpu.as_secs_f64(),
            counts: callers.iter().map(|caller| caller.count).collect(),
            succeeded: callers.iter().map(|caller| caller.succeeded).sum(),
            failed: callers.iter().map(|caller| caller.failed).sum(),
            first_failure: None,
            waits: None,
        };
        let mut timer: Option<Timer> = None;
        for caller in callers {
            sample.first_failure = sample.first_failure.or(caller.first_failure);
            match (&mut timer, caller.timer) {
                (Some(all), Some(one)) => all.add(&one),
                (None, one) => timer = one,
                (Some(_), None) => {}
            }
        }
        sample.waits = timer.map(|timer| timer.waits());
        sample
    }
}

/// What one caller counts for itself, so that callers share nothing but the phase.
#[derive(Debug)]
pub(crate) struct Caller {
    pub(crate) number: u32,
    /// When the next operation was asked for, if that was earlier than its beginning: the first of a
    /// task waits until its runtime runs it, one with a rate until those before it have ended.
    due: Option<Instant>,
    /// As it was when the present operation began.
    phase: u8,
    count: u64,
    succeeded: u64,
    failed: u64,
    first_failure: Option<String>,
    timer: Option<Timer>,
    random: u64,
}

impl Caller {
    pub(crate) fn new(number: u32, load: &Load, phase: &Phase) -> Self {
        Self {
            number,
            due: Some(Instant::now()),
            phase: phase.now(),
            count: 0,
            succeeded: 0,
            failed: 0,
            first_failure: None,
            timer: load.timed.then(Timer::new),
            random: (u64::from(number) + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15),
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.phase == OVER
    }

    /// An operation has ended.
    #[inline]
    pub(crate) fn ended(&mut self, result: anyhow::Result<()>, phase: &Phase) {
        let now = phase.now();
        match result {
            Ok(()) => {
                self.succeeded += 1;
                self.count += u64::from(self.phase == MEASURED && now == MEASURED);
            }
            Err(error) => self.note_failure(&error),
        }
        self.phase = now;
    }

    #[cold]
    fn note_failure(&mut self, error: &anyhow::Error) {
        self.failed += 1;
        self.first_failure.get_or_insert_with(|| format!("{error:#}"));
    }

    /// The next operation is due at that time: returns how long to sleep until then.
    pub(crate) fn due(&mut self, due: Instant) -> Option<Duration> {
        let early = due.checked_duration_since(Instant::now());
        // Not when one has slept: what the timer is late does not count.
        self.due = early.is_none().then_some(due);
        early
    }

    /// After a sleep, in which the phase may have changed.
    pub(crate) fn woke(&mut self, phase: &Phase) {
        self.phase = phase.now();
    }

    /// When the operation that now begins was asked for.
    pub(crate) fn asked(&mut self) -> Instant {
        self.due.take().unwrap_or_else(Instant::now)
    }

    /// Notes what was asked for at `asked` and is there now, if any of that time was measured: who
    /// waits from before the measured phase until after it has waited longest of all.
    #[inline]
    pub(crate) fn took(&mut self, asked: Instant, phase: &Phase) {
        if self.phase != OVER
            && phase.now() != WARM_UP
            && let Some(timer) = &mut self.timer
        {
            timer.record(asked.elapsed());
        }
    }

    /// The number of some row, from 1 to `items`.
    #[inline]
    pub(crate) fn some_item(&mut self, items: i64) -> i64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        1 + ((self.random >> 33) as i64) % items
    }
}

#[derive(Debug)]
struct Timer {
    /// To one part in a hundred: small enough to stay in the processor's cache.
    histogram: Histogram<u64>,
    max: u64,
}

impl Timer {
    fn new() -> Self {
        let histogram = Histogram::new_with_bounds(64, 1 << 40, 2).expect("the bounds are valid");
        Self { histogram, max: 0 }
    }

    fn record(&mut self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.histogram.saturating_record(nanos);
        self.max = self.max.max(nanos);
    }

    fn add(&mut self, other: &Self) {
        self.histogram.add(&other.histogram).expect("all histograms have the same bounds");
        self.max = self.max.max(other.max);
    }

    fn waits(&self) -> Waits {
        let all = self.histogram.len();
        let short = self.histogram.count_between(0, WAITED.as_nanos() as u64 - 1);
        let waited = all.saturating_sub(short);
        // The rank, among all, of the one that 99 of 100 who waited did not outwait.
        let rank = if all == 0 { 0.0 } else { (all as f64 - waited as f64 * 0.01) / all as f64 };
        Waits {
            p50: self.histogram.value_at_quantile(0.5),
            p99: self.histogram.value_at_quantile(0.99),
            p999: self.histogram.value_at_quantile(0.999),
            max: self.max,
            p99_waited: if waited == 0 { 0 } else { self.histogram.value_at_quantile(rank) },
            share_waited: if all == 0 { 0.0 } else { waited as f64 / all as f64 },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(counts: &[u64]) -> Sample {
        Sample {
            seconds: 2.0,
            cpu_seconds: 0.0,
            counts: counts.to_vec(),
            succeeded: 0,
            failed: 0,
            first_failure: None,
            waits: None,
        }
    }

    #[test]
    fn jain_is_1_when_all_have_as_many_and_1_in_n_when_one_has_all() {
        assert_eq!(sample(&[5, 5, 5, 5]).jain(), 1.0);
        assert_eq!(sample(&[0, 20, 0, 0]).jain(), 0.25);
        assert_eq!(sample(&[0, 0]).jain(), 0.0);
    }

    #[test]
    fn throughput_is_of_all_callers() {
        assert_eq!(sample(&[5, 7]).per_second(), 6.0);
    }

    #[test]
    fn percentiles_among_those_that_waited_leave_out_the_others() {
        let mut timer = Timer::new();
        for _ in 0..9_900 {
            timer.record(Duration::from_nanos(100));
        }
        for wait in 1..=100 {
            timer.record(Duration::from_millis(wait));
        }
        let waits = timer.waits();
        assert!(waits.p50 < 1_000);
        assert!(waits.p99 < 1_000_000, "{}", waits.p99);
        assert!((waits.share_waited - 0.01).abs() < 1e-9);
        let p99 = waits.p99_waited as f64 / 1e6;
        assert!((98.0..=101.0).contains(&p99), "{p99} ms");
        assert_eq!(waits.max, 100_000_000);
    }
}
