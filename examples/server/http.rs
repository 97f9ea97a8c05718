//! The HTTP interface: what a request asks for, parsed, and the answer to it.
//!
//! A request that cannot be understood is refused with what is wrong and what would be right; a
//! request that the board refuses gets the board's reason. Errors of the pool that pass by
//! themselves become 503, all others 500 with the cause in the log only.

use std::io::{self, Read};
use std::time::{Duration, Instant};

use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::json;
use tenure::prometheus::Exporter;
use tenure::{Error, Pool};
use tiny_http::Request;

use super::answer::Answer;
use super::board::{self, Filter, Refusal};
use super::page;
use super::route::{Method, Route};
use super::task::{Claim, Completion, NewTask, Nothing, State};

/// The largest body that is accepted, in bytes.
const MAX_BODY: usize = 64 * 1024;

/// How long a health check waits for a connection; those who ask do not wait much longer.
const HEALTH_PATIENCE: Duration = Duration::from_secs(1);

/// What the answers are made from.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) pool: Pool,
    pub(crate) exporter: Exporter,
    pub(crate) address: String,
    pub(crate) started: Instant,
    pub(crate) workers: usize,
    /// Requests that wait for a worker.
    pub(crate) queue: crossbeam_channel::Receiver<super::serve::Job>,
}

/// A request, as far as the answers need it.
#[derive(Debug)]
struct Asked<'r> {
    route: Route,
    method: Method,
    /// The method in the client's word.
    verb: &'r str,
    id: &'r str,
    query: &'r str,
    accepts_json: bool,
    body: &'r [u8],
}

/// The answer to a request, which `Err` means as well: `?` ends a handler early.
type Answered = Result<Answer, Answer>;

/// What a request is about, without its body.
pub(crate) fn classify(request: &Request) -> (Route, Method) {
    let path = request.url().split('?').next().unwrap_or_default();
    (Route::of(path).0, Method::of(request.method()))
}

pub(crate) fn answer(app: &App, request: &mut Request) -> Answer {
    let body = read_body(request);
    let (path, query) = request.url().split_once('?').unwrap_or((request.url(), ""));
    let (route, id) = Route::of(path);
    let verb = request.method().as_str();
    let method = Method::of(request.method());
    let accept = request.headers().iter().find(|header| header.field.equiv("Accept"));
    let accepts_json =
        accept.is_some_and(|header| header.value.as_str().contains("application/json"));
    let answered = body.and_then(|body| {
        dispatch(app, &Asked { route, method, verb, id, query, accepts_json, body: &body })
    });
    answered.unwrap_or_else(|refused| refused)
}

fn would_upgrade(request: &Request) -> bool {
    let connection = request.headers().iter().find(|header| header.field.equiv("Connection"));
    connection.is_some_and(|header| header.value.as_str().to_ascii_lowercase().contains("upgrade"))
}

/// Reads a body to its end, whatever the answer will be, but keeps no more than is allowed.
///
/// The rest has to be read, because the next request on the connection begins after it. That a
/// client can send it slowly, and occupy a worker, is for a proxy in front to prevent.
pub(crate) fn read_body(request: &mut Request) -> Result<Vec<u8>, Answer> {
    let declared = request.body_length();
    if would_upgrade(request) {
        // tiny_http takes all that follows on the connection for its body, which has no end.
        let hint = "send what has a body without `Connection: Upgrade`";
        let refused = Answer::error(400, "there is no other protocol here", hint);
        return if declared.unwrap_or(0) == 0 { Ok(Vec::new()) } else { Err(refused) };
    }
    let reader = request.as_reader();
    let mut body = Vec::new();
    let kept = reader.take(MAX_BODY as u64 + 1).read_to_end(&mut body);
    let dropped = kept.and_then(|_| io::copy(reader, &mut io::sink()));
    let incomplete =
        || Answer::error(400, "the body ended early", "send as much as Content-Length says");
    let received = body.len() as u64 + dropped.map_err(|_| incomplete())?;
    if declared.is_some_and(|declared| received < declared as u64) {
        return Err(incomplete());
    }
    if body.len() > MAX_BODY {
        let error = format!("the body is larger than {MAX_BODY} bytes");
        return Err(Answer::error(413, error, "send less in one request"));
    }
    Ok(body)
}

fn dispatch(app: &App, asked: &Asked<'_>) -> Answered {
    if asked.route == Route::Other {
        let hint = format!("http://{}/ lists what there is", app.address);
        return Err(Answer::error(404, "there is nothing at this path", hint));
    }
    if !asked.route.takes(asked.method) {
        let allowed = asked.route.allowed();
        let error = format!("this path does not take {}", asked.verb);
        let refused = Answer::error(405, error, format!("use {allowed}"));
        return Err(refused.with("Allow", allowed));
    }
    let pool = &app.pool;
    match asked.route {
        Route::Board => {
            let overview = board::overview(pool).map_err(failed)?;
            Ok(Answer::html(page::render(&overview, &app.address)))
        }
        Route::Tasks if asked.method == Method::Post => {
            let new: NewTask = asked.json(r#"{"title": "Water the plants", "depends_on": [1]}"#)?;
            let task = board::create(pool, &new).map_err(failed)?;
            Ok(Answer::json(201, &task).with("Location", format!("/tasks/{}", task.id)))
        }
        Route::Tasks => {
            let filter = asked.filter()?;
            Ok(Answer::json(200, &board::list(pool, &filter).map_err(failed)?))
        }
        Route::Task => Ok(Answer::json(200, &board::task(pool, asked.id()?).map_err(failed)?)),
        Route::ClaimTask => {
            let (id, claim): (_, Claim) = (asked.id()?, asked.json(Claim::EXAMPLE)?);
            Ok(Answer::json(200, &board::claim(pool, id, &claim).map_err(failed)?))
        }
        Route::Heartbeat => {
            let (id, claim): (_, Claim) = (asked.id()?, asked.json(Claim::EXAMPLE)?);
            Ok(Answer::json(200, &board::heartbeat(pool, id, &claim).map_err(failed)?))
        }
        Route::Complete => {
            let id = asked.id()?;
            let completion: Completion =
                asked.json(r#"{"worker": "anna", "result": "all watered"}"#)?;
            Ok(Answer::json(200, &board::complete(pool, id, &completion).map_err(failed)?))
        }
        Route::ClaimNext => {
            let claim: Claim = asked.json(Claim::EXAMPLE)?;
            let task = board::claim_next(pool, &claim).map_err(failed)?;
            Ok(task.map_or_else(Answer::no_content, |task| Answer::json(200, &task)))
        }
        Route::Reclaim => {
            if !asked.body.is_empty() {
                let Nothing {} = asked.json("{}")?;
            }
            let reclaimed = board::reclaim(pool).map_err(failed)?;
            Ok(Answer::json(200, &json!({ "reclaimed": reclaimed })))
        }
        Route::Metrics => Ok(Answer::exposition(app.exporter.render())),
        Route::Status => status(app, asked),
        Route::Healthz => Ok(health(pool)),
        Route::Other => unreachable!("answered above"),
    }
}

/// JSON for programs, text for people: as `?format=` says, else as `Accept` does.
fn status(app: &App, asked: &Asked<'_>) -> Answered {
    let mut as_json = asked.accepts_json;
    for (key, value) in asked.parameters() {
        as_json = match (key, value) {
            ("format", "json") => true,
            ("format", "text") => false,
            _ => return Err(unknown_parameter(key, value, "format=json or format=text")),
        };
    }
    let pool = app.pool.status();
    let uptime = app.started.elapsed().as_secs();
    let (queued, capacity) = (app.queue.len(), app.queue.capacity());
    Ok(if as_json {
        let server = json!({
            "uptime_seconds": uptime,
            "workers": app.workers,
            "queued_requests": queued,
            "queue_capacity": capacity,
        });
        Answer::json(200, &json!({ "server": server, "pool": pool }))
    } else {
        let (workers, capacity) = (app.workers, capacity.unwrap_or_default());
        let server = format!(
            "server\n  up for {uptime} s, {workers} workers, {queued} of at most {capacity} requests queued\n"
        );
        Answer::text(200, format!("{server}{pool}"))
    })
}

/// Healthy is a server that can read its database, not one that has a port open.
fn health(pool: &Pool) -> Answer {
    let readable = || -> Result<bool, Error> {
        let reader = pool.read_timeout(HEALTH_PATIENCE)?;
        Ok(reader.query_one("SELECT count(*) >= 0 FROM sqlite_schema", [], |row| row.get(0))?)
    };
    match readable() {
        Ok(_) => Answer::text(200, "ok\n"),
        Err(error) => {
            tracing::error!(%error, "the health check failed");
            Answer::overload("the database cannot be read")
        }
    }
}

impl Claim {
    const EXAMPLE: &str = r#"{"worker": "anna", "lease_seconds": 60}"#;
}

impl<'r> Asked<'r> {
    fn json<T: DeserializeOwned>(&self, example: &str) -> Result<T, Answer> {
        let hint = format!("send a JSON object such as {example}");
        if self.body.is_empty() {
            return Err(Answer::error(400, "the body is empty", hint));
        }
        // Serde would also take an array of the fields in their order.
        let object = self.body.trim_ascii_start().starts_with(b"{");
        if !object && serde_json::from_slice::<IgnoredAny>(self.body).is_ok() {
            return Err(Answer::error(400, "the body is JSON, but not an object", hint));
        }
        serde_json::from_slice(self.body).map_err(|error| {
            let what = if error.is_data() { "the body does not fit" } else { "malformed JSON" };
            Answer::error(400, format!("{what}: {error}"), hint)
        })
    }

    fn id(&self) -> Result<i64, Answer> {
        let digits = self.id.bytes().all(|byte| byte.is_ascii_digit());
        let id = self.id.parse().ok().filter(|id| digits && *id > 0);
        id.ok_or_else(|| {
            Answer::error(400, "this is not the id of a task", "ids are whole numbers from 1")
        })
    }

    fn filter(&self) -> Result<Filter, Answer> {
        let mut filter = Filter { state: None, after: 0, limit: 100 };
        for (key, value) in self.parameters() {
            let parsed = match key {
                "state" => State::parse(value).map(|state| filter.state = Some(state)),
                "after" => value.parse().ok().map(|after| filter.after = after),
                "limit" => {
                    let limit = value.parse().ok().filter(|limit| (1..=500).contains(limit));
                    limit.map(|limit| filter.limit = limit)
                }
                _ => None,
            };
            let hint = "state=open, claimed or done; after=ID; limit=1 to 500";
            parsed.ok_or_else(|| unknown_parameter(key, value, hint))?;
        }
        Ok(filter)
    }

    fn parameters(&self) -> impl Iterator<Item = (&'r str, &'r str)> + use<'r> {
        let pairs = self.query.split('&').filter(|pair| !pair.is_empty());
        pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")))
    }
}

fn unknown_parameter(key: &str, value: &str, allowed: &str) -> Answer {
    Answer::error(400, format!("{key}={value} is not understood"), format!("allowed: {allowed}"))
}

/// The answer to a request that failed in the board or in the pool.
fn failed(error: Error) -> Answer {
    let error = match error.downcast_other::<Refusal>() {
        Ok(refusal) => return refused(&refusal),
        Err(error) => error,
    };
    if error.is_overload() {
        tracing::warn!(%error, "a request was answered 503");
        return Answer::overload("the database is busy");
    }
    let cause = std::error::Error::source(&error).map(ToString::to_string);
    tracing::error!(%error, cause, "a request was answered 500");
    Answer::internal()
}

fn refused(refusal: &Refusal) -> Answer {
    let (status, hint) = match refusal {
        Refusal::NoSuchTask(_) => (404, "GET /tasks lists the tasks"),
        Refusal::NoSuchDependency(_) => (400, "depends_on takes ids of tasks that exist"),
        Refusal::Claimed { .. } => (409, "POST /claim finds a task that is free"),
        Refusal::Done(_) => (409, "there is nothing left to do"),
        Refusal::Blocked { .. } => (409, "complete that one first"),
        Refusal::NotYours { .. } => (409, "claim it first; a claim ends when its lease does"),
    };
    Answer::error(status, refusal, hint)
}
