//! Mixed load: every answer belongs to its request, and what clients were told, what is counted and what
//! is in the file agree exactly.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::thread;
use std::time::Instant;

use rusqlite::Connection;
use serde_json::json;

use crate::client::{Client, Reply, sum};
use crate::process::{PATIENCE, Running, SETTINGS};

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

pub(crate) fn read<T>(
    connection: &Connection,
    sql: &str,
    map: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
) -> Vec<T> {
    let mut statement = connection.prepare(sql).expect("the schema is known");
    let rows = statement.query_map([], map).expect("the query runs");
    rows.collect::<Result<_, _>>().expect("the rows fit")
}
