//! Upper bounds for the buckets of histograms.
//!
//! Without bounds the Prometheus exporter renders a summary, which cannot be added up over instances.
//! No bound is an integer, because Prometheus 3 writes those differently from older ones, and a rule
//! that names a bucket would find it under one of them only.

/// Upper bounds for the buckets of every `tenure_*_seconds` histogram: 10 us to 10 s.
///
/// ```
/// use metrics_exporter_prometheus::PrometheusBuilder;
/// use tenure::metrics::DURATION_BUCKETS;
///
/// // For all histograms of an application, its own among them.
/// let recorder = PrometheusBuilder::new().set_buckets(DURATION_BUCKETS)?.build_recorder();
/// # Ok::<(), metrics_exporter_prometheus::BuildError>(())
/// ```
pub const DURATION_BUCKETS: &[f64] = &[
    0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.0025, 0.005, 0.01, 0.025,
    0.05, 0.1, 0.25, 0.5, 0.999, 2.5, 4.999, 9.999,
];

/// Upper bounds for the buckets of `tenure_group_commit_size`: 1 to 1024 closures, each half a closure
/// more, since a bound that is an integer would be written differently by Prometheus 3.
///
/// ```
/// use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
/// use tenure::metrics::SIZE_BUCKETS;
///
/// let size = Matcher::Full("tenure_group_commit_size".to_owned());
/// let recorder = PrometheusBuilder::new().set_buckets_for_metric(size, SIZE_BUCKETS)?.build_recorder();
/// # Ok::<(), metrics_exporter_prometheus::BuildError>(())
/// ```
pub const SIZE_BUCKETS: &[f64] =
    &[1.5, 2.5, 4.5, 8.5, 16.5, 32.5, 64.5, 128.5, 256.5, 512.5, 1024.5];
