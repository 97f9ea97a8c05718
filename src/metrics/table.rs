//! The table itself. The code that records, the documentation and the tests all read it.

use metrics::Unit;

use super::buckets::{DURATION_BUCKETS, SIZE_BUCKETS};
use super::labels::{
    CacheResult, CheckoutOutcome, CheckpointMode, CheckpointOutcome, CloseReason, GroupOutcome,
    Operation, PageCache, Repair, TransactionKind, TransactionOutcome,
};

/// What a metric counts or measures.
///
/// ```
/// use tenure::metrics::{MetricKind, METRICS};
/// assert!(METRICS.iter().any(|metric| metric.kind == MetricKind::Histogram));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MetricKind {
    /// Only ever rises; its name ends in `_total`.
    Counter,
    /// A present value.
    Gauge,
    /// A distribution.
    Histogram,
}

/// A row of [`METRICS`].
///
/// ```
/// for metric in tenure::metrics::METRICS {
///     println!("{:<34} {:?} {:?}: {}", metric.name, metric.kind, metric.labels, metric.help);
/// }
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Metric {
    /// As the exporter shows it.
    pub name: &'static str,
    /// Counter, gauge or histogram.
    pub kind: MetricKind,
    /// The unit of its values.
    pub unit: Unit,
    /// Its labels besides `pool`, each with the values it can take. No values stand for one that is
    /// known at run time only: the version of SQLite. What cannot occur together has no series.
    pub labels: &'static [(&'static str, &'static [&'static str])],
    /// What it means, in a sentence.
    pub help: &'static str,
    /// What to do, or where to look, when it moves.
    pub advice: &'static str,
}

impl Metric {
    /// Upper bounds for the buckets of a histogram; `None` for what is none.
    ///
    /// For the exporter of an application that installs its own, see the [module](super).
    ///
    /// ```
    /// use tenure::metrics::{DURATION_BUCKETS, METRICS};
    ///
    /// let wait = METRICS.iter().find(|metric| metric.name == "tenure_checkout_wait_seconds");
    /// assert_eq!(wait.and_then(|metric| metric.buckets()), Some(DURATION_BUCKETS));
    /// ```
    pub fn buckets(&self) -> Option<&'static [f64]> {
        match (self.kind, self.unit) {
            (MetricKind::Histogram, Unit::Seconds) => Some(DURATION_BUCKETS),
            (MetricKind::Histogram, _) => Some(SIZE_BUCKETS),
            _ => None,
        }
    }
}

/// `any` is a [`checkout::Pool`](crate::checkout::Pool) of something else.
const ROLE: (&str, &[&str]) = ("role", &["read", "write", "any"]);
pub(super) const OF_SQLITE: (&str, &[&str]) = ("role", &["read", "write"]);

/// Every metric that the crate records, and no other.
///
/// ```
/// assert!(tenure::metrics::METRICS.iter().all(|metric| metric.name.starts_with("tenure_")));
/// ```
pub const METRICS: &[Metric] = &[
    Metric {
        name: "tenure_connections",
        kind: MetricKind::Gauge,
        unit: Unit::Count,
        labels: &[ROLE, ("state", &["idle", "used"])],
        help: "Connections open now, by role and by whether somebody holds them.",
        advice: "Used near `tenure_connections_max` for long: holds are too long (see `tenure_hold_seconds`) or `readers` is too small.",
    },
    Metric {
        name: "tenure_connections_max",
        kind: MetricKind::Gauge,
        unit: Unit::Count,
        labels: &[ROLE],
        help: "The most connections of a role that may be open.",
        advice: "It moves with `Pool::resize` only, and is 0 once the pool is closed.",
    },
    Metric {
        name: "tenure_waiters",
        kind: MetricKind::Gauge,
        unit: Unit::Count,
        labels: &[ROLE],
        help: "Threads waiting for a connection now.",
        advice: "Above 0 for long: look at `Pool::status` for who holds; shorten the holds or, of readers, allow more.",
    },
    Metric {
        name: "tenure_oldest_waiter_seconds",
        kind: MetricKind::Gauge,
        unit: Unit::Seconds,
        labels: &[ROLE],
        help: "How long the one who has waited longest for a connection waits by now; 0 = nobody waits.",
        advice: "It rises while nobody is served, when no wait ends that a histogram could show: look at `Pool::status` for who holds.",
    },
    Metric {
        name: "tenure_oldest_hold_seconds",
        kind: MetricKind::Gauge,
        unit: Unit::Seconds,
        labels: &[ROLE],
        help: "How long the connection that was checked out first is held by now; 0 = none is held.",
        advice: "Rising steadily: a guard that is kept, forgotten or stuck. `Pool::status` names thread and place.",
    },
    Metric {
        name: "tenure_long_held",
        kind: MetricKind::Gauge,
        unit: Unit::Count,
        labels: &[ROLE],
        help: "Connections held for longer than `long_held_after` now.",
        advice: "Read the log, which names thread and place of each; do no network or file work while holding.",
    },
    Metric {
        name: "tenure_checkouts_total",
        kind: MetricKind::Counter,
        unit: Unit::Count,
        labels: &[ROLE, ("outcome", CheckoutOutcome::NAMES)],
        help: "Checkouts by how they ended; callers of `group_commit` that were refused in its queue among them.",
        advice: "`timeout`, `overloaded`: as for waiters. `deadlock`: the error names the circle; check out once per unit of work. `connect_failed`: the log has the cause. `waited` against the sum is the share that waits.",
    },
    Metric {
        name: "tenure_nested_checkouts_total",
        kind: MetricKind::Counter,
        unit: Unit::Count,
        labels: &[ROLE],
        help: "Checkouts that succeeded on a thread which held a connection of some pool already.",
        advice: "Each is a chance of a deadlock: pass the guard on instead of checking out again.",
    },
    Metric {
        name: "tenure_checkout_wait_seconds",
        kind: MetricKind::Histogram,
        unit: Unit::Seconds,
        labels: &[ROLE],
        help: "How long those who had to wait for a connection waited, in vain or not.",
        advice: "Rising: as for waiters. Near `checkout_timeout`: the next ones fail.",
    },
    Metric {
        name: "tenure_hold_seconds",
        kind: MetricKind::Histogram,
        unit: Unit::Seconds,
        labels: &[ROLE],
        help: "How long a connection was held, from checkout to check-in.",
        advice: "Rising: a query lost its index, or something slow is done between checkout and check-in.",
    },
    Metric {
        name: "tenure_connect_seconds",
        kind: MetricKind::Histogram,
        unit: Unit::Seconds,
        labels: &[ROLE],
        help: "How long it took to open a connection, `on_connect` and settings included.",
        advice: "Usually under a millisecond. Rising: a slow `on_connect`, or a slow disk.",
    },
    Metric {
        name: "tenure_connections_opened_total",
        kind: MetricKind::Counter,
        unit: Unit::Count,
        labels: &[ROLE],
        help: "Connections opened, the first ones and later ones.",
        advice: "Steady growth is churn: see why they are closed.",
    },
    Metric {
        name: "tenure_connections_closed_total",
        kind: MetricKind::Counter,
        unit: Unit::Count,
        labels: &[ROLE, ("reason", CloseReason::NAMES)],
        help: "Connections closed, by the reason why.",
        advice: "`broken`: see the repairs. `idle`, `lifetime`: raise the limit if it churns. `leaked`: see the leaks.",
    },
    Metric {
        name: "tenure_leaks_total",
        kind: MetricKind::Counter,
        unit: Unit::Count,
        labels: &[ROLE],
        help: "Connections given up because their guards were leaked and the threads have ended.",
        advice: "Any: the log names thread and place; look for `mem::forget`, `Box::leak` and cycles of `Rc` around a guard.",
    },
    Metric {
        name: "tenure_checkin_repairs_total",
        kind: MetricKind::Counter,
        unit: Unit::Count,
        labels: &[("reason", Repair::NAMES)],
        help: "Connections that came back with something left over, by what it was.",
        advice: "Any: the log names thread and place of the checkout; end there what was begun, and set PRAGMAs in `on_connect`.",
    },
    Metric {
        name: "tenure_transactions_total",
        kind: MetricKind::Counter,
        unit: Unit::Count,
        labels: &[("kind", TransactionKind::NAMES), ("outcome", TransactionOutcome::NAMES)],
        help: "Transactions by kind and by how they ended.",
        advice: "`busy`: as for busy time-outs. `panic`, `error`: the caller's error has the cause. `rollback` in a larger share than usual: so has the application's.",
    },
    Metric {
        name: "tenure_transaction_seconds",
        kind: MetricKind::Histogram,
        unit: Unit::Seconds,
        labels: &[("kind", TransactionKind::NAMES)],
        help: "How long a transaction was open, from BEGIN to its end.",
        advice: "Writers wait for each other's: move reads and computations in front of the transaction.",
    },
    Metric {
        name: "tenure_group_commits_total",
        kind: MetricKind::Counter,
        unit: Unit::Count,
        labels: &[("outcome", GroupOutcome::NAMES)],
        help: "Closures given to group_commit, by what became of them.",
        advice: "`panic`, `rollback`: the closure itself. `aborted`, `error`, `not_begun`: the error of the caller has the cause.",
    },
    Metric {
        name: "tenure_group_commit_size",
        kind: MetricKind::Histogram,
        unit: Unit::Count,
        labels: &[],
        help: "Closures that shared one transaction.",
        advice: "Near 1: callers come alone, `transaction` does as well. Near `group_commit_max_size`: raise it.",
    },
    Metric {
        name: "tenure_group_commit_wait_seconds",
        kind: MetricKind::Histogram,
        unit: Unit::Seconds,
        labels: &[],
        help: "How long the first closure of a batch had waited when the batch began.",
        advice: "Rising: the writer is held by others, or closures are slow.",
    },
    Metric {
        name: "tenure_group_commit_waiters",
        kind: MetricKind::Gauge,
        unit: Unit::Count,
        labels: &[],
        help: "Callers of group_commit that wait for a transaction to share now.",
        advice: "Far above `group_commit_max_size` for long: the writer is held by others, or the disk is slow. `Pool::status` names them.",
    },
    Metric {
        name: "tenure_busy_wait_seconds",
        kind: MetricKind::Histogram,
        unit: Unit::Seconds,
        labels: &[("op", Operation::NAMES)],
        help: "How long SQLite waited for a lock that was taken, in vain or not, by operation.",
        advice: "Rising: another process or connection keeps the database locked; find it, and shorten its transactions.",
    },
    Metric {
        name: "tenure_busy_retries_total",
        kind: MetricKind::Counter,
        unit: Unit::Count,
        labels: &[("op", Operation::NAMES)],
        help: "Times SQLite found a lock taken and was told to try again, by operation.",
        advice: "As the waits; with hardly any waiting: many short conflicts.",
    },
    Metric {
        name: "tenure_busy_timeouts_total",
        kind: MetricKind::Counter,
        unit: Unit::Count,
        labels: &[("op", Operation::NAMES)],
        help: "Times a lock stayed taken for the whole busy time-out, by operation.",
        advice: "Any: a caller got an error. A lock was kept for all of `busy_timeout`: find whose, before raising that.",
    },
    Metric {
        name: "tenure_busy_refusals_total",
        kind: MetricKind::Counter,
        unit: Unit::Count,
        labels: &[("op", Operation::NAMES)],
        help: "Times SQLite answered BUSY without waiting (a read transaction that would write), by operation.",
        advice: "Any: a read transaction wants to write. Begin it with `transaction`, which takes the lock first.",
    },
    Metric {
        name: "tenure_statement_cache_requests_total",
        kind: MetricKind::Counter,
        unit: Unit::Count,
        labels: &[OF_SQLITE, ("result", CacheResult::NAMES)],
        help: "Statements that a session took from the cache of its connection, or put there, for `prepare_cached` and for what is run at once (`query_row`, `execute`).",
        advice: "Misses in more than a small share: more different texts than `statement_cache` keeps. Raise it, or bind values instead of writing them into the SQL.",
    },
    Metric {
        name: "tenure_statement_timeouts_total",
        kind: MetricKind::Counter,
        unit: Unit::Count,
        labels: &[OF_SQLITE],
        help: "Statements that were stopped because they ran, or waited for a lock, for longer than `statement_timeout`.",
        advice: "Any: the log says where. Look at the query's plan, or for who keeps a lock, or raise `statement_timeout`.",
    },
    Metric {
        name: "tenure_wal_bytes",
        kind: MetricKind::Gauge,
        unit: Unit::Bytes,
        labels: &[],
        help: "The size of the WAL file, parts that are free to be used again included.",
        advice: "Above `wal_limit_mib` and growing: something keeps the WAL from starting over; the log names the snapshot or reader. When that has ended the file is cut back as soon as nobody writes for a second.",
    },
    Metric {
        name: "tenure_wal_frames",
        kind: MetricKind::Gauge,
        unit: Unit::Count,
        labels: &[("state", &["total", "checkpointed"])],
        help: "Pages in the WAL after the latest commit of the writer, and those of them that are in the database.",
        advice: "`total` far above `checkpointed` for long: a long read, or a disk that cannot keep up.",
    },
    Metric {
        name: "tenure_checkpoints_total",
        kind: MetricKind::Counter,
        unit: Unit::Count,
        labels: &[("mode", CheckpointMode::NAMES), ("outcome", CheckpointOutcome::NAMES)],
        help: "Checkpoints in the background, by whether the writer's turn was taken and by how they ended.",
        advice: "`busy`: another process or a connection outside the pool checkpoints too. `partial` in numbers: long reads. `error`: see the log, the disk may be full or failing.",
    },
    Metric {
        name: "tenure_checkpoint_seconds",
        kind: MetricKind::Histogram,
        unit: Unit::Seconds,
        labels: &[("mode", CheckpointMode::NAMES)],
        help: "How long a checkpoint in the background took.",
        advice: "`in_turn` above some milliseconds: writers wait for it; the disk is slow, or many different pages change.",
    },
    Metric {
        name: "tenure_oldest_snapshot_seconds",
        kind: MetricKind::Gauge,
        unit: Unit::Seconds,
        labels: &[],
        help: "The age of the oldest snapshot that is open, 0 when there is none.",
        advice: "Rising: a snapshot is kept open, and the WAL cannot start over. The log names it after `snapshot_warn_after`.",
    },
    Metric {
        name: "tenure_forked_total",
        kind: MetricKind::Counter,
        unit: Unit::Count,
        labels: &[],
        help: "Operations refused because this process was forked from the one that opened the pool.",
        advice: "Any: a child uses its parent's pool. Open one there, after the fork. It is counted in the child, whose own `/metrics` shows it, if it has one.",
    },
    Metric {
        name: "tenure_damaged",
        kind: MetricKind::Gauge,
        unit: Unit::Count,
        labels: &[],
        help: "1 once SQLite has found the database damaged, or an fsync of a checkpoint has failed: the pool lends no connection any more.",
        advice: "1: stop, and copy the files as they are; the log says what was found, and whether to restore a backup or to see to the disk and start again.",
    },
    Metric {
        name: "tenure_info",
        kind: MetricKind::Gauge,
        unit: Unit::Count,
        labels: &[
            ("version", &[env!("CARGO_PKG_VERSION")]),
            ("sqlite", &[]),
            ("journal_mode", &["wal", "delete", "truncate", "persist"]),
            ("synchronous", &["off", "normal", "full", "extra"]),
            ("page_cache", PageCache::NAMES),
        ],
        help: "Always 1; the labels say which versions and settings are in use.",
        advice: "It tells pools and releases apart in graphs of the others. `page_cache` = `shared`: SQLite was built with `SQLITE_ENABLE_MEMORY_MANAGEMENT`, so that all connections of the process take turns at one lock.",
    },
];
