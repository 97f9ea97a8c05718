//! Faults that the server makes in its own pool on request, so that alerts and dashboards can be seen
//! to show them: `--drill leak,deadlock`. `.ci/grafana` runs every one.
//!
//! Each goes on until the server stops, and what it does fails on purpose: its errors are of no
//! interest here, only in the metrics.

use std::panic::{self, AssertUnwindSafe};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};
use tenure::rusqlite::{self, Connection};
use tenure::{Error, Pool, WriteGuard};

#[path = "drill/leaks.rs"]
mod leaks;
#[path = "drill/leftovers.rs"]
mod leftovers;
#[path = "drill/second_pool.rs"]
mod second_pool;
#[path = "drill/wal.rs"]
mod wal;

/// A fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Drill {
    /// Every connection is in use, and others wait for one
    Saturation,
    /// Waits for connections end in vain
    Timeouts,
    /// Threads ask for what they hold themselves
    Deadlock,
    /// Somebody outside the pool holds the database's write lock
    Busy,
    /// The writer and a snapshot are held all the time
    Starvation,
    /// Guards are leaked
    Leak,
    /// Transactions end in every way
    Outcomes,
    /// Connections come back with something left over
    Leftovers,
    /// A second pool, with a rollback journal, is used beside others, closed and opened again
    SecondPool,
    /// Checkpoints of a second pool meet readers, locks and a WAL that was cut
    Wal,
    /// A second pool finds its database damaged
    Damage,
}

/// Until when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Until<'k>(pub(crate) &'k Receiver<()>);

impl Until<'_> {
    /// Waits; `false` when it is over.
    fn pause(self, milliseconds: u64) -> bool {
        let over = self.0.recv_timeout(Duration::from_millis(milliseconds));
        over == Err(RecvTimeoutError::Timeout)
    }
}

impl Drill {
    pub(crate) fn run(self, pool: &Pool, until: Until<'_>) {
        match self {
            Self::Saturation => saturation(pool, until),
            Self::Timeouts => timeouts(pool, until),
            Self::Deadlock => deadlock(pool, until),
            Self::Busy => busy(pool, until),
            Self::Starvation => starvation(pool, until),
            Self::Leak => leaks::run(pool, until),
            Self::Outcomes => outcomes(pool, until),
            Self::Leftovers => leftovers::run(pool, until),
            Self::SecondPool => second_pool::run(until),
            Self::Wal => wal::run(until),
            Self::Damage => second_pool::damage(until),
        }
    }
}

fn saturation(pool: &Pool, until: Until<'_>) {
    thread::scope(|scope| {
        for _ in 0..2 * pool.status().read.limit {
            scope.spawn(|| while pool.read().is_ok_and(|_held| until.pause(20)) {});
        }
        for _ in 0..3 {
            scope.spawn(|| while pool.write().is_ok_and(|_held| until.pause(20)) {});
            scope.spawn(|| while pool.group_commit(|_| Ok(())).is_ok() && until.pause(1) {});
        }
    });
}

fn timeouts(pool: &Pool, until: Until<'_>) {
    let patience = Duration::from_millis(20);
    while until.pause(400) {
        thread::scope(|scope| {
            let readers: Vec<_> = std::iter::from_fn(|| pool.try_read().ok()).collect();
            let writer = pool.write();
            drop(pool.try_write());
            // More than may wait at all: some are refused at once.
            for _ in 0..=pool.config().max_waiters.min(64) {
                scope.spawn(|| drop(pool.write_timeout(patience)));
                scope.spawn(|| drop(pool.read_timeout(patience)));
            }
            until.pause(60);
            drop((readers, writer));
        });
    }
}

fn deadlock(pool: &Pool, until: Until<'_>) {
    while until.pause(300) {
        let writer = pool.write();
        drop(pool.write());
        drop(writer);
        let readers: Vec<_> = std::iter::from_fn(|| pool.try_read().ok()).collect();
        drop(pool.read());
        drop(readers);
    }
}

/// Past the pool, but through SQLite: opening the file in any other way would cancel its locks.
fn outsider(pool: &Pool) -> rusqlite::Result<Connection> {
    Connection::open(pool.config().database.clone().unwrap_or_default())
}

fn busy(pool: &Pool, until: Until<'_>) {
    let Ok(outsider) = outsider(pool) else { return };
    let longer = pool.config().busy_timeout * 3 / 2;
    let longer = u64::try_from(longer.as_millis()).unwrap_or(u64::MAX);
    for round in 0_u64.. {
        if !until.pause(200) {
            return;
        }
        thread::scope(|scope| {
            let locked = outsider.execute_batch("BEGIN IMMEDIATE");
            scope.spawn(|| drop(pool.transaction(|_| Ok(()))));
            scope.spawn(|| pool.write().map(|writer| insert(&writer)));
            until.pause(if round % 4 == 3 { longer } else { 15 });
            drop(locked.and_then(|()| outsider.execute_batch("COMMIT")));
        });
    }
}

fn starvation(pool: &Pool, until: Until<'_>) {
    thread::scope(|scope| {
        scope.spawn(|| {
            let count = |view: &tenure::Snapshot<'_>| -> tenure::rusqlite::Result<i64> {
                view.query_one("SELECT count(*) FROM drill", [], |row| row.get(0))
            };
            pool.snapshot(|view| {
                count(view)?;
                while until.pause(100) {}
                Ok(())
            })
        });
        let writer = pool.write();
        scope.spawn(|| drop(pool.write_timeout(Duration::from_hours(1))));
        while until.pause(100) {}
        drop(writer);
    });
}

/// Whatever `work` panics with; nothing is printed.
fn panicking() -> ! {
    panic::resume_unwind(Box::new("a drill"))
}

fn insert(session: &tenure::Session) -> rusqlite::Result<usize> {
    session.execute("INSERT INTO drill (parent) VALUES (NULL)", [])
}

/// Breaks a constraint that is looked at by COMMIT.
const ORPHAN: &str = "INSERT INTO drill (parent) VALUES (-1)";

/// The table that drills write to.
pub(crate) fn set_up(pool: &Pool) -> Result<(), Error> {
    pool.write()?.execute_batch(
        "CREATE TABLE IF NOT EXISTS drill (
             id INTEGER PRIMARY KEY,
             parent INTEGER REFERENCES drill (id) DEFERRABLE INITIALLY DEFERRED
         ) STRICT",
    )?;
    Ok(())
}

fn outcomes(pool: &Pool, until: Until<'_>) {
    let Ok(outsider) = outsider(pool) else { return };
    while until.pause(250) {
        let refused = || Error::other(std::io::Error::other("a drill"));
        drop(pool.transaction(|tx| Ok(insert(tx)?)));
        drop(pool.transaction(|_| Err::<(), _>(refused())));
        drop(pool.transaction(|tx| Ok(tx.execute(ORPHAN, [])?)));
        drop(pool.group_commit(move |_| Err::<(), _>(refused())));
        drop(pool.group_commit(|tx| Ok(tx.execute(ORPHAN, [])?)));
        for _ in 0..2 {
            thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| pool.group_commit(|tx| Ok(insert(tx)?)));
                }
            });
        }
        abort_batch(pool, until);
        if let Ok(mut reader) = pool.read() {
            // Somebody has begun one already.
            let begun = reader.rusqlite().execute_batch("BEGIN");
            drop((begun, reader.snapshot()));
        }
        exclusive(pool, |writer| Ok(writer.exclusive_transaction()?.commit()?));
        exclusive(pool, |writer| Ok(writer.exclusive_transaction()?.rollback()?));
        exclusive(pool, |writer| {
            let tx = writer.exclusive_transaction()?;
            tx.execute(ORPHAN, [])?;
            Ok(tx.commit()?)
        });
        let panics: [&dyn Fn(); 4] = [
            &|| drop(pool.transaction(|_| -> Result<(), _> { panicking() })),
            &|| drop(pool.snapshot(|_| -> Result<(), _> { panicking() })),
            &|| drop(pool.group_commit(|_| -> Result<(), _> { panicking() })),
            &|| {
                exclusive(pool, |writer| {
                    let _tx = writer.exclusive_transaction()?;
                    panicking()
                });
            },
        ];
        for panics in panics {
            drop(panic::catch_unwind(AssertUnwindSafe(panics)));
        }
        // A statement that never ends by itself.
        let endless = "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n)
                       SELECT count(*) FROM n";
        if !pool.config().statement_timeout.is_zero() {
            let reader = pool.read();
            drop(reader.map(|reader| reader.query_one(endless, [], |row| row.get::<_, i64>(0))));
            let writer = pool.write();
            drop(writer.map(|writer| writer.query_one(endless, [], |row| row.get::<_, i64>(0))));
        }
        // A read transaction that would write although the database has changed: SQLite refuses.
        if let Ok(writer) = pool.write() {
            let begun = writer.execute_batch("BEGIN; SELECT count(*) FROM drill");
            let outside = outsider.execute("INSERT INTO drill (parent) VALUES (NULL)", []);
            drop((begun, outside, insert(&writer)));
        }
        // While somebody outside writes, for each kind.
        if outsider.execute_batch("BEGIN IMMEDIATE").is_ok() {
            drop(pool.transaction(|_| Ok(())));
            drop(pool.group_commit(|_| Ok(())));
            exclusive(pool, |writer| Ok(writer.exclusive_transaction()?.commit()?));
            drop(outsider.execute_batch("COMMIT"));
        }
    }
}

/// One closure of a batch makes SQLite roll back everybody's work.
fn abort_batch(pool: &Pool, until: Until<'_>) {
    const ROLL_BACK: &str = "INSERT OR ROLLBACK INTO drill (id) SELECT min(id) FROM drill";
    thread::scope(|scope| {
        // They come together while nobody can lead.
        let writer = pool.write();
        for _ in 0..3 {
            scope.spawn(|| pool.group_commit(|tx| Ok(insert(tx)?)));
        }
        until.pause(5);
        scope.spawn(|| pool.group_commit(|tx| Ok(tx.execute(ROLL_BACK, [])?)));
        until.pause(5);
        drop(writer);
    });
}

fn exclusive(pool: &Pool, work: impl FnOnce(&mut WriteGuard<'_>) -> Result<(), Error>) {
    drop(pool.write().map(|mut writer| work(&mut writer)));
}
