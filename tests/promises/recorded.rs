//! A pool whose metrics can be read: it is opened under a recorder of its own, so tests can run side
//! by side.

use std::ops::Deref;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tenure::prometheus::with_buckets;
use tenure::{Builder, Pool, testing};

pub(crate) struct Recorded {
    pub(crate) pool: Pool,
    handle: PrometheusHandle,
}

impl Recorded {
    pub(crate) fn new() -> Self {
        Self::with(Pool::builder())
    }

    pub(crate) fn with(builder: Builder) -> Self {
        Self::opened(|| testing::temporary_with(builder).unwrap())
    }

    pub(crate) fn opened(open: impl FnOnce() -> Pool) -> Self {
        let recorder = with_buckets(PrometheusBuilder::new()).build_recorder();
        let handle = recorder.handle();
        let pool = metrics::with_local_recorder(&recorder, open);
        Self { pool, handle }
    }

    pub(crate) fn rendered_after_the_end(self) -> String {
        drop(self.pool);
        self.handle.render()
    }

    pub(crate) fn rendered(&self) -> String {
        self.pool.publish_metrics();
        self.handle.render()
    }

    /// After all pools of the process have published.
    pub(crate) fn rendered_with_all(&self) -> String {
        tenure::metrics::publish_all();
        self.handle.render()
    }

    /// The value of the one series of this name that has all these labels.
    pub(crate) fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let rendered = self.rendered();
        let has = |line: &str| labels.iter().all(|(k, v)| line.contains(&format!("{k}=\"{v}\"")));
        let series: Vec<_> = rendered
            .lines()
            .filter(|line| line.starts_with(&format!("{name}{{")) && has(line))
            .collect();
        assert_eq!(series.len(), 1, "series {name} {labels:?} in:\n{rendered}");
        series[0].rsplit(' ').next().unwrap().parse().unwrap()
    }

    pub(crate) fn repairs(&self, reason: &str) -> f64 {
        self.value("tenure_checkin_repairs_total", &[("reason", reason)])
    }

    pub(crate) fn transactions(&self, kind: &str, outcome: &str) -> f64 {
        self.value("tenure_transactions_total", &[("kind", kind), ("outcome", outcome)])
    }

    pub(crate) fn checkouts(&self, role: &str, outcome: &str) -> f64 {
        self.value("tenure_checkouts_total", &[("role", role), ("outcome", outcome)])
    }
}

impl Deref for Recorded {
    type Target = Pool;

    fn deref(&self) -> &Pool {
        &self.pool
    }
}
