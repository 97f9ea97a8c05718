//! A client with a connection of its own, and what it is answered.

use std::collections::HashMap;

use serde_json::Value;
use ureq::Agent;

use crate::process::PATIENCE;

pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: ureq::http::HeaderMap,
    pub(crate) text: String,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text)
            .unwrap_or_else(|error| panic!("{error} in {:?}", self.text))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// A client with a connection of its own, kept open.
pub(crate) struct Client {
    pub(crate) agent: Agent,
    pub(crate) address: String,
}

impl Client {
    pub(crate) fn new(address: &str) -> Self {
        let config = Agent::config_builder().http_status_as_error(false);
        let agent = config.timeout_global(Some(PATIENCE)).build().new_agent();
        Self { agent, address: address.to_owned() }
    }

    pub(crate) fn try_ask(
        &self,
        method: &str,
        path: &str,
        body: &str,
    ) -> Result<Reply, ureq::Error> {
        let request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.address));
        let mut response = if method == "POST" {
            self.agent.run(request.body(body.to_owned()).expect("a request"))?
        } else {
            self.agent.run(request.body(()).expect("a request"))?
        };
        let text = response.body_mut().read_to_string()?;
        let headers = response.headers().clone();
        Ok(Reply { status: response.status().as_u16(), headers, text })
    }

    pub(crate) fn ask(&self, method: &str, path: &str, body: &str) -> Reply {
        let reply = self.try_ask(method, path, body);
        reply.unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    /// Every sample of `/metrics`, by its name with labels.
    pub(crate) fn metrics(&self) -> HashMap<String, f64> {
        let reply = self.ask("GET", "/metrics", "");
        assert_eq!(reply.header("content-type"), Some("text/plain; version=0.0.4"));
        let samples = reply.text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        samples
            .map(|line| {
                let (name, value) = line.rsplit_once(' ').expect("a sample");
                (name.to_owned(), value.parse().expect("a number"))
            })
            .collect()
    }
}

/// The sum of the samples of one metric whose labels include all of `labels`.
pub(crate) fn sum(metrics: &HashMap<String, f64>, name: &str, labels: &[&str]) -> u64 {
    let of_name = |key: &&String| key.split('{').next() == Some(name);
    let chosen = metrics.keys().filter(of_name);
    let chosen = chosen.filter(|key| labels.iter().all(|label| key.contains(label)));
    chosen.map(|key| metrics[key] as u64).sum()
}
