//! What is exported is what the table says, from 0 on, and exact.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use metrics::Unit;
use tenure::metrics::{METRICS, MetricKind};
use tenure::{CheckoutErrorKind, Error, Pool, testing};

use crate::recorded::Recorded;
use crate::until::until;

/// Names on the page, without the suffixes of a histogram.
fn exported(page: &str) -> BTreeSet<String> {
    let names = page.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    names.map(|line| line.split(' ').next().unwrap().to_owned()).collect()
}

#[test]
fn every_metric_of_the_table_is_exported_and_no_other() {
    let pool = Recorded::new();
    pool.transaction(|_| Ok(())).unwrap();
    pool.snapshot(|_| Ok(())).unwrap();
    let table: BTreeSet<_> = METRICS.iter().map(|metric| metric.name.to_owned()).collect();
    assert_eq!(exported(&pool.rendered()), table);
}

/// What cannot occur together, which would never move.
const IMPOSSIBLE: [(&str, &str); 7] = [
    ("tenure_transactions_total", r#",kind="snapshot",outcome="rollback""#),
    ("tenure_transactions_total", r#",kind="group",outcome="panic""#),
    ("tenure_connections_closed_total", r#",role="write",reason="idle""#),
    ("tenure_connections_closed_total", r#",role="write",reason="resized""#),
    ("tenure_busy_wait_seconds", r#",op="checkpoint""#),
    ("tenure_busy_retries_total", r#",op="checkpoint""#),
    ("tenure_busy_timeouts_total", r#",op="checkpoint""#),
];

#[test]
fn every_series_is_there_before_anything_happens() {
    let pool = Recorded::with(Pool::builder().name("from-zero"));
    let page = pool.rendered();
    for metric in METRICS.iter().filter(|metric| metric.name != "tenure_info") {
        let mut series = vec![String::new()];
        for (label, values) in metric.labels {
            series = series
                .iter()
                .flat_map(|so_far| values.iter().map(move |v| format!("{so_far},{label}=\"{v}\"")))
                .collect();
        }
        // Of pools of something else.
        for labels in series.iter().filter(|labels| !labels.contains("role=\"any\"")) {
            let suffix = if metric.kind == MetricKind::Histogram { "_count" } else { "" };
            let start = format!("{}{suffix}{{pool=\"from-zero\"{labels}}} ", metric.name);
            let line = page.lines().find(|line| line.starts_with(&start));
            if IMPOSSIBLE.contains(&(metric.name, labels)) {
                assert_eq!(line, None);
                continue;
            }
            let line = line.unwrap_or_else(|| panic!("{start} is missing in\n{page}"));
            let opening = [
                "tenure_connections",
                "tenure_connections_max",
                "tenure_connections_opened_total",
                "tenure_connect_seconds",
            ];
            if !opening.contains(&metric.name) {
                assert!(line.ends_with(" 0"), "{line}");
            }
        }
    }
}

#[test]
fn the_info_names_what_is_in_use() {
    let builder = Pool::builder()
        .journal_mode(tenure::JournalMode::Persist)
        .synchronous(tenure::Synchronous::Extra);
    let pool = Recorded::with(builder);
    let version = tenure::rusqlite::version();
    let sql = "SELECT count(*) FROM pragma_compile_options WHERE compile_options = 'ENABLE_MEMORY_MANAGEMENT'";
    let shared: bool = pool.read().unwrap().query_one(sql, [], |row| row.get(0)).unwrap();
    let labels = [
        ("version", env!("CARGO_PKG_VERSION")),
        ("sqlite", version),
        ("journal_mode", "persist"),
        ("synchronous", "extra"),
        ("page_cache", if shared { "shared" } else { "per_connection" }),
    ];
    assert_eq!(pool.value("tenure_info", &labels), 1.0);
    assert_eq!(pool.value("tenure_info", &[]), 1.0, "there is one");

    let info = METRICS.iter().find(|metric| metric.name == "tenure_info").unwrap();
    for ((name, allowed), (label, value)) in info.labels.iter().zip(labels) {
        assert_eq!(*name, label);
        assert!(allowed.is_empty() || allowed.contains(&value), "{label}={value}");
    }
}

#[test]
fn a_read_only_pool_shows_the_journal_mode_of_the_file() {
    let directory = tempfile::tempdir().unwrap();
    for (mode, shown) in
        [(tenure::JournalMode::Wal, "wal"), (tenure::JournalMode::Delete, "delete")]
    {
        let path = directory.path().join(shown);
        let _writing = Pool::builder().database(&path).journal_mode(mode).open().unwrap();
        let reading = Recorded::opened(|| {
            Pool::builder().database(&path).access(tenure::Access::ReadOnly).open().unwrap()
        });
        assert_eq!(reading.value("tenure_info", &[("journal_mode", shown)]), 1.0);
    }
}

#[test]
fn who_has_waited_and_who_has_held_longest_is_seen_while_it_lasts() {
    let pool = Recorded::new();
    let oldest =
        |what: &str, role| pool.value(&format!("tenure_oldest_{what}_seconds"), &[("role", role)]);
    assert_eq!((oldest("waiter", "write"), oldest("hold", "write")), (0.0, 0.0));
    let held = pool.write_owned().unwrap().detach();
    std::thread::scope(|scope| {
        scope.spawn(|| drop(pool.write().unwrap()));
        until("the wait shows", || oldest("waiter", "write") > 0.02);
        // Both go on, and each for its role.
        let before = (oldest("waiter", "write"), oldest("hold", "write"));
        assert!(before.1 >= before.0 - 0.011, "held since before the wait: {before:?}");
        until("both go on", || {
            oldest("waiter", "write") > before.0 && oldest("hold", "write") > before.1
        });
        assert_eq!((oldest("waiter", "read"), oldest("hold", "read")), (0.0, 0.0));
        drop(held);
    });
    assert_eq!((oldest("waiter", "write"), oldest("hold", "write")), (0.0, 0.0));
}

#[test]
fn every_connect_is_measured() {
    let pool = Recorded::with(Pool::builder().readers(3));
    for role in ["read", "write"] {
        let opened = pool.value("tenure_connections_opened_total", &[("role", role)]);
        let connects = pool.value("tenure_connect_seconds_count", &[("role", role)]);
        assert_eq!(connects, opened);
    }
    assert!(pool.value("tenure_connect_seconds_sum", &[("role", "read")]) > 0.0);
}

#[test]
fn statements_from_the_cache_are_told_from_those_that_were_prepared() {
    let pool = Recorded::with(Pool::builder().readers(1).statement_cache(2));
    let requests = |role, result| {
        let labels = [("role", role), ("result", result)];
        pool.value("tenure_statement_cache_requests_total", &labels)
    };
    pool.write().unwrap().execute_batch("CREATE TABLE task (n INTEGER)").unwrap();
    let reader = pool.read().unwrap();
    let prepare = |sql| drop(reader.prepare_cached(sql).unwrap());
    prepare("SELECT 1");
    // Never run, and a hit all the same.
    prepare("SELECT 1");
    assert_eq!((requests("read", "hit"), requests("read", "miss")), (1.0, 1.0));
    // In use, so another is prepared.
    let first = reader.prepare_cached("SELECT 1").unwrap();
    let second = reader.prepare_cached("SELECT 1").unwrap();
    drop((first, second));
    assert_eq!((requests("read", "hit"), requests("read", "miss")), (2.0, 2.0));
    // Pushed out, and what is prepared without the cache in between does not count.
    prepare("SELECT 2");
    prepare("SELECT 3");
    drop(reader.prepare("SELECT 1").unwrap());
    prepare("SELECT 1");
    prepare("SELECT 1");
    assert_eq!((requests("read", "hit"), requests("read", "miss")), (3.0, 5.0));
    // A change of the schema has the statement prepared again inside SQLite: it is the same one.
    pool.write().unwrap().execute_batch("CREATE TABLE other (n INTEGER)").unwrap();
    reader.prepare_cached("SELECT 1").unwrap().query_one([], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!((requests("read", "hit"), requests("read", "miss")), (4.0, 5.0));
    reader.prepare_cached("SELECT wrong").map(drop).unwrap_err();
    assert_eq!((requests("read", "hit"), requests("read", "miss")), (4.0, 5.0), "there was none");
    drop(reader);
    assert_eq!(
        (requests("write", "hit"), requests("write", "miss")),
        (0.0, 0.0),
        "those of the pool's own"
    );

    // What a connection had counted outlives it.
    let select = || pool.transaction(|tx| Ok(tx.prepare_cached("SELECT 1").map(drop)?));
    select().unwrap();
    let writer = pool.write().unwrap();
    writer.execute_batch("PRAGMA temp_store = MEMORY").unwrap();
    drop(writer);
    until("another is opened", || pool.status().write.unwrap().idle == 1);
    select().unwrap();
    assert_eq!(
        pool.value("tenure_connections_closed_total", &[("role", "write"), ("reason", "broken")]),
        1.0
    );
    assert_eq!((requests("write", "hit"), requests("write", "miss")), (0.0, 2.0));
}

#[test]
fn names_types_and_help_follow_the_conventions() {
    let page = Recorded::new().rendered();
    for metric in METRICS {
        assert!(metric.help.ends_with('.') && metric.help.len() > 20, "{}", metric.name);
        assert!(
            page.contains(&format!("# HELP {} {}", metric.name, metric.help)),
            "{}",
            metric.name
        );
        assert!(metric.advice.ends_with('.') && metric.advice.len() > 20, "{}", metric.name);
        assert_eq!(
            metric.name.ends_with("_total"),
            metric.kind == MetricKind::Counter,
            "{}",
            metric.name
        );
        assert_eq!(
            metric.name.ends_with("_seconds"),
            metric.unit == Unit::Seconds,
            "{}",
            metric.name
        );
    }
}

#[test]
fn counts_are_exact() {
    let pool = Recorded::with(Pool::builder().readers(2).hold_sampling(1));
    pool.write().unwrap().execute_batch("CREATE TABLE task (n INTEGER)").unwrap();
    for n in 0..7 {
        pool.transaction(|tx| Ok(tx.execute("INSERT INTO task VALUES (?1)", [n])?)).unwrap();
    }
    for _ in 0..3 {
        let _ = pool.transaction(|_| Err::<(), _>(Error::other("no")));
    }
    for _ in 0..5 {
        pool.snapshot(|_| Ok(())).unwrap();
    }
    let held = pool.read().unwrap();
    let writer = pool.write().unwrap();
    assert!(pool.try_write().is_err());

    assert_eq!(pool.transactions("immediate", "commit"), 7.0);
    assert_eq!(pool.transactions("immediate", "rollback"), 3.0);
    assert_eq!(pool.transactions("snapshot", "commit"), 5.0);
    assert_eq!(pool.value("tenure_transaction_seconds_count", &[("kind", "immediate")]), 10.0);
    assert_eq!(pool.checkouts("write", "immediate"), 12.0);
    assert_eq!(pool.checkouts("write", "unavailable"), 1.0);
    assert_eq!(pool.checkouts("read", "immediate"), 6.0);
    assert_eq!(pool.value("tenure_hold_seconds_count", &[("role", "write")]), 11.0);
    let connections =
        |role, state| pool.value("tenure_connections", &[("role", role), ("state", state)]);
    assert_eq!((connections("read", "idle"), connections("read", "used")), (1.0, 1.0));
    assert_eq!((connections("write", "idle"), connections("write", "used")), (0.0, 1.0));
    drop((held, writer));
    assert_eq!((connections("read", "used"), connections("write", "used")), (0.0, 0.0));
    assert_eq!(pool.value("tenure_connections_max", &[("role", "read")]), 2.0);
}

#[test]
fn waits_in_vain_are_in_the_histogram_too() {
    let pool = Recorded::new();
    let _writer = pool.write_owned().unwrap().detach();
    pool.write_timeout(std::time::Duration::from_millis(1)).unwrap_err();
    assert_eq!(pool.checkouts("write", "timeout"), 1.0);
    assert_eq!(pool.value("tenure_checkout_wait_seconds_count", &[("role", "write")]), 1.0);
    assert_eq!(pool.value("tenure_checkout_wait_seconds_count", &[("role", "read")]), 0.0);
}

#[test]
fn so_are_waits_that_were_ended_but_no_refusal_at_once() {
    let waits =
        |pool: &Recorded, role| pool.value("tenure_checkout_wait_seconds_count", &[("role", role)]);
    let pool = Recorded::new();
    let writer = pool.write_owned().unwrap().detach();
    thread::scope(|scope| {
        let waiter = scope.spawn(|| pool.write().map(drop).unwrap_err().kind());
        until("it waits", || pool.status().write.unwrap().waiting.len() == 1);
        pool.close(Duration::ZERO).unwrap_err();
        assert_eq!(waiter.join().unwrap(), CheckoutErrorKind::Closed);
    });
    pool.write().map(drop).unwrap_err();
    assert_eq!(pool.checkouts("write", "closed"), 2.0);
    assert_eq!(waits(&pool, "write"), 1.0);
    drop(writer);

    // A thread waits in vain for what it holds itself: at once, and after the limit was lowered.
    let pool = Recorded::with(Pool::builder().readers(3));
    thread::scope(|scope| {
        let other = pool.read_owned().unwrap().detach();
        let waiter = scope.spawn(|| {
            let _held = [pool.read().unwrap(), pool.read().unwrap()];
            pool.read().map(drop).unwrap_err().kind()
        });
        until("it waits", || pool.status().read.waiting.len() == 1);
        pool.resize(2).unwrap();
        assert_eq!(waiter.join().unwrap(), CheckoutErrorKind::WouldDeadlock);
        drop(other);
    });
    assert_eq!((pool.checkouts("read", "deadlock"), waits(&pool, "read")), (1.0, 1.0));
    let _writer = pool.write().unwrap();
    assert_eq!(pool.write().map(drop).unwrap_err().kind(), CheckoutErrorKind::WouldDeadlock);
    assert_eq!((pool.checkouts("write", "deadlock"), waits(&pool, "write")), (1.0, 0.0));
}

#[test]
fn one_hold_in_so_many_is_timed() {
    for (sampling, timed) in [(0, 0.0), (1, 40.0), (8, 5.0)] {
        let pool = Recorded::with(Pool::builder().hold_sampling(sampling));
        for _ in 0..40 {
            drop(pool.write().unwrap());
        }
        assert_eq!(pool.value("tenure_hold_seconds_count", &[("role", "write")]), timed);
        assert_eq!(pool.checkouts("write", "immediate"), 40.0, "all are counted");
    }
}

#[test]
fn switched_off_nothing_is_recorded() {
    let pool = Recorded::with(Pool::builder().metrics(false));
    pool.transaction(|_| Ok(())).unwrap();
    assert_eq!(pool.rendered(), "");
    let _writer = pool.write().unwrap();
    assert_eq!(pool.status().write.unwrap().held.len(), 1, "the status does not depend on it");
}

#[test]
fn what_is_counted_when_the_pool_ends_is_not_lost() {
    let pool = Recorded::new();
    let reader = pool.read_owned().unwrap();
    drop(pool.write().unwrap());
    let page = pool.rendered_after_the_end();
    drop(reader);
    let counted = |line: &&str| {
        line.starts_with("tenure_checkouts_total")
            && line.contains("immediate")
            && line.ends_with(" 1")
    };
    assert_eq!(page.lines().filter(counted).count(), 2, "{page}");
}

/// The gauges but `tenure_info` that are not 0.
fn gauges(page: &str) -> Vec<String> {
    let is_gauge = |line: &str| {
        let name = line.split('{').next().unwrap();
        METRICS.iter().any(|metric| {
            metric.name == name && metric.kind == MetricKind::Gauge && name != "tenure_info"
        })
    };
    let lines = page.lines().filter(|line| is_gauge(line) && !line.ends_with(" 0"));
    lines.map(|line| line.split('{').next().unwrap().to_owned()).collect()
}

#[test]
fn every_gauge_is_published_with_all_pools_and_shows_nothing_of_one_that_has_ended() {
    let pool = Recorded::with(Pool::builder().long_held_after(Duration::from_millis(1)).readers(1));
    pool.write().unwrap().execute_batch("CREATE TABLE task (title TEXT)").unwrap();
    let page = thread::scope(|scope| {
        let mut reader = pool.read().unwrap();
        let snapshot = reader.snapshot().unwrap();
        snapshot.query_one("SELECT count(*) FROM task", [], |row| row.get::<_, i64>(0)).unwrap();
        scope.spawn(|| drop(pool.read().unwrap()));
        until("another waits", || pool.status().read.waiting.len() == 1);
        let writer = pool.write().unwrap();
        for _ in 0..2 {
            scope.spawn(|| pool.group_commit(|_| Ok(())).unwrap());
        }
        until("one waits to lead and one to share", || {
            pool.status().group_commit.waiting.len() == 1
        });
        until("it is held for long", || {
            pool.status().read.held[0].held >= Duration::from_millis(20)
        });
        let page = pool.rendered_with_all();
        drop((snapshot, writer));
        drop(reader);
        page
    });
    let seen = gauges(&page);
    for name in [
        "tenure_connections",
        "tenure_connections_max",
        "tenure_waiters",
        "tenure_oldest_waiter_seconds",
        "tenure_oldest_hold_seconds",
        "tenure_long_held",
        "tenure_wal_bytes",
        "tenure_wal_frames",
        "tenure_oldest_snapshot_seconds",
        "tenure_group_commit_waiters",
    ] {
        assert!(seen.iter().any(|seen| seen == name), "{name} in {page}");
    }
    let page = pool.rendered_after_the_end();
    assert_eq!(gauges(&page), Vec::<String>::new(), "{page}");
}

#[test]
fn two_pools_never_share_a_name() {
    let directory = tempfile::tempdir().unwrap();
    let open = |sub: &str| {
        let sub = directory.path().join(sub);
        std::fs::create_dir(&sub).unwrap();
        Pool::open(sub.join("same-name.db")).unwrap()
    };
    let (one, other) = (open("a"), open("b"));
    assert_eq!((one.name(), other.name()), ("same-name", "same-name-2"));
    let long = Pool::open(directory.path().join(format!("{}.db", "x".repeat(100)))).unwrap();
    assert_eq!(long.name().len(), 64);
    drop(one);

    let named = || testing::temporary_with(Pool::builder().name("given by hand"));
    let first = named().unwrap();
    let error = named().unwrap_err();
    assert!(matches!(error, tenure::OpenError::NameTaken { .. }), "{error}");
    drop(first);
    named().unwrap();
}
