//! The server's own metrics beside those of the pool, and the exporter for both.

use std::time::Duration;

use anyhow::Context;
use metrics::{Unit, counter, describe_counter, describe_histogram, histogram};
use tenure::metrics::DURATION_BUCKETS;
use tenure::prometheus::metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
use tenure::prometheus::{self, Exporter};

use super::route::{EXPECTED, Method, Route};

const REQUESTS: &str = "board_http_requests_total";
const REQUEST_SECONDS: &str = "board_http_request_seconds";
const TASKS: &str = "board_tasks_total";

/// What can happen to a task.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Event {
    Created,
    Claimed,
    Completed,
    Reclaimed,
}

impl Event {
    const ALL: [Self; 4] = [Self::Created, Self::Claimed, Self::Completed, Self::Reclaimed];

    fn label(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Claimed => "claimed",
            Self::Completed => "completed",
            Self::Reclaimed => "reclaimed",
        }
    }
}

/// Installs the exporter. A pool that is opened earlier would record nothing.
pub(crate) fn install() -> anyhow::Result<Exporter> {
    let builder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Full(REQUEST_SECONDS.to_owned()), DURATION_BUCKETS)
        .context("cannot set the buckets of the server's own histogram")?;
    let exporter = prometheus::install_with(builder).context("cannot install the exporter")?;

    describe_counter!(REQUESTS, Unit::Count, "Requests answered, by route, method and status.");
    describe_histogram!(
        REQUEST_SECONDS,
        Unit::Seconds,
        "From a request's arrival to its answer, the wait for a worker included."
    );
    describe_counter!(TASKS, Unit::Count, "What happened to tasks, counted after COMMIT.");
    // From 0, so that a rate sees the first one too.
    for (route, method, statuses) in EXPECTED {
        for status in *statuses {
            requests(*route, *method, *status).increment(0);
        }
    }
    for event in Event::ALL {
        count(event, 0);
    }
    Ok(exporter)
}

pub(crate) fn request(route: Route, method: Method, status: u16, took: Duration) {
    requests(route, method, status).increment(1);
    histogram!(REQUEST_SECONDS, "route" => route.label()).record(took);
}

pub(crate) fn count(event: Event, times: u64) {
    counter!(TASKS, "event" => event.label()).increment(times);
}

fn requests(route: Route, method: Method, status: u16) -> metrics::Counter {
    counter!(
        REQUESTS,
        "route" => route.label(), "method" => method.label(), "status" => status.to_string()
    )
}
