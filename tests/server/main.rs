//! The example server keeps what it answers: over HTTP, under load, when it is stopped, and when it
//! has too much to do. It runs as a process of its own, as it would elsewhere.

mod client;
mod load;
mod process;

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use rusqlite::Connection;
use serde_json::json;
use tenure::metrics::METRICS;

use crate::client::sum;
use crate::load::read;
use crate::process::{PATIENCE, Running, SETTINGS};

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
fn a_client_that_would_rather_speak_another_protocol_is_answered_in_this_one() {
    use std::io::{Read, Write};
    let mut server = Running::start(SETTINGS, &[]);
    let ask = |rest: &str| {
        let mut stream = std::net::TcpStream::connect(&server.address).expect("it listens");
        let head =
            "HTTP/1.1\r\nHost: board\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n";
        let (line, rest) = rest.split_once('|').expect("there is one");
        stream.write_all(format!("{line} {head}{rest}").as_bytes()).expect("it reads");
        let mut reply = String::new();
        stream.read_to_string(&mut reply).expect("it answers and closes");
        reply
    };
    let healthy = ask("GET /healthz|\r\n");
    assert!(healthy.starts_with("HTTP/1.1 200") && healthy.ends_with("ok\n"), "{healthy}");
    let refused = ask("POST /tasks|Content-Length: 2\r\n\r\n{}");
    assert!(
        refused.starts_with("HTTP/1.1 400") && refused.contains("no other protocol"),
        "{refused}"
    );
    assert_eq!(server.stop(), 2);
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

#[test]
fn the_status_says_what_the_writer_is_held_for() {
    let settings = format!("{SETTINGS}checkout_timeout = \"60s\"\nbusy_timeout = \"50s\"\n");
    let mut server = Running::start(&settings, &[]);
    let client = server.client();
    let other = Connection::open(server.database()).expect("the database is there");
    other.execute_batch("BEGIN IMMEDIATE").expect("nobody writes");
    thread::scope(|scope| {
        let reclaiming = server.client();
        let reclaims = scope.spawn(move || reclaiming.ask("POST", "/reclaim", "{}").status);
        let began = Instant::now();
        let label = || {
            let status = client.ask("GET", "/status?format=json", "").json();
            status["pool"]["write"]["held"][0]["label"].as_str().map(str::to_owned)
        };
        while label().as_deref() != Some("taking back expired claims") {
            assert!(began.elapsed() < PATIENCE, "{}", client.ask("GET", "/status", "").text);
        }
        let text = client.ask("GET", "/status?format=text", "").text;
        assert!(text.contains("(\"taking back expired claims\") at examples/server/"), "{text}");
        other.execute_batch("COMMIT").expect("the lock is given back");
        assert_eq!(reclaims.join().expect("it is answered"), 200);
    });
    drop(other);
    server.stop();
}

#[test]
fn every_metric_of_the_table_is_on_the_page_and_no_other_of_its_prefix() {
    let mut server = Running::start(SETTINGS, &[]);
    let page = server.client().ask("GET", "/metrics", "").text;
    let types = page.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let shown: BTreeMap<_, _> = types
        .filter_map(|line| line.split_once(' '))
        .filter(|(name, _)| name.starts_with("tenure_"))
        .collect();
    let kinds = METRICS.iter().map(|metric| format!("{:?}", metric.kind).to_lowercase());
    let kinds: Vec<_> = kinds.collect();
    let table = METRICS.iter().map(|metric| metric.name).zip(kinds.iter().map(String::as_str));
    assert_eq!(shown, table.collect::<BTreeMap<_, _>>());
    for metric in METRICS {
        let sample = |line: &&str| line.starts_with(metric.name) && line.contains("pool=\"");
        assert!(page.lines().any(|line| sample(&line)), "{} has no series", metric.name);
        if let Some(bounds) = metric.buckets() {
            let bucket = format!("{}_bucket{{", metric.name);
            let of_one: Vec<_> = page.lines().filter(|line| line.starts_with(&bucket)).collect();
            let last = of_one.iter().filter(|line| line.contains("le=\"+Inf\"")).count();
            assert_eq!(of_one.len(), last * (bounds.len() + 1), "{}", metric.name);
        }
    }
    server.stop();
}
