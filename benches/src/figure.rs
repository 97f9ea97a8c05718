//! Named numbers: what a run is judged by.

use serde::Serialize;

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Figure {
    pub(crate) name: String,
    pub(crate) value: f64,
}

impl Figure {
    pub(crate) fn new(name: impl Into<String>, value: f64) -> Self {
        Self { name: name.into(), value }
    }

    /// How many times as much tenure does as `peer`; `None` when the peer came to a standstill.
    pub(crate) fn throughput(name: String, tenure: f64, peer: f64) -> Option<Self> {
        (peer > 0.0).then(|| Self::new(name, tenure / peer))
    }

    /// How many times as long one waits for `peer`; `None` when one of both was not timed.
    pub(crate) fn wait(name: String, tenure: Option<f64>, peer: Option<f64>) -> Option<Self> {
        Some(Self::new(name, peer? / tenure?))
    }
}
