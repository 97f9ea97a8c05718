//! Named numbers: what a run is judged by.

use serde::Serialize;

use crate::seen::Seen;

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Figure {
    pub(crate) name: String,
    pub(crate) value: f64,
}

impl Figure {
    pub(crate) fn new(name: impl Into<String>, value: f64) -> Self {
        Self { name: name.into(), value }
    }

    /// How many times as much tenure does as `peer`.
    pub(crate) fn throughput(name: String, tenure: &Seen, peer: &Seen) -> Self {
        // A peer may come to a standstill in a short window.
        Self::new(name, tenure.per_second(0) / peer.per_second(0).max(1.0))
    }

    /// How many times as long one waits for `peer`; `None` when one of both was not timed.
    pub(crate) fn wait(name: String, tenure: Option<f64>, peer: Option<f64>) -> Option<Self> {
        Some(Self::new(name, peer? / tenure?))
    }
}
