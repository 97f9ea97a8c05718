//! What was measured in a cell, and medians of it.

use harness::protocol::{Load, Operation};
use harness::sample::{Sample, Waits};

use crate::variant::Variant;

#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) name: String,
    pub(crate) seen: Vec<Seen>,
}

impl Measured {
    pub(crate) fn tenure(&self) -> impl Iterator<Item = &Seen> {
        self.seen.iter().filter(|seen| seen.variant.is_tenure)
    }

    pub(crate) fn peers(&self) -> impl Iterator<Item = &Seen> {
        self.seen.iter().filter(|seen| !seen.variant.is_tenure)
    }
}

/// What one entry of a cell did.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) label: String,
    pub(crate) variant: Variant,
    pub(crate) loads: Vec<Load>,
    /// For each repetition, a sample for each load.
    pub(crate) repetitions: Vec<Vec<Sample>>,
}

impl Seen {
    /// The median over the repetitions of something about the load numbered `load`.
    pub(crate) fn median(&self, load: usize, of: impl Fn(&Sample) -> f64) -> f64 {
        median(self.repetitions.iter().map(|samples| of(&samples[load])).collect())
    }

    pub(crate) fn per_second(&self, load: usize) -> f64 {
        self.median(load, Sample::per_second)
    }

    /// Elapsed time divided by operations of all callers together.
    pub(crate) fn nanos_each(&self, load: usize) -> f64 {
        1e9 / self.per_second(load)
    }

    /// Time on the processor for each operation, in nanoseconds.
    pub(crate) fn cpu_nanos_each(&self, load: usize) -> f64 {
        self.median(load, |sample| 1e9 * sample.cpu_seconds / sample.operations().max(1) as f64)
    }

    pub(crate) fn jain(&self, load: usize) -> f64 {
        self.median(load, Sample::jain)
    }

    /// In nanoseconds; `None` when the load was not timed.
    pub(crate) fn wait(&self, load: usize, of: impl Fn(&Waits) -> u64) -> Option<f64> {
        let timed = self.repetitions.iter().all(|samples| samples[load].waits.is_some());
        timed.then(|| self.median(load, |sample| sample.waits.as_ref().map_or(0, &of) as f64))
    }

    pub(crate) fn failed(&self, load: usize) -> u64 {
        self.repetitions.iter().map(|samples| samples[load].failed).sum()
    }

    pub(crate) fn first_failure(&self) -> Option<&str> {
        self.repetitions.iter().flatten().find_map(|sample| sample.first_failure.as_deref())
    }

    /// What the table calls a load.
    pub(crate) fn describe(&self, load: usize) -> String {
        match self.loads[load].operation {
            Operation::Write if self.loads.len() > 1 => format!("{} (writers)", self.label),
            _ => self.label.clone(),
        }
    }
}

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        len if len % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn the_median_does_not_mind_the_order() {
        assert_eq!(median(vec![9.0, 1.0, 5.0]), 5.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 100.0]), 3.0);
        assert!(median(vec![]).is_nan());
    }
}
