//! Checkpoints are made beside the writers: the WAL stays within its limit, no committer waits for a
//! reader, and who keeps the WAL from starting over is named.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tenure::rusqlite::hooks::Wal;
use tenure::{
    Access, AfterRaw, Builder, Checkpoints, JournalMode, OpenError, Pool, Role, Synchronous,
    WriteGuard, testing,
};

use crate::logged::warnings_of_all_threads;
use crate::recorded::Recorded;
use crate::until::{LONG, until};

const MIB: u64 = 1 << 20;

/// The least limit there is.
fn small() -> Builder {
    Pool::builder().wal_limit_mib(4).synchronous(Synchronous::Normal).readers(2)
}

fn pool(builder: Builder) -> Recorded {
    let pool = Recorded::with(builder);
    pool.write().unwrap().execute_batch("CREATE TABLE task (title TEXT, body BLOB)").unwrap();
    pool
}

fn wal(pool: &Pool) -> PathBuf {
    pool.config().database.clone().unwrap().with_file_name("temporary.db-wal")
}

fn wal_bytes(pool: &Pool) -> u64 {
    wal(pool).metadata().map_or(0, |found| found.len())
}

/// A commit of ten pages or so.
fn commit(pool: &Pool) {
    let insert = "INSERT INTO task VALUES ('a', zeroblob(36000))";
    pool.transaction(|tx| Ok(tx.execute(insert, [])?)).unwrap();
}

fn frames(pool: &Recorded, state: &str) -> f64 {
    pool.value("tenure_wal_frames", &[("state", state)])
}

fn checkpoints(pool: &Recorded, mode: &str, outcome: &str) -> f64 {
    pool.value("tenure_checkpoints_total", &[("mode", mode), ("outcome", outcome)])
}

fn timed(work: impl FnOnce()) -> Duration {
    let began = Instant::now();
    work();
    began.elapsed()
}

fn median(times: &[Duration]) -> Duration {
    let mut times = times.to_vec();
    times.sort();
    times[times.len() / 2]
}

/// Commits from several threads, so many in all; returns how large the WAL was at most.
fn load(pool: &Pool, commits: u64) -> u64 {
    load_of(pool, 4, commits, || commit(pool))
}

fn load_of(pool: &Pool, threads: usize, commits: u64, commit: impl Fn() + Sync) -> u64 {
    let (left, largest) = (AtomicU64::new(commits), AtomicU64::new(0));
    let claim = || {
        let claim = |left: u64| left.checked_sub(1);
        left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, claim).is_ok()
    };
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while claim() {
                    commit();
                    largest.fetch_max(wal_bytes(pool), Ordering::Relaxed);
                }
            });
        }
    });
    largest.into_inner()
}

#[test]
fn the_wal_stays_within_its_limit_while_many_write() {
    let pool = pool(small());
    // 72 MiB.
    let largest = load(&pool, 2_000);
    assert!(largest <= 4 * MIB, "{largest} bytes");
    assert!(checkpoints(&pool, "in_turn", "complete") >= 10.0);
    assert_eq!(frames(&pool, "total").min(1024.0), frames(&pool, "total"));
    let rows: i64 =
        pool.read().unwrap().query_one("SELECT count(*) FROM task", [], |row| row.get(0)).unwrap();
    assert_eq!(rows, 2_000);
    assert_eq!(pool.value("tenure_wal_bytes", &[]), wal_bytes(&pool) as f64);
}

/// The load beside so many readers; returns how large the WAL was at most.
fn beside(pool: &Pool, readers: usize, read: impl Fn(&AtomicBool) + Sync) -> u64 {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..readers {
            scope.spawn(|| read(&done));
        }
        let largest = load(pool, 2_000);
        done.store(true, Ordering::Relaxed);
        largest
    })
}

/// How large the WAL becomes beside snapshots that are open for 25 ms each.
fn largest_beside_snapshots() -> u64 {
    let pool = pool(small().wal_limit_mib(16).readers(3));
    beside(&pool, 3, |done| {
        while !done.load(Ordering::Relaxed) {
            pool.snapshot(|view| {
                view.query_one("SELECT count(*) FROM task", [], |row| row.get::<_, i64>(0))?;
                // Others find it open for so long.
                thread::sleep(Duration::from_millis(25));
                Ok(())
            })
            .unwrap();
        }
    })
}

#[test]
fn the_wal_stays_within_its_limit_while_snapshots_overlap() {
    // Nobody who commits waits for a reader. So it may pass its limit where threads are kept from their
    // cores for so long that there is no gap between snapshots: that may happen, and not each time.
    let mut runs = std::iter::repeat_with(largest_beside_snapshots).take(3);
    assert!(runs.any(|largest| largest <= 16 * MIB), "never");
}

#[test]
fn the_wal_stays_within_its_limit_beside_one_who_keeps_the_writer() {
    let pool = pool(small());
    let mut writer = pool.write().unwrap();
    let mut largest = 0;
    for _ in 0..500 {
        let tx = writer.transaction().unwrap();
        tx.execute("INSERT INTO task VALUES ('a', zeroblob(36000))", []).unwrap();
        tx.commit().unwrap();
        largest = largest.max(wal_bytes(&pool));
    }
    assert!(largest <= 4 * MIB, "{largest} bytes");
    for _ in 0..500 {
        let insert = "INSERT INTO task VALUES ('a', zeroblob(36000)) RETURNING title";
        writer.query_row(insert, [], |row| row.get::<_, String>(0)).unwrap();
        largest = largest.max(wal_bytes(&pool));
    }
    assert!(largest <= 4 * MIB, "{largest} bytes, where statements return rows");
}

/// How large the WAL becomes while a turn takes long to come.
fn largest_beside_a_long_queue(builder: Builder, then: impl Fn(&WriteGuard<'_>) + Sync) -> u64 {
    let pool = pool(builder.wal_limit_mib(16));
    load_of(&pool, 8, 600, || {
        let mut writer = pool.write().unwrap();
        let tx = writer.transaction().unwrap();
        tx.execute("INSERT INTO task VALUES ('a', zeroblob(36000))", []).unwrap();
        tx.commit().unwrap();
        thread::sleep(Duration::from_millis(2));
        then(&writer);
    })
}

#[test]
fn the_wal_starts_over_early_however_long_the_queue_for_the_writer_is() {
    let largest = largest_beside_a_long_queue(small(), |_| {});
    assert!(largest <= 8 * MIB, "{largest} bytes, and 24 MiB were written");
}

#[test]
fn the_wal_starts_over_early_where_each_holder_has_the_writer_opened_anew() {
    let discards = small().after_raw(AfterRaw::Discard);
    let largest = largest_beside_a_long_queue(discards, |writer| {
        writer.rusqlite().is_autocommit();
    });
    assert!(largest <= 8 * MIB, "{largest} bytes, and 24 MiB were written");
}

#[test]
fn a_writer_that_is_kept_and_not_used_is_not_waited_for_all_the_time() {
    let pool = pool(small());
    let waiting = || pool.status().write.unwrap().waiting;
    let mut writer = pool.write().unwrap();
    for _ in 0..12 {
        let tx = writer.transaction().unwrap();
        tx.execute("INSERT INTO task VALUES ('a', zeroblob(36000))", []).unwrap();
        tx.commit().unwrap();
    }
    until("a turn is waited for", || waiting().len() == 1);
    until("it is given up", || waiting().is_empty());
    drop(writer);
    // Be it because all was in the database when somebody wrote.
    until("it starts over", || {
        commit(&pool);
        frames(&pool, "total") < 100.0
    });
}

#[test]
fn a_full_queue_does_not_keep_them_from_their_turn() {
    let pool = pool(small().max_waiters(1));
    let waiting = || pool.status().write.unwrap().waiting;
    let mut writer = pool.write().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| drop(pool.write_timeout(LONG).unwrap()));
        until("the queue is full", || waiting().len() == 1);
        for _ in 0..30 {
            let tx = writer.transaction().unwrap();
            tx.execute("INSERT INTO task VALUES ('a', zeroblob(36000))", []).unwrap();
            tx.commit().unwrap();
        }
        until("they stand in line", || {
            waiting().iter().any(|waiter| waiter.thread == "tenure-checkpoints")
        });
        drop(writer);
    });
    until("they had their turn", || checkpoints(&pool, "in_turn", "complete") > 0.0);
}

#[test]
fn the_wal_stays_within_its_limit_while_short_reads_overlap() {
    let pool = pool(small().wal_limit_mib(16).readers(4));
    let largest = beside(&pool, 4, |done| {
        let count = "SELECT count(*) FROM (SELECT 1 FROM task LIMIT 20)";
        while !done.load(Ordering::Relaxed) {
            let reader = pool.read().unwrap();
            reader.query_one(count, [], |row| row.get::<_, i64>(0)).unwrap();
        }
    });
    assert!(largest <= 16 * MIB, "{largest} bytes");
    for mode in ["passive", "in_turn"] {
        assert_eq!(checkpoints(&pool, mode, "error"), 0.0, "{mode}");
    }
}

#[test]
fn the_wal_stays_within_its_limit_beside_short_reads_of_guards_that_are_kept() {
    let pool = pool(small().wal_limit_mib(16).readers(4));
    let largest = beside(&pool, 4, |done| {
        let reader = pool.read().unwrap();
        while !done.load(Ordering::Relaxed) {
            let of_ten_milliseconds = |row: &rusqlite::Row<'_>| {
                thread::sleep(Duration::from_millis(10));
                row.get::<_, i64>(0)
            };
            reader
                .query_one(
                    "SELECT count(*) FROM (SELECT 1 FROM task LIMIT 1)",
                    [],
                    of_ten_milliseconds,
                )
                .unwrap();
        }
    });
    assert!(largest <= 16 * MIB, "{largest} bytes");
}

#[test]
fn what_is_left_is_checkpointed_when_nobody_writes() {
    let pool = pool(Pool::builder());
    commit(&pool);
    assert!(frames(&pool, "total") > 0.0);
    until("all of it is in the database", || {
        frames(&pool, "checkpointed") == frames(&pool, "total")
    });
    assert_eq!(checkpoints(&pool, "in_turn", "complete"), 0.0, "nobody's turn was taken for that");
    let size = wal_bytes(&pool);
    assert!(size > 0, "its blocks are kept");
    commit(&pool);
    assert_eq!(wal_bytes(&pool), size, "and used again");
}

#[test]
fn a_reader_keeps_no_committer_waiting_and_is_named_when_the_wal_outgrows_its_limit() {
    warnings_of_all_threads();
    let pool = pool(small().name("held"));
    let mut reader = pool.read().unwrap();
    let snapshot = reader.snapshot().unwrap();
    let place = format!("checkpoints.rs:{}", line!() - 2);
    let times: Vec<_> = (0..200).map(|_| timed(|| commit(&pool))).collect();
    assert!(wal_bytes(&pool) > 4 * MIB);
    // Where each waited for the next look of the pool's thread it was 250.
    let (before, beyond) = (median(&times[..50]), median(&times[100..]));
    assert!(beyond < before * 20, "{before:?} became {beyond:?}");
    let named = || {
        let of_this = |entry: &crate::logged::Entry| {
            entry.field("pool") == "held" && entry.message().contains("grown past `wal_limit_mib`")
        };
        warnings_of_all_threads().into_iter().find(of_this)
    };
    until("the log says who", || named().is_some());
    let named = named().unwrap();
    assert!(named.field("place").contains(&place), "{named:?}");
    assert!(named.field("thread").contains("a_reader_keeps"), "{named:?}");
    drop(snapshot);
    drop(reader);
    until("the WAL starts over", || {
        commit(&pool);
        frames(&pool, "total") < 256.0
    });
    until("it is cut back", || wal_bytes(&pool) <= 4 * MIB);
    commit(&pool);
}

#[test]
fn an_old_snapshot_is_named() {
    warnings_of_all_threads();
    let pool = pool(Pool::builder().name("old").snapshot_warn_after(Duration::from_millis(1)));
    let age = || pool.value("tenure_oldest_snapshot_seconds", &[]);
    assert_eq!(age(), 0.0);
    pool.snapshot(|_| {
        let named = || {
            let of_this = |entry: &&crate::logged::Entry| {
                entry.field("pool") == "old" && entry.message().contains("`snapshot_warn_after`")
            };
            warnings_of_all_threads().iter().filter(of_this).cloned().collect::<Vec<_>>()
        };
        until("the log says so", || !named().is_empty());
        assert!(named()[0].field("place").contains("checkpoints.rs"), "{:?}", named());
        assert!(age() > 0.001);
        Ok(())
    })
    .unwrap();
    assert_eq!(age(), 0.0);
}

#[test]
fn the_writer_waits_for_no_checkpoint_unless_that_is_wanted() {
    let automatic = |builder: Builder| {
        let pool = pool(builder);
        let writer = pool.write().unwrap();
        writer.query_one("PRAGMA wal_autocheckpoint", [], |row| row.get::<_, i64>(0)).unwrap()
    };
    assert_eq!(automatic(Pool::builder()), 0);
    assert_eq!(automatic(Pool::builder().checkpoints(Checkpoints::Inline)), 1000);
    assert_eq!(automatic(Pool::builder().journal_mode(JournalMode::Delete)), 1000);
}

#[test]
fn inline_checkpoints_are_sqlites() {
    let pool = pool(small().checkpoints(Checkpoints::Inline));
    for _ in 0..300 {
        commit(&pool);
    }
    assert!(wal_bytes(&pool) < 5 * MIB);
    assert_eq!(checkpoints(&pool, "passive", "complete"), 0.0);
}

#[test]
fn a_wal_hook_of_on_connect_is_left_alone() {
    static CALLED: AtomicU64 = AtomicU64::new(0);
    let hook: fn(&Wal, i32) -> tenure::rusqlite::Result<()> = |wal, _| {
        CALLED.fetch_add(1, Ordering::Relaxed);
        wal.checkpoint()
    };
    let pool = pool(Pool::builder().on_connect(move |connection, _| {
        connection.wal_hook(Some(hook));
        Ok(())
    }));
    let before = CALLED.load(Ordering::Relaxed);
    commit(&pool);
    assert_eq!(CALLED.load(Ordering::Relaxed), before + 1);
}

#[test]
fn a_pragma_cannot_switch_them_off_for_the_next_holder() {
    let pool = pool(small());
    pool.write().unwrap().execute_batch("PRAGMA wal_autocheckpoint = 0").unwrap();
    let before = frames(&pool, "total");
    commit(&pool);
    assert!(frames(&pool, "total") > before, "its commit was not told");
}

#[test]
fn a_file_that_is_only_read_is_not_checkpointed() {
    let directory = tempfile::tempdir().unwrap();
    let database = directory.path().join("app.db");
    let writing = Pool::open(&database).unwrap();
    writing.write().unwrap().execute_batch("CREATE TABLE task (title TEXT)").unwrap();
    let reading = Recorded::opened(|| {
        Pool::builder().database(&database).access(Access::ReadOnly).open().unwrap()
    });
    drop(reading.read().unwrap());
    assert_eq!(checkpoints(&reading, "passive", "complete"), 0.0);
    reading.close(LONG).unwrap();
}

#[test]
fn a_pool_ends_in_the_middle_of_them() {
    for _ in 0..20 {
        let pool = pool(small());
        load(&pool, 60);
        let wal = wal(&pool);
        pool.close(LONG).unwrap();
        assert!(!wal.exists(), "a connection is still open");
    }
}

#[test]
fn an_on_connect_that_fails_for_them_alone_is_found_when_the_pool_is_opened() {
    let fails = |_: &mut rusqlite::Connection, role| match role {
        Role::Checkpoint => Err("no checkpoints".into()),
        _ => Ok(()),
    };
    let error = testing::temporary_with(Pool::builder().on_connect(fails)).unwrap_err();
    assert!(matches!(error, OpenError::Connect { role: "checkpoint", .. }), "{error}");
    let inline = Pool::builder().checkpoints(Checkpoints::Inline).on_connect(fails);
    testing::temporary_with(inline).unwrap();
}

#[test]
fn an_on_connect_that_fails_for_them_later_is_counted() {
    let fails = Arc::new(AtomicBool::new(false));
    let switch = Arc::clone(&fails);
    let pool = pool(small().on_connect(move |_, role| match role {
        Role::Checkpoint if switch.load(Ordering::Relaxed) => Err("not any more".into()),
        _ => Ok(()),
    }));
    fails.store(true, Ordering::Relaxed);
    (0..20).for_each(|_| commit(&pool));
    until("it is counted", || checkpoints(&pool, "passive", "error") > 0.0);
}

#[test]
fn the_wal_of_an_attached_database_is_left_to_who_commits() {
    let directory = tempfile::tempdir().unwrap();
    let attached = directory.path().join("aux.db");
    let made = rusqlite::Connection::open(&attached).unwrap();
    made.execute_batch("PRAGMA journal_mode = wal; CREATE TABLE note (body BLOB)").unwrap();
    let path = attached.to_str().unwrap().to_owned();
    let pool = pool(small().on_connect(move |connection, _| {
        connection.execute("ATTACH ?1 AS aux", [&path])?;
        Ok(())
    }));
    let told = frames(&pool, "total");
    for _ in 0..300 {
        let insert = "INSERT INTO aux.note VALUES (zeroblob(36000))";
        pool.transaction(|tx| Ok(tx.execute(insert, [])?)).unwrap();
    }
    let bytes = attached.with_file_name("aux.db-wal").metadata().unwrap().len();
    assert!(bytes < 5 * MIB, "{bytes} bytes, and 12 MiB were written");
    assert_eq!(frames(&pool, "total"), told, "they are not the pool's");
}
