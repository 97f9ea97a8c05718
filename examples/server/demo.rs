//! Load that the server puts on itself: clients that speak HTTP to it as others would.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, tick, unbounded};
use serde_json::{Value, json};
use tenure::Pool;
use ureq::Agent;

const CLIENTS: usize = 4;

/// A request without an answer for so long has failed.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the clients have done.
#[derive(Debug, Default)]
struct Tally {
    created: AtomicU64,
    completed: AtomicU64,
    overloaded: AtomicU64,
    failed: AtomicU64,
}

/// Runs clients until `stop` is set or the time is over, and prints a line each second.
pub(crate) fn run(address: &str, pool: &Pool, seconds: Option<u64>, stop: &AtomicBool) {
    let tally = Tally::default();
    let ended = AtomicBool::new(false);
    let (timings, timed) = unbounded();
    thread::scope(|scope| {
        for number in 0..CLIENTS {
            let (tally, ended, timings) = (&tally, &ended, timings.clone());
            let client = move || Client::new(address, number, timings, tally).work(ended);
            let started = thread::Builder::new().name(format!("client-{number}"));
            if let Err(error) = started.spawn_scoped(scope, client) {
                tracing::error!(%error, "a client of the demo could not be started");
            }
        }
        drop(timings);
        report(&timed, &tally, pool, seconds, stop);
        ended.store(true, Ordering::Relaxed);
    });
}

/// Prints what moved in each second.
fn report(
    timed: &Receiver<Duration>,
    tally: &Tally,
    pool: &Pool,
    seconds: Option<u64>,
    stop: &AtomicBool,
) {
    let began = Instant::now();
    let mut total = 0;
    for now in tick(Duration::from_secs(1)) {
        let mut latest: Vec<Duration> = timed.try_iter().collect();
        latest.sort_unstable();
        total += latest.len();
        let percentile = |percent: usize| {
            let at = (latest.len() * percent / 100).min(latest.len().saturating_sub(1));
            latest.get(at).copied().unwrap_or_default()
        };
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let status = pool.status();
        let waiting = status.write.map_or(0, |write| write.waiting.len());
        // A closed standard output is no reason to stop.
        let _ = writeln!(
            io::stdout(),
            "{:4} s  {:6} requests/s  median {:.1?}, 99 of 100 within {:.1?}  tasks: {} created, \
             {} completed  waiting to write: {waiting}  answered 503: {}, failed: {}",
            (now - began).as_secs_f64().round(),
            latest.len(),
            percentile(50),
            percentile(99),
            count(&tally.created),
            count(&tally.completed),
            count(&tally.overloaded),
            count(&tally.failed),
        );
        let over = seconds.is_some_and(|seconds| began.elapsed() >= Duration::from_secs(seconds));
        if over || stop.load(Ordering::Relaxed) {
            break;
        }
    }
    let rate = total as f64 / began.elapsed().as_secs_f64();
    let _ = writeln!(io::stdout(), "demo: {total} requests, {rate:.0} per second");
}

/// One client with a connection of its own.
struct Client<'d> {
    agent: Agent,
    address: &'d str,
    name: String,
    timings: Sender<Duration>,
    tally: &'d Tally,
}

impl<'d> Client<'d> {
    fn new(address: &'d str, number: usize, timings: Sender<Duration>, tally: &'d Tally) -> Self {
        let config = Agent::config_builder().http_status_as_error(false);
        let agent = config.timeout_global(Some(PATIENCE)).build().new_agent();
        Self { agent, address, name: format!("client-{number}"), timings, tally }
    }

    /// A worker's day: create tasks, claim the oldest, keep the claim, complete it, look around.
    fn work(&self, ended: &AtomicBool) {
        let mut latest = None;
        for round in 0_u64.. {
            if ended.load(Ordering::Relaxed) {
                return;
            }
            let depends_on: Vec<i64> = latest.filter(|_| round % 4 == 3).into_iter().collect();
            let title = format!("demo {} of {}", round, self.name);
            let new = json!({ "title": title, "depends_on": depends_on });
            if let Some((201, task)) = self.post("/tasks", &new) {
                latest = task["id"].as_i64();
                self.tally.created.fetch_add(1, Ordering::Relaxed);
            }
            let me = json!({ "worker": self.name });
            if let Some((200, task)) = self.post("/claim", &me) {
                let path = format!("/tasks/{}", task["id"]);
                self.post(&format!("{path}/heartbeat"), &me);
                let completion = json!({ "worker": self.name, "result": "done by the demo" });
                if let Some((200, _)) = self.post(&format!("{path}/complete"), &completion) {
                    self.tally.completed.fetch_add(1, Ordering::Relaxed);
                }
                self.get(&path);
            }
            self.get("/tasks?state=open&limit=5");
        }
    }

    fn get(&self, path: &str) -> Option<(u16, Value)> {
        let url = format!("http://{}{path}", self.address);
        self.timed(|| self.agent.get(url).call())
    }

    fn post(&self, path: &str, body: &Value) -> Option<(u16, Value)> {
        let url = format!("http://{}{path}", self.address);
        self.timed(|| self.agent.post(url).send_json(body))
    }

    /// `None` when there was no answer, or none that helps.
    fn timed(
        &self,
        call: impl FnOnce() -> Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    ) -> Option<(u16, Value)> {
        let asked = Instant::now();
        let answer = call().and_then(|mut response| {
            Ok((response.status().as_u16(), response.body_mut().read_to_string()?))
        });
        let (status, body) = match answer {
            Ok(answer) => answer,
            Err(error) => {
                tracing::debug!(%error, "a request of the demo failed");
                self.tally.failed.fetch_add(1, Ordering::Relaxed);
                return None;
            }
        };
        let _ = self.timings.send(asked.elapsed());
        if status == 503 {
            self.tally.overloaded.fetch_add(1, Ordering::Relaxed);
        }
        Some((status, serde_json::from_str(&body).unwrap_or_default()))
    }
}
