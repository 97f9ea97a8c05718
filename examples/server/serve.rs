//! Threads: one takes requests in, many answer them, one refuses what is too much.
//!
//! Between the accepting thread and the workers is a queue of bounded length. When it is full, a
//! request is answered 503 at once: waiting longer than clients do would only answer to nobody.

use std::io;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use tiny_http::{Request, Server};

use super::answer::Answer;
use super::http::{self, App};
use super::metrics;
use super::nudge::{self, Newcomers};

/// How often the accepting thread looks whether it should stop.
const LOOK_UP: Duration = Duration::from_millis(50);

/// For how long requests that had arrived before the stop are still taken on.
const LAST_CALL: Duration = Duration::from_secs(1);

/// The largest `Content-Length`, in bytes, that is looked at further. `tiny_http` allocates as much
/// as is missing when a client goes away in the middle, which must not end the process.
const MAX_DECLARED: usize = 1 << 30;

/// A request on its way to a worker.
#[derive(Debug)]
pub(crate) struct Job {
    request: Request,
    arrived: Instant,
}

/// Serves until it has `ended` and everything that had arrived is answered; returns how many
/// requests that were.
pub(crate) fn serve(
    server: &Server,
    app: &App,
    jobs: Sender<Job>,
    ended: impl Fn() -> bool,
) -> io::Result<u64> {
    let answered = AtomicU64::new(0);
    let result = thread::scope(|scope| {
        let mut workers = Vec::new();
        for number in 0..app.workers {
            let work = || work(app, &app.queue, &answered);
            workers.push(start(scope, format!("worker-{number}"), work)?);
        }
        let (refused, refusals) = bounded(1024);
        start(scope, "refuser".to_owned(), || refuse_all(refusals, &answered))?;

        let (newcomers, nudger) = nudge::nudges(server);
        start(scope, "nudger".to_owned(), || nudger.run())?;

        let accepted = accept(server, &jobs, &refused, newcomers, ended);
        // The workers end when they have answered what is queued.
        drop(jobs);
        // Meanwhile clients with open connections are told, rather than left without an answer.
        let refuse = |request| {
            if let Some(job) = Job::new(request) {
                let _ = refused.send(job);
            }
        };
        while !workers.iter().all(ScopedJoinHandle::is_finished) {
            if let Ok(Some(request)) = server.recv_timeout(Duration::from_millis(1)) {
                refuse(request);
            }
        }
        while let Ok(Some(request)) = server.try_recv() {
            refuse(request);
        }
        drop(refused);
        accepted
    });
    result.map(|()| answered.into_inner())
}

fn start<'scope, 'env>(
    scope: &'scope Scope<'scope, 'env>,
    name: String,
    work: impl FnOnce() + Send + 'scope,
) -> io::Result<ScopedJoinHandle<'scope, ()>> {
    thread::Builder::new().name(name).spawn_scoped(scope, work)
}

/// Hands requests to the workers until it has `ended`. It reads and writes no connection itself:
/// that may have to wait for the client.
fn accept(
    server: &Server,
    jobs: &Sender<Job>,
    refused: &Sender<Job>,
    mut newcomers: Newcomers,
    ended: impl Fn() -> bool,
) -> io::Result<()> {
    let mut hand_over = |request: Request| {
        newcomers.look_at(&request);
        let Some(job) = Job::new(request) else { return };
        if let Err(full) = jobs.try_send(job) {
            let _ = refused.send(full.into_inner());
        }
    };
    while !ended() {
        if let Some(request) = server.recv_timeout(LOOK_UP)? {
            hand_over(request);
        }
    }
    tracing::info!("stopping: answering the requests that have arrived");
    let stopped = Instant::now();
    while stopped.elapsed() < LAST_CALL
        && let Some(request) = server.try_recv()?
    {
        hand_over(request);
    }
    Ok(())
}

fn work(app: &App, jobs: &Receiver<Job>, answered: &AtomicU64) {
    for mut job in jobs {
        let answering = AssertUnwindSafe(|| http::answer(app, &mut job.request));
        // One request that panics must not cost the server a worker. The pool has rolled back and
        // taken the connection back by the time the panic arrives here.
        let answer = catch_unwind(answering).unwrap_or_else(|_| {
            tracing::error!(url = job.request.url(), "answering a request panicked");
            Answer::internal()
        });
        job.finish(answer, answered);
    }
}

/// A thread of its own, because sending can wait for the client, and for earlier answers to it.
fn refuse_all(refusals: Receiver<Job>, answered: &AtomicU64) {
    for mut job in refusals {
        let answer = match http::read_body(&mut job.request) {
            Ok(_) => Answer::overload("too many requests are waiting"),
            Err(refused) => refused,
        };
        job.finish(answer, answered);
    }
}

impl Job {
    /// `None` for a request that must not be touched.
    fn new(request: Request) -> Option<Self> {
        if request.body_length().is_some_and(|length| length > MAX_DECLARED) {
            tracing::warn!(url = request.url(), "a request with an absurd Content-Length was left");
            // Dropping it would read the body.
            mem::forget(request);
            return None;
        }
        Some(Self { request, arrived: Instant::now() })
    }

    /// Counts first and sends then: whoever has the answer finds it counted.
    fn finish(self, answer: Answer, answered: &AtomicU64) {
        let (route, method) = http::classify(&self.request);
        let (status, took) = (answer.status, self.arrived.elapsed());
        metrics::request(route, method, status, took);
        answered.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(%method, url = self.request.url(), status, ?took, "answered");
        answer.send(self.request);
    }
}
