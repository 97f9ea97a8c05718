//! After a run under load the page, the status and the test's own tally agree exactly.

use std::ops::AddAssign;
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use tenure::{CheckoutErrorKind, Error, Pool};

use crate::page::Page;
use crate::{EXPORTER, alone};

const POOL: &str = "load";
const THREADS: u32 = 16;
const ROUNDS: u32 = 400;

/// What the threads have done and been told.
#[derive(Debug, Default)]
struct Tally {
    reads: u64,
    writes: u64,
    unavailable: u64,
    timeouts: u64,
    committed: u64,
    rolled_back: u64,
    grouped: u64,
    snapshots: u64,
    prepared: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.reads += other.reads;
        self.writes += other.writes;
        self.unavailable += other.unavailable;
        self.timeouts += other.timeouts;
        self.committed += other.committed;
        self.rolled_back += other.rolled_back;
        self.grouped += other.grouped;
        self.snapshots += other.snapshots;
        self.prepared += other.prepared;
    }
}

fn work(pool: &Pool, thread: u32) -> Tally {
    let mut tally = Tally::default();
    for round in 0..ROUNDS {
        match (thread + round) % 8 {
            0 => {
                let insert = |tx: &mut tenure::Transaction<'_>| {
                    Ok(tx.prepare_cached("INSERT INTO task VALUES (?1)")?.execute([round])?)
                };
                pool.transaction(insert).unwrap();
                tally.committed += 1;
                tally.writes += 1;
            }
            1 => {
                pool.transaction(|_| Err::<(), _>(Error::other("no"))).unwrap_err();
                tally.rolled_back += 1;
                tally.writes += 1;
            }
            2 => {
                pool.group_commit(move |tx| {
                    Ok(tx.execute("INSERT INTO task VALUES (?1)", [round])?)
                })
                .unwrap();
                tally.grouped += 1;
            }
            3 => {
                pool.snapshot(|_| Ok(())).unwrap();
                tally.snapshots += 1;
                tally.reads += 1;
            }
            4 => match pool.try_read() {
                Ok(_) => tally.reads += 1,
                Err(error) => {
                    assert_eq!(error.kind(), CheckoutErrorKind::Unavailable);
                    tally.unavailable += 1;
                }
            },
            5 => match pool.read_timeout(Duration::from_micros(50)) {
                Ok(_) => tally.reads += 1,
                Err(error) => {
                    assert_eq!(error.kind(), CheckoutErrorKind::Timeout);
                    tally.timeouts += 1;
                }
            },
            _ => {
                let reader = pool.read().unwrap();
                let sql = if round % 2 == 0 { "SELECT max(n) FROM task" } else { "SELECT 1" };
                reader.prepare_cached(sql).unwrap().exists([]).unwrap();
                tally.prepared += 1;
                tally.reads += 1;
            }
        }
    }
    tally
}

#[test]
fn page_status_and_tally_agree() {
    let _alone = alone();
    let builder = Pool::builder().name(POOL).readers(3).hold_sampling(1);
    let pool = tenure::testing::temporary_with(builder).unwrap();
    pool.write().unwrap().execute_batch("CREATE TABLE task (n INTEGER)").unwrap();
    let mut tally = Tally { writes: 1, ..Tally::default() };
    let start = Barrier::new(THREADS as usize);
    thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let (pool, start) = (&pool, &start);
                scope.spawn(move || {
                    start.wait();
                    work(pool, thread)
                })
            })
            .collect();
        // In the middle of it as well.
        for _ in 0..20 {
            EXPORTER.render();
        }
        for thread in threads {
            tally += thread.join().unwrap();
        }
    });

    // While some are held.
    let reader = pool.read().unwrap();
    let writer = pool.write().unwrap();
    tally.reads += 1;
    tally.writes += 1;
    let (status, page) = (pool.status(), Page::of(&EXPORTER));
    for (role, status) in [("read", &status.read), ("write", status.write.as_ref().unwrap())] {
        let gauge = |name: &str, state: &[(&str, &str)]| {
            page.count(name, &[&[("pool", POOL), ("role", role)], state].concat()) as usize
        };
        assert_eq!(gauge("tenure_connections", &[("state", "used")]), status.held.len());
        assert_eq!(gauge("tenure_connections", &[("state", "idle")]), status.idle);
        assert_eq!(gauge("tenure_connections_max", &[]), status.limit);
        assert_eq!(gauge("tenure_waiters", &[]), status.waiting.len());
        assert_eq!((status.held.len(), status.waiting.len()), (1, 0));
        let seconds = page.sum("tenure_oldest_hold_seconds", &[("pool", POOL), ("role", role)]);
        let held = status.held[0].held.as_secs_f64();
        // The page was rendered after the status was taken.
        assert!(seconds >= held, "{role}: {seconds} {held}");
    }
    drop((reader, writer));

    let page = Page::of(&EXPORTER);
    let checkouts = |role: &str, outcome: &str| {
        let labels = [("pool", POOL), ("role", role), ("outcome", outcome)];
        page.count("tenure_checkouts_total", &labels)
    };
    let transactions = |kind: &str, outcome: &str| {
        let labels = [("pool", POOL), ("kind", kind), ("outcome", outcome)];
        page.count("tenure_transactions_total", &labels)
    };
    let of = |name: &str, role: &str| page.count(name, &[("pool", POOL), ("role", role)]);
    let served = |role: &str| checkouts(role, "immediate") + checkouts(role, "waited");
    // A batch of a group commit is one transaction, on one checkout.
    let batches = transactions("group", "commit");
    assert_eq!(served("read"), tally.reads);
    assert_eq!(served("write"), tally.writes + batches);
    assert_eq!(checkouts("read", "unavailable"), tally.unavailable);
    assert_eq!(checkouts("read", "timeout"), tally.timeouts);
    for role in ["read", "write"] {
        for never in ["deadlock", "overloaded", "connect_failed", "damaged", "closed"] {
            assert_eq!(checkouts(role, never), 0, "{role} {never}");
        }
        let waits = checkouts(role, "waited") + checkouts(role, "timeout");
        assert_eq!(of("tenure_checkout_wait_seconds_count", role), waits);
        assert_eq!(of("tenure_hold_seconds_count", role), served(role), "every hold is timed");
        assert_eq!(of("tenure_nested_checkouts_total", role), u64::from(role == "write"));
        let connects = of("tenure_connect_seconds_count", role);
        assert_eq!(of("tenure_connections_opened_total", role), connects);
    }
    assert_eq!(transactions("immediate", "commit"), tally.committed);
    assert_eq!(transactions("immediate", "rollback"), tally.rolled_back);
    assert_eq!(transactions("snapshot", "commit"), tally.snapshots);
    let whole = [("pool", POOL), ("outcome", "commit")];
    assert_eq!(page.count("tenure_group_commits_total", &whole), tally.grouped);
    assert_eq!(page.count("tenure_group_commit_size_sum", &[("pool", POOL)]), tally.grouped);
    assert_eq!(page.count("tenure_group_commit_size_count", &[("pool", POOL)]), batches);
    assert_eq!(of("tenure_statement_cache_requests_total", "read"), tally.prepared);
    let inserts = tally.committed + tally.grouped;
    assert_eq!(of("tenure_statement_cache_requests_total", "write"), inserts);
    let rows: u32 =
        pool.read().unwrap().query_one("SELECT count(*) FROM task", [], |row| row.get(0)).unwrap();
    assert_eq!(u64::from(rows), tally.committed + tally.grouped);
}
