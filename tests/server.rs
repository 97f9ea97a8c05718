//! The example server keeps what it answers: over HTTP, under load, when it is stopped, and when it
//! has too much to do. It runs as a process of its own, as it would elsewhere.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use serde_json::{Value, json};
use tempfile::TempDir;
use ureq::Agent;

/// No step takes so long, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// The settings of most tests. They are about what the server says and does, not about power cuts:
/// with `synchronous = "full"` they would spend their time waiting for the disk.
const SETTINGS: &str = "database = \"board.db\"\nname = \"board\"\nsynchronous = \"normal\"\n";

// The server as a child process.

/// Brought up to date first: `cargo test --test server` alone does not build examples.
fn server_binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let test = std::env::current_exe().expect("the test has a path");
        let profile_directory = test.ancestors().nth(2).expect("it is in <profile>/deps");
        let binary = profile_directory.join("examples").join("server");
        let Some(cargo) = std::env::var_os("CARGO") else {
            assert!(binary.exists(), "no server at {binary:?}: run `cargo build --example server`");
            return binary;
        };
        let profile = profile_directory.file_name().expect("a profile").to_str().expect("a name");
        let profile = if profile == "debug" { "dev" } else { profile };
        let mut build = Command::new(cargo);
        build.current_dir(env!("CARGO_MANIFEST_DIR"));
        build.args(["build", "--quiet", "--example", "server", "--profile", profile]);
        if !cfg!(feature = "bundled") {
            build.arg("--no-default-features");
        }
        let built = build.status().expect("cargo can be run");
        assert!(built.success(), "the example server does not build");
        binary
    })
}

/// A server on a database of its own. It is killed when this is dropped.
struct Running {
    child: Child,
    address: String,
    lines: Receiver<String>,
    directory: TempDir,
}

impl Running {
    fn start(settings: &str, options: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let config = directory.path().join("pool.toml");
        std::fs::write(&config, settings).expect("the settings can be written");
        let log = File::create(directory.path().join("log")).expect("a log file");
        let mut child = Command::new(server_binary())
            .args(["--listen", "127.0.0.1:0", "--config"])
            .arg(&config)
            .args(options)
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("the server starts");
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let mut running = Self { child, address: String::new(), lines, directory };
        running.address = loop {
            let line = running.lines.recv_timeout(PATIENCE).expect("the server says where it is");
            if let Some((_, address)) = line.split_once("board     http://") {
                break address.trim_end_matches('/').to_owned();
            }
        };
        running
    }

    fn database(&self) -> PathBuf {
        self.directory.path().join("board.db")
    }

    fn signal(&self) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status().expect("kill can be run");
        assert!(sent.success());
    }

    /// Waits for its end; returns how it ended and the last line that it printed.
    fn wait(&mut self) -> (ExitStatus, String) {
        let deadline = Instant::now() + PATIENCE;
        let mut last = String::new();
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => last = line,
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("the server does not end"),
            }
        }
        (self.child.wait().expect("it ended"), last)
    }

    /// Stops it, and checks that it leaves nothing behind. Returns how many requests it answered.
    fn stop(&mut self) -> u64 {
        self.signal();
        let (status, last) = self.wait();
        assert!(status.success(), "{status}");
        assert!(last.ends_with(" is closed"), "{last}");
        for suffix in ["-wal", "-shm"] {
            let left = self.directory.path().join(format!("board.db{suffix}"));
            assert!(!left.exists(), "{left:?} is left over");
        }
        let count = last.strip_prefix("stopped: ").and_then(|rest| rest.split(' ').next());
        count.and_then(|count| count.parse().ok()).unwrap_or_else(|| panic!("{last}"))
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    fn client(&self) -> Client {
        Client::new(&self.address)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("the server's log:\n{}", self.log());
        }
    }
}

// Clients.

struct Reply {
    status: u16,
    headers: ureq::http::HeaderMap,
    text: String,
}

impl Reply {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text)
            .unwrap_or_else(|error| panic!("{error} in {:?}", self.text))
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// A client with a connection of its own, kept open.
struct Client {
    agent: Agent,
    address: String,
}

impl Client {
    fn new(address: &str) -> Self {
        let config = Agent::config_builder().http_status_as_error(false);
        let agent = config.timeout_global(Some(PATIENCE)).build().new_agent();
        Self { agent, address: address.to_owned() }
    }

    fn try_ask(&self, method: &str, path: &str, body: &str) -> Result<Reply, ureq::Error> {
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

    fn ask(&self, method: &str, path: &str, body: &str) -> Reply {
        let reply = self.try_ask(method, path, body);
        reply.unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    /// Every sample of `/metrics`, by its name with labels.
    fn metrics(&self) -> HashMap<String, f64> {
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
fn sum(metrics: &HashMap<String, f64>, name: &str, labels: &[&str]) -> u64 {
    let of_name = |key: &&String| key.split('{').next() == Some(name);
    let chosen = metrics.keys().filter(of_name);
    let chosen = chosen.filter(|key| labels.iter().all(|label| key.contains(label)));
    chosen.map(|key| metrics[key] as u64).sum()
}

// Mixed load.

const CLIENTS: usize = 16;
const REQUESTS: usize = 6_250;

/// `(route, method, status)`, as the metrics label them.
type Tally = BTreeMap<(&'static str, &'static str, u16), u64>;

/// A client of the mixed load, and everything it was told.
struct Worker {
    client: Client,
    name: String,
    /// Claims under this name are short, and nobody looks after them.
    careless: String,
    random: fastrand::Rng,
    tally: Tally,
    /// Ids of the tasks that it created, in that order.
    ids: Vec<i64>,
    /// Their titles.
    created: HashMap<i64, String>,
    dependencies: HashSet<(i64, i64)>,
    /// Tasks claimed for long, as they were claimed.
    claimed: Vec<i64>,
    held: Vec<i64>,
    abandoned: Vec<i64>,
    abandonments: u64,
    late_completions: u64,
    /// Results of the tasks that it completed.
    completed: HashMap<i64, String>,
    reclaimed: u64,
    /// Requests that failed only when the database had been asked.
    rolled_back: u64,
}

impl Worker {
    fn new(address: &str, number: usize) -> Self {
        Self {
            client: Client::new(address),
            name: format!("worker {number}"),
            careless: format!("careless {number}"),
            random: fastrand::Rng::with_seed(number as u64),
            tally: Tally::new(),
            ids: Vec::new(),
            created: HashMap::new(),
            dependencies: HashSet::new(),
            claimed: Vec::new(),
            held: Vec::new(),
            abandoned: Vec::new(),
            abandonments: 0,
            late_completions: 0,
            completed: HashMap::new(),
            reclaimed: 0,
            rolled_back: 0,
        }
    }

    /// Each step is one request.
    fn step(&mut self) {
        match self.random.u32(..100) {
            0..25 => self.create(),
            25..43 => self.look(),
            43..58 => self.claim_next(),
            58..63 => self.claim_own(),
            63..70 => self.heartbeat(),
            70..83 => self.complete(),
            83..86 => self.claim_and_abandon(),
            86..88 => self.complete_late(),
            88..92 => self.list(),
            92..93 => self.reclaim(),
            _ => self.ask_for_nonsense(),
        }
    }

    fn ask(
        &mut self,
        route: &'static str,
        method: &'static str,
        path: &str,
        body: &str,
    ) -> (u16, Reply) {
        let reply = self.client.ask(method, path, body);
        *self.tally.entry((route, method, reply.status)).or_default() += 1;
        assert!(reply.status < 500, "{method} {path}: {} {}", reply.status, reply.text);
        (reply.status, reply)
    }

    fn any(random: &mut fastrand::Rng, of: &[i64]) -> Option<i64> {
        (!of.is_empty()).then(|| of[random.usize(..of.len())])
    }

    fn any_created(&mut self) -> Option<i64> {
        Self::any(&mut self.random, &self.ids)
    }

    fn create(&mut self) {
        let title = format!("{} of {} <&\"' \u{1f980}", self.created.len(), self.name);
        let depends_on: Vec<i64> = match self.random.u32(..8) {
            0 => self.any_created().into_iter().collect(),
            _ => Vec::new(),
        };
        let body = json!({ "title": title, "depends_on": depends_on }).to_string();
        let (status, reply) = self.ask("/tasks", "POST", "/tasks", &body);
        assert_eq!(status, 201, "{}", reply.text);
        let task = reply.json();
        assert_eq!(task["title"], title.as_str());
        assert_eq!(task["state"], "open");
        assert_eq!(task["depends_on"], json!(depends_on));
        let id = task["id"].as_i64().expect("an id");
        assert_eq!(reply.header("location"), Some(format!("/tasks/{id}").as_str()));
        assert!(self.created.insert(id, title).is_none(), "id {id} was given twice");
        self.ids.push(id);
        self.dependencies.extend(depends_on.into_iter().map(|on| (id, on)));
    }

    fn look(&mut self) {
        let Some(id) = self.any_created() else { return self.create() };
        let (status, reply) = self.ask("/tasks/{id}", "GET", &format!("/tasks/{id}"), "");
        assert_eq!(status, 200, "{}", reply.text);
        let task = reply.json();
        assert_eq!((&task["id"], &task["title"]), (&json!(id), &json!(self.created[&id])));
        if let Some(result) = self.completed.get(&id) {
            assert_eq!((&task["state"], &task["result"]), (&json!("done"), &json!(result)));
        }
    }

    fn claim_next(&mut self) {
        let body = json!({ "worker": self.name, "lease_seconds": 3600 }).to_string();
        let (status, reply) = self.ask("/claim", "POST", "/claim", &body);
        match status {
            200 => self.took(&reply),
            204 => assert_eq!(reply.text, ""),
            _ => panic!("{status} {}", reply.text),
        }
    }

    fn claim_own(&mut self) {
        let Some(id) = self.any_created() else { return self.create() };
        let body = json!({ "worker": self.name, "lease_seconds": 3600 }).to_string();
        let path = format!("/tasks/{id}/claim");
        let (status, reply) = self.ask("/tasks/{id}/claim", "POST", &path, &body);
        match status {
            200 => self.took(&reply),
            409 => self.rolled_back += 1,
            _ => panic!("{status} {}", reply.text),
        }
    }

    fn took(&mut self, reply: &Reply) {
        let task = reply.json();
        assert_eq!(task["state"], "claimed");
        assert_eq!(task["claimed_by"], self.name.as_str());
        let id = task["id"].as_i64().expect("an id");
        self.claimed.push(id);
        self.held.push(id);
    }

    fn heartbeat(&mut self) {
        let Some(id) = Self::any(&mut self.random, &self.held) else { return self.look() };
        let body = json!({ "worker": self.name, "lease_seconds": 3600 }).to_string();
        let path = format!("/tasks/{id}/heartbeat");
        let (status, reply) = self.ask("/tasks/{id}/heartbeat", "POST", &path, &body);
        assert_eq!(status, 200, "{}", reply.text);
        assert_eq!(reply.json()["claimed_by"], self.name.as_str());
    }

    fn complete(&mut self) {
        let Some(id) = self.held.pop() else { return self.look() };
        let result = format!("{id} by {}", self.name);
        let body = json!({ "worker": self.name, "result": result }).to_string();
        let path = format!("/tasks/{id}/complete");
        let (status, reply) = self.ask("/tasks/{id}/complete", "POST", &path, &body);
        assert_eq!(status, 200, "{}", reply.text);
        let task = reply.json();
        assert_eq!((&task["id"], &task["result"]), (&json!(id), &json!(result)));
        assert!(self.completed.insert(id, result).is_none(), "task {id} was completed twice");
    }

    fn claim_and_abandon(&mut self) {
        let body = json!({ "worker": self.careless, "lease_seconds": 1 }).to_string();
        let (status, reply) = self.ask("/claim", "POST", "/claim", &body);
        if status == 200 {
            let task = reply.json();
            assert_eq!(task["claimed_by"], self.careless.as_str());
            self.abandoned.push(task["id"].as_i64().expect("an id"));
            self.abandonments += 1;
        }
    }

    /// Accepted only while the task has not been taken back.
    fn complete_late(&mut self) {
        if self.abandoned.is_empty() {
            return self.look();
        }
        let id = self.abandoned.remove(0);
        let result = format!("{id} by {}", self.careless);
        let body = json!({ "worker": self.careless, "result": result }).to_string();
        let path = format!("/tasks/{id}/complete");
        match self.ask("/tasks/{id}/complete", "POST", &path, &body).0 {
            200 => {
                self.late_completions += 1;
                assert!(self.completed.insert(id, result).is_none(), "{id} was completed twice");
            }
            409 => self.rolled_back += 1,
            status => panic!("{status}"),
        }
    }

    fn list(&mut self) {
        let after = self.any_created().unwrap_or(0);
        let path = format!("/tasks?state=open&limit=10&after={after}");
        let (status, reply) = self.ask("/tasks", "GET", &path, "");
        assert_eq!(status, 200, "{}", reply.text);
        let page = reply.json();
        let tasks = page["tasks"].as_array().expect("tasks");
        assert!(page["total"].as_u64().expect("a total") >= tasks.len() as u64);
        let mut last = after;
        for task in tasks {
            assert_eq!(task["state"], "open", "one snapshot, one state");
            let id = task["id"].as_i64().expect("an id");
            assert!(id > last);
            last = id;
        }
    }

    fn reclaim(&mut self) {
        let (status, reply) = self.ask("/reclaim", "POST", "/reclaim", "");
        assert_eq!(status, 200, "{}", reply.text);
        self.reclaimed += reply.json()["reclaimed"].as_u64().expect("a number");
    }

    fn ask_for_nonsense(&mut self) {
        let wanted = match self.random.u32(..8) {
            0 => (400, self.ask("/tasks", "POST", "/tasks", "{\"title\": ").0),
            1 => (400, self.ask("/tasks", "POST", "/tasks", "{}").0),
            2 => (400, self.ask("/tasks", "GET", "/tasks?state=lost", "").0),
            3 => (400, self.ask("/tasks/{id}", "GET", "/tasks/first", "").0),
            4 => (404, self.ask("/tasks/{id}", "GET", "/tasks/999999999", "").0),
            5 => (404, self.ask("other", "GET", "/nowhere", "").0),
            6 => (405, self.ask("/reclaim", "GET", "/reclaim", "").0),
            _ => {
                self.rolled_back += 1;
                let body = r#"{"title": "never kept", "depends_on": [999999999]}"#;
                (400, self.ask("/tasks", "POST", "/tasks", body).0)
            }
        };
        assert_eq!(wanted.0, wanted.1);
    }
}

#[test]
fn a_hundred_thousand_requests_are_answered_counted_and_kept_exactly() {
    // Nobody but the clients changes anything.
    let mut server = Running::start(SETTINGS, &["--workers", "16", "--reclaim-every", "0"]);
    let mut workers: Vec<Worker> = thread::scope(|scope| {
        let start = |number| {
            let mut worker = Worker::new(&server.address, number);
            scope.spawn(move || {
                for _ in 0..REQUESTS {
                    worker.step();
                }
                worker
            })
        };
        let threads: Vec<_> = (0..CLIENTS).map(start).collect();
        threads.into_iter().map(|thread| thread.join().expect("a client failed")).collect()
    });
    let requests: u64 = workers.iter().flat_map(|worker| worker.tally.values()).sum();
    assert_eq!(requests as usize, CLIENTS * REQUESTS);

    // What the careless left is taken back, once for each claim; the last of them within a second.
    let total = |what: fn(&Worker) -> u64, of: &[Worker]| of.iter().map(what).sum::<u64>();
    let left = total(|worker| worker.abandonments - worker.late_completions, &workers);
    let deadline = Instant::now() + PATIENCE;
    while total(|worker| worker.reclaimed, &workers) < left && Instant::now() < deadline {
        workers[0].reclaim();
    }
    assert_eq!(total(|worker| worker.reclaimed, &workers), left);

    let metrics = workers[0].client.metrics();
    let mut tally = Tally::new();
    for (key, count) in workers.iter().flat_map(|worker| &worker.tally) {
        *tally.entry(*key).or_default() += count;
    }
    check_metrics(&metrics, &tally, &workers);
    assert_eq!(server.stop(), tally.values().sum::<u64>() + 1, "all, and the one for the metrics");
    check_database(&server.database(), &workers);
}

/// The server's counters and the pool's agree with what the clients were told.
fn check_metrics(metrics: &HashMap<String, f64>, tally: &Tally, workers: &[Worker]) {
    let name = "board_http_requests_total";
    let told: BTreeMap<String, u64> = tally
        .iter()
        .map(|((route, method, status), count)| {
            let labels = format!("route=\"{route}\",method=\"{method}\",status=\"{status}\"");
            (format!("{name}{{{labels}}}"), *count)
        })
        .collect();
    let counted: BTreeMap<String, u64> = metrics
        .iter()
        .filter(|(key, value)| key.starts_with(name) && **value > 0.0)
        .map(|(key, value)| (key.clone(), *value as u64))
        .collect();
    assert_eq!(told, counted);

    let answers = |chosen: &dyn Fn(&str, &str, u16) -> bool| -> u64 {
        let chosen =
            tally.iter().filter(|((route, method, status), _)| chosen(route, method, *status));
        chosen.map(|(_, count)| count).sum()
    };
    let measured = sum(metrics, "board_http_request_seconds_count", &[]);
    assert_eq!(measured, answers(&|_, _, _| true));

    let transactions = |kind: &str, outcome: &str| {
        let labels = [format!("kind=\"{kind}\""), format!("outcome=\"{outcome}\"")];
        sum(metrics, "tenure_transactions_total", &[&labels[0], &labels[1]])
    };
    let commits = answers(&|_, method, status| method == "POST" && status < 300);
    let rollbacks: u64 = workers.iter().map(|worker| worker.rolled_back).sum();
    let lists = answers(&|route, method, status| (route, method, status) == ("/tasks", "GET", 200));
    let looks = answers(&|route, _, status| route == "/tasks/{id}" && status != 400);
    assert_eq!(transactions("immediate", "commit"), commits);
    assert_eq!(transactions("immediate", "rollback"), rollbacks);
    assert_eq!(transactions("snapshot", "commit"), lists);
    assert_eq!(sum(metrics, "tenure_transactions_total", &[]), commits + rollbacks + lists);

    let checkouts = |role: &str, outcomes: &[&str]| -> u64 {
        let one = |outcome: &&str| {
            let labels = [format!("role=\"{role}\""), format!("outcome=\"{outcome}\"")];
            sum(metrics, "tenure_checkouts_total", &[&labels[0], &labels[1]])
        };
        outcomes.iter().map(one).sum()
    };
    assert_eq!(checkouts("write", &["immediate", "waited"]), commits + rollbacks);
    assert_eq!(checkouts("read", &["immediate", "waited"]), lists + looks);
    for role in ["read", "write"] {
        assert_eq!(checkouts(role, &["timeout", "overloaded", "connect_failed", "closed"]), 0);
    }
    assert_eq!(sum(metrics, "tenure_busy_timeouts_total", &[]), 0);
    assert!(metrics.keys().any(|key| key.starts_with("tenure_busy_timeouts_total{")));
    assert_eq!(sum(metrics, "tenure_checkin_repairs_total", &[]), 0);

    let event = |event: &str| sum(metrics, "board_tasks_total", &[&format!("event=\"{event}\"")]);
    let total = |what: fn(&Worker) -> u64| workers.iter().map(what).sum::<u64>();
    assert_eq!(event("created"), total(|worker| worker.created.len() as u64));
    let claims = total(|worker| worker.claimed.len() as u64 + worker.abandonments);
    assert_eq!(event("claimed"), claims);
    assert_eq!(event("completed"), total(|worker| worker.completed.len() as u64));
    assert_eq!(event("reclaimed"), total(|worker| worker.reclaimed));
    // Else a part of the test has tested nothing.
    for counted in ["created", "claimed", "completed", "reclaimed"] {
        assert!(event(counted) > 100, "only {} tasks were {counted}", event(counted));
    }
}

/// Title, state, worker and result.
type Row = (String, String, Option<String>, Option<String>);

/// Every row is what one client was told, and the other way round.
fn check_database(database: &Path, workers: &[Worker]) {
    let mut expected: BTreeMap<i64, Row> = BTreeMap::new();
    for worker in workers {
        for (id, title) in &worker.created {
            let known = expected.insert(*id, (title.clone(), "open".to_owned(), None, None));
            assert!(known.is_none(), "two clients were given the id {id}");
        }
    }
    let mut owners = HashMap::new();
    for worker in workers {
        for id in &worker.claimed {
            let owner = owners.insert(*id, &worker.name);
            assert!(owner.is_none(), "task {id} was claimed by {owner:?} and {}", worker.name);
        }
        for id in &worker.held {
            let task = expected.get_mut(id).expect("a task that somebody created");
            (task.1, task.2) = ("claimed".to_owned(), Some(worker.name.clone()));
        }
        for (id, result) in &worker.completed {
            let task = expected.get_mut(id).expect("a task that somebody created");
            assert_eq!(task.1, "open", "task {id} was completed and something else too");
            let by = result.split_once(" by ").expect("as the client wrote it").1.to_owned();
            (task.1, task.2, task.3) = ("done".to_owned(), Some(by), Some(result.clone()));
        }
    }
    let connection = Connection::open(database).expect("the database is there");
    let rows = read(&connection, "SELECT id, title, state, claimed_by, result FROM tasks", |row| {
        Ok((row.get(0)?, (row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?)))
    });
    let rows: BTreeMap<i64, Row> = rows.into_iter().collect();
    assert_eq!(rows.len(), expected.len());
    for (id, row) in expected {
        assert_eq!(rows[&id], row, "task {id}");
    }
    let dependencies =
        read(&connection, "SELECT task_id, depends_on_id FROM dependencies", |row| {
            Ok((row.get(0)?, row.get(1)?))
        });
    let expected: HashSet<(i64, i64)> =
        workers.iter().flat_map(|worker| worker.dependencies.iter().copied()).collect();
    assert_eq!(dependencies.into_iter().collect::<HashSet<(i64, i64)>>(), expected);
    let sound: String =
        connection.query_one("PRAGMA integrity_check", [], |row| row.get(0)).expect("a check");
    assert_eq!(sound, "ok");
}

fn read<T>(
    connection: &Connection,
    sql: &str,
    map: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
) -> Vec<T> {
    let mut statement = connection.prepare(sql).expect("the schema is known");
    let rows = statement.query_map([], map).expect("the query runs");
    rows.collect::<Result<_, _>>().expect("the rows fit")
}

// The other promises.

#[test]
fn a_stop_under_load_keeps_all_that_was_answered_and_answers_all_that_was_kept() {
    // Durable at each answer, as the server is by default.
    let mut server = Running::start("database = \"board.db\"\n", &[]);
    let (progress, progressed) = mpsc::channel();
    let answered: Vec<(i64, String)> = thread::scope(|scope| {
        let start = |number: usize| {
            let (client, progress) = (server.client(), progress.clone());
            scope.spawn(move || {
                let mut answered = Vec::new();
                for round in 0.. {
                    let title = format!("{round} of client {number}");
                    let body = json!({ "title": title }).to_string();
                    // No answer, or 503: it stops.
                    match client.try_ask("POST", "/tasks", &body) {
                        Ok(reply) if reply.status == 201 => {
                            let id = reply.json()["id"].as_i64().expect("an id");
                            answered.push((id, title));
                            let _ = progress.send(());
                        }
                        Ok(reply) => {
                            assert_eq!(reply.status, 503, "{}", reply.text);
                            assert_eq!(reply.header("retry-after"), Some("1"));
                            break;
                        }
                        Err(_) => break,
                    }
                }
                answered
            })
        };
        let clients: Vec<_> = (0..8).map(start).collect();
        for _ in 0..400 {
            progressed.recv_timeout(PATIENCE).expect("tasks are created");
        }
        server.stop();
        clients.into_iter().flat_map(|client| client.join().expect("a client failed")).collect()
    });
    let connection = Connection::open(server.database()).expect("the database is there");
    let rows = read(&connection, "SELECT id, title FROM tasks", |row| {
        Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?))
    });
    let kept: BTreeMap<_, _> = rows.into_iter().collect();
    assert!(answered.len() >= 400);
    assert_eq!(answered.into_iter().collect::<BTreeMap<_, _>>(), kept);
}

#[test]
fn a_stop_answers_what_was_accepted() {
    let settings = format!("{SETTINGS}busy_timeout = \"50s\"\ncheckout_timeout = \"50s\"\n");
    let mut server = Running::start(&settings, &["--workers", "2", "--queue", "4"]);
    let other = Connection::open(server.database()).expect("the database is there");
    other.execute_batch("BEGIN IMMEDIATE").expect("nobody writes yet");
    let stopping = AtomicBool::new(false);
    let (refusals, refused) = mpsc::channel();
    let created = thread::scope(|scope| {
        let start = |number| {
            let (client, refusals, stopping) = (server.client(), refusals.clone(), &stopping);
            scope.spawn(move || {
                let body = format!("{{\"title\": \"{number}\"}}");
                // One that is refused tries again until the server stops.
                while let Ok(reply) = client.try_ask("POST", "/tasks", &body) {
                    match reply.status {
                        201 => return 1,
                        503 if stopping.load(Ordering::SeqCst) => return 0,
                        503 => refusals.send(()).expect("the test waits"),
                        _ => panic!("{} {}", reply.status, reply.text),
                    }
                }
                0
            })
        };
        let clients: Vec<_> = (0..10).map(start).collect();
        // By then the workers have two requests, and the queue is full again.
        for _ in 0..100 {
            refused.recv_timeout(PATIENCE / 2).expect("some are refused");
        }
        server.signal();
        let deadline = Instant::now() + PATIENCE / 2;
        while !server.log().contains("stopping") {
            assert!(Instant::now() < deadline, "the server does not stop");
            thread::yield_now();
        }
        stopping.store(true, Ordering::SeqCst);
        other.execute_batch("COMMIT").expect("the lock is given back");
        clients.into_iter().map(|client| client.join().expect("a client failed")).sum::<i64>()
    });
    drop(other);
    let (status, last) = server.wait();
    assert!(status.success(), "{status} {last}");
    assert!(created >= 6, "only {created} requests of those accepted were answered");
    let connection = Connection::open(server.database()).expect("the database is there");
    let rows: i64 = connection
        .query_one("SELECT count(*) FROM tasks", [], |row| row.get(0))
        .expect("the query runs");
    assert_eq!(rows, created);
}

#[test]
fn a_bad_request_is_told_what_is_wrong() {
    let mut server = Running::start(SETTINGS, &[]);
    let client = server.client();
    let long = |length: usize| format!("{{\"title\": \"{}\"}}", "a".repeat(length));
    assert_eq!(client.ask("POST", "/tasks", &long(200)).status, 201);
    let big = format!("{{\"title\": \"a\"}}{}", " ".repeat(64 * 1024));
    let worker = r#"{"worker": "anna"}"#;
    #[rustfmt::skip]
    let cases: &[(&str, &str, &str, u16, &str)] = &[
        ("POST", "/tasks", "", 400, "the body is empty"),
        ("POST", "/tasks", "{", 400, "malformed JSON: EOF while parsing an object at line 1 column 1"),
        ("POST", "/tasks", "{\n\"title\": x}", 400, "at line 2 column 10"),
        ("POST", "/tasks", "{\"title\": \"a\"} b", 400, "trailing characters at line 1 column 16"),
        ("POST", "/tasks", "[\"a\", []]", 400, "not an object"),
        ("POST", "/tasks", "\"a\"", 400, "not an object"),
        ("POST", "/tasks", "{}", 400, "missing field `title`"),
        ("POST", "/tasks", "{\"title\": 7}", 400, "invalid type: integer `7`, expected a string"),
        ("POST", "/tasks", "{\"title\": null}", 400, "invalid type: null, expected a string"),
        ("POST", "/tasks", "{\"title\": \" \"}", 400, "the text is empty"),
        ("POST", "/tasks", "{\"title\": \"a\\u0000b\"}", 400, "control characters"),
        ("POST", "/tasks", "{\"title\": \"a\", \"title\": \"b\"}", 400, "duplicate field `title`"),
        ("POST", "/tasks", &long(201), 400, "the text has 201 characters, 200 are allowed"),
        ("POST", "/tasks", "{\"title\": \"a\", \"tilte\": 1}", 400, "unknown field `tilte`"),
        ("POST", "/tasks", "{\"title\": \"a\", \"depends_on\": [\"b\"]}", 400, "expected i64"),
        ("POST", "/tasks", "{\"title\": \"a\", \"depends_on\": [9]}", 400, "no task 9 to depend on"),
        ("POST", "/tasks", &big, 413, "larger than 65536 bytes"),
        ("GET", "/tasks?state=lost", "", 400, "state=lost is not understood"),
        ("GET", "/tasks?limit=0", "", 400, "limit=0"),
        ("GET", "/tasks?limit=501", "", 400, "limit=501"),
        ("GET", "/tasks?after=x", "", 400, "after=x"),
        ("GET", "/tasks?colour=red", "", 400, "colour=red"),
        ("GET", "/tasks/one", "", 400, "not the id of a task"),
        ("GET", "/tasks/0", "", 400, "not the id of a task"),
        ("GET", "/tasks/+1", "", 400, "not the id of a task"),
        ("GET", "/tasks/99999999999999999999", "", 400, "not the id of a task"),
        ("GET", "/tasks/99", "", 404, "there is no task 99"),
        ("POST", "/tasks/99/claim", worker, 404, "there is no task 99"),
        ("POST", "/tasks/99/heartbeat", worker, 404, "there is no task 99"),
        ("POST", "/tasks/99/complete", worker, 404, "there is no task 99"),
        ("POST", "/tasks/1/complete", worker, 409, "task 1 is not claimed by \"anna\""),
        ("POST", "/tasks/1/heartbeat", worker, 409, "its state is open"),
        ("POST", "/tasks/1/claim", "{\"worker\": \"\"}", 400, "the text is empty"),
        ("POST", "/tasks/1/claim", r#"{"worker": "a", "lease_seconds": 0}"#, 400, "lease_seconds is 0"),
        ("POST", "/claim", r#"{"worker": "a", "lease_seconds": 86401}"#, 400, "lease_seconds is 86401"),
        ("POST", "/reclaim", "{\"all\": true}", 400, "unknown field `all`"),
        ("GET", "/status?format=xml", "", 400, "format=xml"),
        ("GET", "/nowhere", "", 404, "nothing at this path"),
        ("POST", "/tasks/1/", "{}", 404, "nothing at this path"),
        ("GET", "//", "", 404, "nothing at this path"),
    ];
    for (method, path, body, status, error) in cases {
        let reply = client.ask(method, path, body);
        let case = format!("{method} {path} {:.60}: {} {}", body, reply.status, reply.text);
        assert_eq!(reply.status, *status, "{case}");
        assert_eq!(reply.header("content-type"), Some("application/json"), "{case}");
        assert!(reply.json()["error"].as_str().expect("a text").contains(error), "{case}");
        assert!(!reply.json()["hint"].as_str().expect("a text").is_empty(), "{case}");
    }
    for (method, path, allow) in [
        ("DELETE", "/tasks", "GET, HEAD, POST"),
        ("GET", "/claim", "POST"),
        ("POST", "/metrics", "GET, HEAD"),
        ("DELETE", "/tasks/1", "GET, HEAD"),
    ] {
        let reply = client.ask(method, path, "");
        assert_eq!((reply.status, reply.header("allow")), (405, Some(allow)), "{method} {path}");
        assert!(reply.json()["error"].as_str().expect("a text").contains(method));
    }
    // None of it has left a trace, or hurt the next request.
    let listing = client.ask("GET", "/tasks", "").json();
    assert_eq!((&listing["total"], &listing["tasks"][0]["state"]), (&json!(1), &json!("open")));
    server.stop();
}

#[test]
fn a_length_that_no_body_can_have_does_not_end_the_server() {
    use std::io::Write;
    let mut server = Running::start(SETTINGS, &[]);
    let mut stream = std::net::TcpStream::connect(&server.address).expect("it listens");
    let head = "POST /tasks HTTP/1.1\r\nHost: board\r\nContent-Length: 999999999999999\r\n\r\n{";
    stream.write_all(head.as_bytes()).expect("it reads");
    stream.shutdown(std::net::Shutdown::Write).expect("the client gives up");
    let client = server.client();
    for _ in 0..10 {
        assert_eq!(client.ask("GET", "/healthz", "").text, "ok\n");
    }
    assert_eq!(server.stop(), 10);
}

#[test]
fn connections_that_arrive_together_are_all_answered_while_all_stay_open() {
    use std::io::Write;
    let mut server = Running::start(SETTINGS, &[]);
    for _ in 0..5 {
        let mut streams: Vec<_> = (0..48)
            .map(|_| {
                let mut stream = std::net::TcpStream::connect(&server.address).expect("a stream");
                stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
                let request = b"GET /healthz HTTP/1.1\r\nHost: board\r\n\r\n";
                stream.write_all(request).expect("it is sent");
                stream
            })
            .collect();
        for stream in &mut streams {
            let mut status = [0; 12];
            stream.read_exact(&mut status).expect("every client gets an answer");
            assert_eq!(&status, b"HTTP/1.1 200");
        }
    }
    assert_eq!(server.stop(), 5 * 48);
}

#[test]
fn a_full_queue_is_answered_503_at_once() {
    let settings = format!("{SETTINGS}busy_timeout = \"50s\"\ncheckout_timeout = \"50s\"\n");
    let mut server = Running::start(&settings, &["--workers", "1", "--queue", "1"]);
    let other = Connection::open(server.database()).expect("the database is there");
    other.execute_batch("BEGIN IMMEDIATE").expect("nobody writes yet");
    let (replies, replied) = mpsc::channel();
    thread::scope(|scope| {
        for number in 0..8 {
            let (client, replies) = (server.client(), replies.clone());
            scope.spawn(move || {
                let body = format!("{{\"title\": \"{number}\"}}");
                let reply = client.ask("POST", "/tasks", &body);
                replies.send(reply).expect("the test waits");
            });
        }
        // One is with the worker, who waits for the lock, and one in the queue at most.
        for _ in 0..6 {
            let reply = replied.recv_timeout(PATIENCE / 2).expect("an answer without the lock");
            assert_eq!(reply.status, 503, "{}", reply.text);
            assert_eq!(reply.header("retry-after"), Some("1"));
            assert_eq!(reply.json()["error"], "too many requests are waiting");
        }
        other.execute_batch("COMMIT").expect("the lock is given back");
        let last: Vec<u16> = (0..2)
            .map(|_| replied.recv_timeout(PATIENCE).expect("the others are answered").status)
            .collect();
        assert!(last.contains(&201), "{last:?}");
    });
    drop(other);
    let client = server.client();
    for _ in 0..5 {
        assert_eq!(client.ask("POST", "/tasks", "{\"title\": \"later\"}").status, 201);
    }
    server.stop();
}

#[test]
fn a_database_that_somebody_else_locks_is_answered_503_and_can_still_be_read() {
    let settings = format!("{SETTINGS}busy_timeout = \"100ms\"\ncheckout_timeout = \"200ms\"\n");
    let mut server = Running::start(&settings, &[]);
    let client = server.client();
    let new = "{\"title\": \"a\"}";
    assert_eq!(client.ask("POST", "/tasks", new).status, 201);
    let other = Connection::open(server.database()).expect("the database is there");
    other.execute_batch("BEGIN IMMEDIATE").expect("nobody writes");
    let clients: u64 = 4;
    thread::scope(|scope| {
        for _ in 0..clients {
            let client = server.client();
            scope.spawn(move || {
                let reply = client.ask("POST", "/tasks", new);
                assert_eq!(reply.status, 503, "{}", reply.text);
                assert_eq!(reply.header("retry-after"), Some("1"));
                assert_eq!(reply.json()["error"], "the database is busy");
            });
        }
    });
    assert_eq!(client.ask("GET", "/tasks/1", "").status, 200);
    assert_eq!(client.ask("GET", "/healthz", "").text, "ok\n");
    other.execute_batch("COMMIT").expect("the lock is given back");
    drop(other);
    assert_eq!(client.ask("POST", "/tasks", new).status, 201);

    let metrics = client.metrics();
    let answered = |status| sum(&metrics, "board_http_requests_total", &["POST", status]);
    assert_eq!((answered("\"201\""), answered("\"503\"")), (2, clients));
    assert!(sum(&metrics, "tenure_busy_timeouts_total", &["op=\"begin\""]) >= 1);
    assert_eq!(sum(&metrics, "board_tasks_total", &["created"]), 2);
    server.stop();
}
