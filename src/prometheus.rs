//! Metrics for Prometheus: installs the exporter, and renders it.
//!
//! ```
//! // First of all: a pool that is opened earlier would record nothing.
//! let exporter = tenure::prometheus::install()?;
//!
//! let pool = tenure::testing::temporary()?;
//! drop(pool.read()?);
//!
//! // What an HTTP server answers at /metrics, with tenure::prometheus::CONTENT_TYPE.
//! let page = exporter.render();
//! assert!(page.contains("tenure_checkouts_total"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! It is [`metrics_exporter_prometheus`] with three things added that are easily forgotten. The
//! histograms have buckets (without, they would become summaries, which cannot be added up over
//! instances). A thread looks after the exporter each second: it keeps every sample of a histogram, 16
//! bytes each, until somebody scrapes or does that. And [`Exporter::render`] has all open pools publish
//! first, so that a scrape is exact. No HTTP server is part of it, and no async runtime.
//!
//! # With an exporter of the application's
//!
//! This module is not needed for that; any recorder for the `metrics` facade will do. Set the buckets
//! ([`with_buckets`], or [`Metric::buckets`](crate::metrics::Metric::buckets) for another exporter), see
//! to its upkeep, and call [`publish_all`](crate::metrics::publish_all) before it renders. Do not let it
//! drop counters that have been idle (`idle_timeout`): the pools go on to count into what is gone.
//!
//! The exporter's version is part of this module's interface. In a forked child there is no upkeep:
//! whoever opens a pool there calls [`run_upkeep`](PrometheusHandle::run_upkeep) or scrapes.

use std::io;
use std::thread;
use std::time::Duration;

use crossbeam_channel::bounded;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

pub use metrics_exporter_prometheus;

use crate::metrics::{self, METRICS};

/// As often as housekeeping publishes.
const UPKEEP: Duration = Duration::from_secs(1);

/// The value of the header `Content-Type` for what [`Exporter::render`] returns. Prometheus 3 refuses
/// pages without it.
///
/// ```
/// assert_eq!(tenure::prometheus::CONTENT_TYPE, "text/plain; version=0.0.4");
/// ```
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4";

/// Installs an exporter as the recorder of the whole process. To be called before pools are opened.
///
/// # Errors
///
/// [`InstallError`]; nothing has been installed then.
///
/// ```no_run
/// let exporter = tenure::prometheus::install()?;
/// # Ok::<(), tenure::prometheus::InstallError>(())
/// ```
pub fn install() -> Result<Exporter, InstallError> {
    install_with(PrometheusBuilder::new())
}

/// As [`install`], with settings of the application's: buckets of its own histograms, labels for all.
///
/// # Errors
///
/// [`InstallError`]; nothing has been installed then.
///
/// ```no_run
/// use tenure::prometheus::metrics_exporter_prometheus::PrometheusBuilder;
///
/// let builder = PrometheusBuilder::new().add_global_label("service", "orders");
/// let exporter = tenure::prometheus::install_with(builder)?;
/// # Ok::<(), tenure::prometheus::InstallError>(())
/// ```
pub fn install_with(builder: PrometheusBuilder) -> Result<Exporter, InstallError> {
    let recorder = with_buckets(builder).build_recorder();
    let handle = recorder.handle();
    // The thread first: without it nothing is installed.
    let (begin, begun) = bounded(1);
    let looked_after = handle.clone();
    thread::Builder::new()
        .name("tenure-exporter".to_owned())
        .spawn(move || {
            // For as long as the process: a recorder cannot be taken away again.
            if begun.recv().is_ok() {
                loop {
                    thread::sleep(UPKEEP);
                    looked_after.run_upkeep();
                }
            }
        })
        .map_err(|source| InstallError::Thread { source })?;
    metrics::install_before_all(|| ::metrics::set_global_recorder(recorder))
        .map_err(|pools| InstallError::PoolsOpenedBefore { pools })?
        .map_err(|_| InstallError::RecorderExists)?;
    // It waits for that.
    let _ = begin.send(());
    Ok(Exporter { handle })
}

/// Sets the buckets of every histogram of [`METRICS`].
///
/// For a builder of the application's; [`install_with`] does it by itself.
///
/// ```
/// use tenure::prometheus::metrics_exporter_prometheus::PrometheusBuilder;
///
/// let recorder = tenure::prometheus::with_buckets(PrometheusBuilder::new()).build_recorder();
/// let pool = metrics::with_local_recorder(&recorder, tenure::testing::temporary)?;
/// pool.publish_metrics();
/// assert!(recorder.handle().render().contains("tenure_hold_seconds_bucket"));
/// # Ok::<(), tenure::Error>(())
/// ```
pub fn with_buckets(builder: PrometheusBuilder) -> PrometheusBuilder {
    METRICS.iter().fold(builder, |builder, metric| match metric.buckets() {
        None => builder,
        Some(bounds) => builder
            .set_buckets_for_metric(Matcher::Full(metric.name.to_owned()), bounds)
            .expect("only to have no bounds is an error"),
    })
}

/// The exporter that was installed. Cloning is cheap.
///
/// ```no_run
/// let exporter = tenure::prometheus::install()?;
/// println!("{}", exporter.render());
/// # Ok::<(), tenure::prometheus::InstallError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Exporter {
    handle: PrometheusHandle,
}

impl Exporter {
    /// The page for Prometheus: has every open pool publish, and renders what all of the application
    /// has recorded.
    ///
    /// The counts on it are exact for what was finished before the call. No checkout waits for it for
    /// longer than for the copy of a number.
    pub fn render(&self) -> String {
        metrics::publish_all();
        self.handle.render()
    }

    /// The exporter itself.
    pub fn handle(&self) -> &PrometheusHandle {
        &self.handle
    }
}

/// Why the exporter was not installed.
///
/// ```
/// use tenure::prometheus::{InstallError, install};
///
/// let pool = tenure::testing::temporary_with(tenure::Pool::builder().name("early"))?;
/// match install() {
///     Err(InstallError::PoolsOpenedBefore { pools, .. }) => assert_eq!(pools, ["early"]),
///     other => panic!("{other:?}"),
/// }
/// # Ok::<(), tenure::Error>(())
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InstallError {
    /// Pools are open that were opened without a recorder: they would record nothing.
    #[error(
        "pools were opened before the metrics recorder, and would record nothing: {}; install it \
         first, or open them with metrics = false",
        pools.join(", ")
    )]
    #[non_exhaustive]
    PoolsOpenedBefore {
        /// Their names.
        pools: Vec<String>,
    },
    /// There is a recorder already, and it cannot be replaced.
    #[error(
        "the process has a metrics recorder already; use that one: see the documentation of \
         tenure::prometheus for what it needs"
    )]
    RecorderExists,
    /// The thread that looks after the exporter could not be started.
    #[error("the exporter's thread cannot be started: {source}")]
    #[non_exhaustive]
    Thread {
        /// What the system said.
        source: io::Error,
    },
}
