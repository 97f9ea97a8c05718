//! A page of metrics, read.

use tenure::prometheus::Exporter;

pub(crate) struct Page(String);

impl Page {
    pub(crate) fn of(exporter: &Exporter) -> Self {
        Self(exporter.render())
    }

    /// The sum of the series of this name that have all these labels. At least one has to be there.
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let has = |line: &str| labels.iter().all(|(k, v)| line.contains(&format!("{k}=\"{v}\"")));
        let start = format!("{name}{{");
        let mut series =
            self.0.lines().filter(|line| line.starts_with(&start) && has(line)).peekable();
        assert!(series.peek().is_some(), "{name} {labels:?} in:\n{}", self.0);
        series.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
    }

    pub(crate) fn count(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        let sum = self.sum(name, labels);
        assert_eq!(sum.fract(), 0.0, "{name} counts");
        sum as u64
    }
}
