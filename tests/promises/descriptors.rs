//! A process without file descriptors is told so, and goes on when it has some again.
//!
//! In a process of its own, for the limit is the process's.

use std::fs;
use std::process::Command;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tenure::{Pool, testing};

use crate::until::until;

const CHILD: &str = "TENURE_FEW_DESCRIPTORS";
const READERS: usize = 8;

/// As the error says.
const NEEDED: usize = 2 * READERS + 6;

fn open() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

fn set_limit(limit: u64) {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(limit), maximum }).unwrap();
}

#[test]
fn the_error_names_the_limit_and_what_a_pool_needs() {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "descriptors::with_few_descriptors", "--ignored", "--nocapture"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    let complaint = String::from_utf8_lossy(&child.stderr);
    assert!(child.status.success(), "{said}\n{complaint}");
    assert!(said.contains("1 passed"), "{said}");
}

#[test]
#[ignore = "the other process of the test here, which starts it"]
fn with_few_descriptors() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let database = directory.path().join("app.db");
    let builder = || {
        Pool::builder()
            .readers(READERS)
            .busy_timeout(Duration::from_millis(100))
            .checkout_timeout(Duration::from_millis(300))
            .database(&database)
    };
    let before = open();
    drop(testing::temporary().unwrap());
    assert_eq!(open(), before, "a pool leaves no descriptor behind");

    set_limit(before as u64 + READERS as u64);
    let error = builder().open().unwrap_err().to_string();
    let remedy = "two for each of its `readers`, and six more";
    assert!(error.contains("ulimit -n") && error.contains(remedy), "{error}");

    // As many as the error says, and one for the look at how many there are.
    set_limit((before + NEEDED) as u64);
    let pool = builder().open().unwrap();
    pool.write().unwrap().execute_batch("CREATE TABLE task (title TEXT)").unwrap();
    // Busy readers have the connection opened that makes checkpoints: the last.
    until("all are open", || {
        for _ in 0..2_000 {
            let count = "SELECT count(*) FROM task";
            pool.read().unwrap().query_one(count, [], |row| row.get::<_, i64>(0)).unwrap();
        }
        open() - before == NEEDED
    });
}
