//! What is exported is what the table says, from 0 on, and exact.

use std::collections::BTreeSet;

use metrics::Unit;
use tenure::metrics::{METRICS, MetricKind};
use tenure::{Error, Pool, testing};

use crate::recorded::Recorded;

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

#[test]
fn every_series_is_there_before_anything_happens() {
    let pool = Recorded::with(Pool::builder().name("from-zero"));
    let page = pool.rendered();
    for metric in METRICS {
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
            let line = line.unwrap_or_else(|| panic!("{start} is missing in\n{page}"));
            let opening =
                ["tenure_connections", "tenure_connections_max", "tenure_connections_opened_total"];
            if !opening.contains(&metric.name) {
                assert!(line.ends_with(" 0"), "{line}");
            }
        }
    }
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
        assert!(
            metric.kind != MetricKind::Histogram || metric.unit == Unit::Seconds,
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
    drop(one);

    let named = || testing::temporary_with(Pool::builder().name("given by hand"));
    let first = named().unwrap();
    let error = named().unwrap_err();
    assert!(matches!(error, tenure::OpenError::NameTaken { .. }), "{error}");
    drop(first);
    named().unwrap();
}
