//! Every metric: name, type, unit, labels and help, in one table.
//!
//! The library records through the `metrics` facade and leaves the exporter to the application.
//! Handles are made once, when a pool is opened: looking one up by name for each event costs about
//! ten times as much as using it. It follows that the recorder must be installed *before* the pool is
//! opened; handles made earlier record nothing, for ever. It also follows that every series is there
//! from the start, at 0, so that a rate sees the first event.
//!
//! Labels are `pool` and closed sets of words; never a path, SQL or a place in the source.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use metrics::{Counter, Gauge, Histogram, Unit, counter, gauge, histogram};
use parking_lot::Mutex;

use crate::fork::PerProcess;

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
    /// Its labels besides `pool`, each with the values it can take.
    pub labels: &'static [(&'static str, &'static [&'static str])],
    /// What it means, in a sentence.
    pub help: &'static str,
}

/// `any` is a [`checkout::Pool`](crate::checkout::Pool) of something else.
const ROLE: (&str, &[&str]) = ("role", &["read", "write", "any"]);
const OF_SQLITE: (&str, &[&str]) = ("role", &["read", "write"]);

/// Upper bounds for the buckets of every `tenure_*_seconds` histogram: 10 us to 10 s.
///
/// Without bounds the Prometheus exporter renders a summary, which cannot be added up over
/// instances. No bound is an integer, because Prometheus 3 writes those differently.
///
/// ```
/// use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
/// use tenure::metrics::{DURATION_BUCKETS, METRICS, MetricKind};
///
/// let mut builder = PrometheusBuilder::new();
/// for metric in METRICS.iter().filter(|metric| metric.kind == MetricKind::Histogram) {
///     builder = builder
///         .set_buckets_for_metric(Matcher::Full(metric.name.to_owned()), DURATION_BUCKETS)?;
/// }
/// let recorder = builder.build_recorder();
/// # Ok::<(), metrics_exporter_prometheus::BuildError>(())
/// ```
pub const DURATION_BUCKETS: &[f64] = &[
    0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.0025, 0.005, 0.01, 0.025,
    0.05, 0.1, 0.25, 0.5, 0.999, 2.5, 4.999, 9.999,
];

/// Upper bounds for the buckets of `tenure_group_commit_size`: 1 to 1024 closures, each half a closure
/// more, since a bound that is an integer would be written differently by Prometheus 3.
///
/// ```
/// use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
/// use tenure::metrics::SIZE_BUCKETS;
///
/// let size = Matcher::Full("tenure_group_commit_size".to_owned());
/// let recorder = PrometheusBuilder::new().set_buckets_for_metric(size, SIZE_BUCKETS)?.build_recorder();
/// # Ok::<(), metrics_exporter_prometheus::BuildError>(())
/// ```
pub const SIZE_BUCKETS: &[f64] =
    &[1.5, 2.5, 4.5, 8.5, 16.5, 32.5, 64.5, 128.5, 256.5, 512.5, 1024.5];

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
    },
    Metric {
        name: "tenure_connections_max",
        kind: MetricKind::Gauge,
        unit: Unit::Count,
        labels: &[ROLE],
        help: "The most connections of a role that may be open.",
    },
    Metric {
        name: "tenure_waiters",
        kind: MetricKind::Gauge,
        unit: Unit::Count,
        labels: &[ROLE],
        help: "Threads waiting for a connection now.",
    },
    Metric {
        name: "tenure_long_held",
        kind: MetricKind::Gauge,
        unit: Unit::Count,
        labels: &[ROLE],
        help: "Connections held for longer than `long_held_after` now; looked at each second.",
    },
    Metric {
        name: "tenure_checkouts_total",
        kind: MetricKind::Counter,
        unit: Unit::Count,
        labels: &[ROLE, ("outcome", CheckoutOutcome::NAMES)],
        help: "Checkouts by how they ended.",
    },
    Metric {
        name: "tenure_nested_checkouts_total",
        kind: MetricKind::Counter,
        unit: Unit::Count,
        labels: &[ROLE],
        help: "Checkouts that succeeded on a thread which held a connection of some pool already.",
    },
    Metric {
        name: "tenure_checkout_wait_seconds",
        kind: MetricKind::Histogram,
        unit: Unit::Seconds,
        labels: &[ROLE],
        help: "How long those who had to wait for a connection waited, in vain or not.",
    },
    Metric {
        name: "tenure_hold_seconds",
        kind: MetricKind::Histogram,
        unit: Unit::Seconds,
        labels: &[ROLE],
        help: "How long a connection was held, from checkout to check-in.",
    },
    Metric {
        name: "tenure_connections_opened_total",
        kind: MetricKind::Counter,
        unit: Unit::Count,
        labels: &[ROLE],
        help: "Connections opened, the first ones and later ones.",
    },
    Metric {
        name: "tenure_connections_closed_total",
        kind: MetricKind::Counter,
        unit: Unit::Count,
        labels: &[ROLE, ("reason", CloseReason::NAMES)],
        help: "Connections closed, by the reason why.",
    },
    Metric {
        name: "tenure_leaks_total",
        kind: MetricKind::Counter,
        unit: Unit::Count,
        labels: &[ROLE],
        help: "Connections given up because their guards were leaked and the threads have ended.",
    },
    Metric {
        name: "tenure_checkin_repairs_total",
        kind: MetricKind::Counter,
        unit: Unit::Count,
        labels: &[("reason", Repair::NAMES)],
        help: "Connections that came back with something left over, by what it was.",
    },
    Metric {
        name: "tenure_transactions_total",
        kind: MetricKind::Counter,
        unit: Unit::Count,
        labels: &[("kind", TransactionKind::NAMES), ("outcome", TransactionOutcome::NAMES)],
        help: "Transactions by kind and by how they ended.",
    },
    Metric {
        name: "tenure_transaction_seconds",
        kind: MetricKind::Histogram,
        unit: Unit::Seconds,
        labels: &[("kind", TransactionKind::NAMES)],
        help: "How long a transaction was open, from BEGIN to its end.",
    },
    Metric {
        name: "tenure_group_commits_total",
        kind: MetricKind::Counter,
        unit: Unit::Count,
        labels: &[("outcome", GroupOutcome::NAMES)],
        help: "Closures given to group_commit, by what became of them.",
    },
    Metric {
        name: "tenure_group_commit_size",
        kind: MetricKind::Histogram,
        unit: Unit::Count,
        labels: &[],
        help: "Closures that shared one transaction.",
    },
    Metric {
        name: "tenure_group_commit_wait_seconds",
        kind: MetricKind::Histogram,
        unit: Unit::Seconds,
        labels: &[],
        help: "How long the first closure of a batch had waited when the batch began.",
    },
    Metric {
        name: "tenure_busy_wait_seconds",
        kind: MetricKind::Histogram,
        unit: Unit::Seconds,
        labels: &[("op", Operation::NAMES)],
        help: "How long SQLite waited for a lock that was taken, in vain or not, by operation.",
    },
    Metric {
        name: "tenure_busy_retries_total",
        kind: MetricKind::Counter,
        unit: Unit::Count,
        labels: &[("op", Operation::NAMES)],
        help: "Times SQLite found a lock taken and was told to try again, by operation.",
    },
    Metric {
        name: "tenure_busy_timeouts_total",
        kind: MetricKind::Counter,
        unit: Unit::Count,
        labels: &[("op", Operation::NAMES)],
        help: "Times a lock stayed taken for the whole busy time-out, by operation.",
    },
    Metric {
        name: "tenure_busy_refusals_total",
        kind: MetricKind::Counter,
        unit: Unit::Count,
        labels: &[("op", Operation::NAMES)],
        help: "Times SQLite answered BUSY without waiting (a read transaction that would write), by operation.",
    },
    Metric {
        name: "tenure_statement_timeouts_total",
        kind: MetricKind::Counter,
        unit: Unit::Count,
        labels: &[OF_SQLITE],
        help: "Statements that were stopped because they ran for longer than `statement_timeout`.",
    },
    Metric {
        name: "tenure_wal_bytes",
        kind: MetricKind::Gauge,
        unit: Unit::Bytes,
        labels: &[],
        help: "The size of the WAL file, parts that are free to be used again included.",
    },
    Metric {
        name: "tenure_wal_frames",
        kind: MetricKind::Gauge,
        unit: Unit::Count,
        labels: &[("state", &["total", "checkpointed"])],
        help: "Pages in the WAL after the latest commit of the writer, and those of them that are in the database.",
    },
    Metric {
        name: "tenure_checkpoints_total",
        kind: MetricKind::Counter,
        unit: Unit::Count,
        labels: &[("mode", CheckpointMode::NAMES), ("outcome", CheckpointOutcome::NAMES)],
        help: "Checkpoints in the background, by whether the writer's turn was taken and by how they ended.",
    },
    Metric {
        name: "tenure_checkpoint_seconds",
        kind: MetricKind::Histogram,
        unit: Unit::Seconds,
        labels: &[("mode", CheckpointMode::NAMES)],
        help: "How long a checkpoint in the background took.",
    },
    Metric {
        name: "tenure_oldest_snapshot_seconds",
        kind: MetricKind::Gauge,
        unit: Unit::Seconds,
        labels: &[],
        help: "The age of the oldest snapshot that is open, 0 when there is none; looked at each second.",
    },
    Metric {
        name: "tenure_forked_total",
        kind: MetricKind::Counter,
        unit: Unit::Count,
        labels: &[],
        help: "Operations refused because this process was forked from the one that opened the pool.",
    },
    Metric {
        name: "tenure_damaged",
        kind: MetricKind::Gauge,
        unit: Unit::Count,
        labels: &[],
        help: "1 once SQLite has found the database damaged: the pool lends no connection any more.",
    },
];

/// A closed set of label values, and one metric handle for each.
macro_rules! label {
    ($(#[$meta:meta])* $name:ident { $($variant:ident => $word:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum $name { $($variant,)+ }

        impl $name {
            pub(crate) const NAMES: &'static [&'static str] = &[$($word,)+];
        }
    };
}

label!(
    /// How a checkout ended.
    CheckoutOutcome {
        Immediate => "immediate",
        Waited => "waited",
        Timeout => "timeout",
        Deadlock => "deadlock",
        Overloaded => "overloaded",
        Unavailable => "unavailable",
        ConnectFailed => "connect_failed",
        Damaged => "damaged",
        Closed => "closed",
    }
);
label!(
    /// Why a connection was closed.
    CloseReason {
        Broken => "broken",
        Idle => "idle",
        Lifetime => "lifetime",
        PoolClosed => "pool_closed",
        Leaked => "leaked",
        Resized => "resized",
    }
);
label!(
    /// What a check-in found left over.
    Repair {
        OpenTransaction => "open_transaction",
        UnfinishedStatement => "unfinished_statement",
        AttachedDatabase => "attached_database",
        TemporaryObject => "temporary_object",
        Pragma => "pragma",
        BusyHandler => "busy_handler",
        Limit => "limit",
        Hook => "hook",
        Function => "function",
        Raw => "raw",
        Discarded => "discarded",
    }
);

impl Repair {
    /// For the sentence "a connection came back with ..".
    pub(crate) fn found(self) -> &'static str {
        match self {
            Self::OpenTransaction => "a transaction open; it was rolled back",
            Self::UnfinishedStatement => "a statement unfinished; it was reset",
            Self::AttachedDatabase => "a database attached or detached",
            Self::TemporaryObject => "TEMP tables, views or triggers created or dropped",
            Self::Pragma => "a PRAGMA changed",
            Self::BusyHandler => "the pool's busy handler replaced; it was put back",
            Self::Limit => "a limit or a switch of SQLite's changed",
            Self::Hook => "a hook set",
            Self::Function => "functions, collations or modules registered or removed",
            Self::Raw => "traces of rusqlite() that cannot be told from changes of its state",
            Self::Discarded => "a fault",
        }
    }
}

label!(
    /// How a transaction was begun.
    TransactionKind {
        Immediate => "immediate",
        Exclusive => "exclusive",
        Group => "group",
        Snapshot => "snapshot",
    }
);
label!(
    /// How a transaction ended.
    TransactionOutcome {
        Commit => "commit",
        Rollback => "rollback",
        Busy => "busy",
        Panic => "panic",
        Error => "error",
    }
);
label!(
    /// What became of one caller's part of a group commit.
    GroupOutcome {
        Commit => "commit",
        Rollback => "rollback",
        Panic => "panic",
        Aborted => "aborted",
        Error => "error",
        NotBegun => "not_begun",
    }
);
label!(
    /// What the connection was doing when it met a lock.
    Operation {
        Begin => "begin",
        Read => "read",
        Write => "write",
        Commit => "commit",
        Checkpoint => "checkpoint",
    }
);
label!(
    /// Which step a checkpoint belonged to.
    CheckpointMode {
        Passive => "passive",
        InTurn => "in_turn",
    }
);
label!(
    /// How a checkpoint ended.
    CheckpointOutcome {
        Complete => "complete",
        Partial => "partial",
        Busy => "busy",
        Error => "error",
    }
);

impl Operation {
    pub(crate) fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }
}

/// The handles of a whole pool.
#[derive(Debug)]
pub(crate) struct PoolMetrics {
    pool: String,
    repairs: Vec<Counter>,
    transactions: Vec<Vec<Counter>>,
    transaction_seconds: Vec<Histogram>,
    busy_retries: Vec<Counter>,
    busy_timeouts: Vec<Counter>,
    busy_refusals: Vec<Counter>,
    busy_wait: Vec<Histogram>,
    statement_timeouts: Vec<Counter>,
    forked: Counter,
    damaged: Gauge,
    refused_for_damage: Vec<Counter>,
    group: GroupMetrics,
    wal_bytes: Gauge,
    wal_frames: Gauge,
    wal_checkpointed: Gauge,
    checkpoints: Vec<Vec<Counter>>,
    checkpoint_seconds: Vec<Histogram>,
    oldest_snapshot: Gauge,
}

impl PoolMetrics {
    pub(crate) fn new(name: &str) -> Self {
        describe();
        let by = |metric: &'static str, label: &'static str, values: &[&'static str]| {
            let one = |value| counter!(metric, "pool" => name.to_owned(), label => value);
            values.iter().map(|value| one(*value)).collect::<Vec<_>>()
        };
        let transactions = |kind: &&'static str| {
            let one = |outcome: &&'static str| {
                counter!(
                    "tenure_transactions_total",
                    "pool" => name.to_owned(), "kind" => *kind, "outcome" => *outcome
                )
            };
            TransactionOutcome::NAMES.iter().map(one).collect()
        };
        let seconds = |metric: &'static str, label: &'static str, values: &[&'static str]| {
            let one = |value| histogram!(metric, "pool" => name.to_owned(), label => value);
            values.iter().map(|value| one(*value)).collect()
        };
        let refused_for_damage = |role: &&'static str| {
            counter!(
                "tenure_checkouts_total",
                "pool" => name.to_owned(), "role" => *role, "outcome" => "damaged"
            )
        };
        let checkpoints = |mode: &&'static str| {
            let one = |outcome: &&'static str| {
                counter!(
                    "tenure_checkpoints_total",
                    "pool" => name.to_owned(), "mode" => *mode, "outcome" => *outcome
                )
            };
            CheckpointOutcome::NAMES.iter().map(one).collect()
        };
        let gauge = |metric: &'static str| {
            let gauge = gauge!(metric, "pool" => name.to_owned());
            gauge.set(0.0);
            gauge
        };
        let wal_frames = |state: &'static str| {
            let gauge = gauge!("tenure_wal_frames", "pool" => name.to_owned(), "state" => state);
            gauge.set(0.0);
            gauge
        };
        Self {
            repairs: by("tenure_checkin_repairs_total", "reason", Repair::NAMES),
            transactions: TransactionKind::NAMES.iter().map(transactions).collect(),
            transaction_seconds: seconds(
                "tenure_transaction_seconds",
                "kind",
                TransactionKind::NAMES,
            ),
            busy_retries: by("tenure_busy_retries_total", "op", Operation::NAMES),
            busy_timeouts: by("tenure_busy_timeouts_total", "op", Operation::NAMES),
            busy_refusals: by("tenure_busy_refusals_total", "op", Operation::NAMES),
            busy_wait: seconds("tenure_busy_wait_seconds", "op", Operation::NAMES),
            statement_timeouts: by("tenure_statement_timeouts_total", "role", OF_SQLITE.1),
            group: GroupMetrics::new(name),
            forked: forked(name),
            damaged: gauge("tenure_damaged"),
            wal_bytes: gauge("tenure_wal_bytes"),
            wal_frames: wal_frames("total"),
            wal_checkpointed: wal_frames("checkpointed"),
            checkpoints: CheckpointMode::NAMES.iter().map(checkpoints).collect(),
            checkpoint_seconds: seconds("tenure_checkpoint_seconds", "mode", CheckpointMode::NAMES),
            oldest_snapshot: gauge("tenure_oldest_snapshot_seconds"),
            refused_for_damage: OF_SQLITE.1.iter().map(refused_for_damage).collect(),
            pool: name.to_owned(),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.pool
    }

    pub(crate) fn group(&self) -> &GroupMetrics {
        &self.group
    }

    pub(crate) fn role(&self, role: &'static str) -> RoleMetrics {
        RoleMetrics::new(self.name(), role)
    }

    pub(crate) fn repair(&self, repair: Repair) {
        self.repairs[repair as usize].increment(1);
    }

    pub(crate) fn transaction(
        &self,
        kind: TransactionKind,
        outcome: TransactionOutcome,
        begun: Option<Instant>,
    ) {
        self.transactions[kind as usize][outcome as usize].increment(1);
        if let Some(begun) = begun {
            self.transaction_seconds[kind as usize].record(begun.elapsed());
        }
    }

    pub(crate) fn busy_retry(&self, operation: Operation) {
        self.busy_retries[operation as usize].increment(1);
    }

    pub(crate) fn busy_timeout(&self, operation: Operation) {
        self.busy_timeouts[operation as usize].increment(1);
    }

    pub(crate) fn busy_refusal(&self, operation: Operation) {
        self.busy_refusals[operation as usize].increment(1);
    }

    pub(crate) fn busy_wait(&self, operation: Operation, waited: Duration) {
        self.busy_wait[operation as usize].record(waited);
    }

    pub(crate) fn statement_timeout(&self, role: usize) {
        self.statement_timeouts[role].increment(1);
    }

    pub(crate) fn forked(&self) {
        self.forked.increment(1);
    }

    pub(crate) fn checkout_refused_for_damage(&self, role: usize) {
        self.refused_for_damage[role].increment(1);
    }

    pub(crate) fn damaged(&self) {
        self.damaged.set(1.0);
    }

    pub(crate) fn wal(&self, bytes: u64, frames: u32, checkpointed: u32) {
        self.wal_bytes.set(bytes as f64);
        self.wal_frames.set(f64::from(frames));
        self.wal_checkpointed.set(f64::from(checkpointed));
    }

    pub(crate) fn checkpoint(
        &self,
        mode: CheckpointMode,
        outcome: CheckpointOutcome,
        began: Instant,
    ) {
        self.checkpoints[mode as usize][outcome as usize].increment(1);
        self.checkpoint_seconds[mode as usize].record(began.elapsed());
    }

    pub(crate) fn oldest_snapshot(&self, age: Duration) {
        self.oldest_snapshot.set(age.as_secs_f64());
    }
}

/// The handles of group commit.
#[derive(Debug)]
pub(crate) struct GroupMetrics {
    commits: Vec<Counter>,
    size: Histogram,
    wait: Histogram,
}

impl GroupMetrics {
    fn new(pool: &str) -> Self {
        let commits = |outcome: &&'static str| counter!("tenure_group_commits_total", "pool" => pool.to_owned(), "outcome" => *outcome);
        Self {
            commits: GroupOutcome::NAMES.iter().map(commits).collect(),
            size: histogram!("tenure_group_commit_size", "pool" => pool.to_owned()),
            wait: histogram!("tenure_group_commit_wait_seconds", "pool" => pool.to_owned()),
        }
    }

    pub(crate) fn ended(&self, outcome: GroupOutcome) {
        self.commits[outcome as usize].increment(1);
    }

    pub(crate) fn size(&self, closures: usize) {
        self.size.record(closures as f64);
    }

    pub(crate) fn waited(&self, waited: Duration) {
        self.wait.record(waited);
    }
}

/// The handles of one role.
#[derive(Debug)]
pub(crate) struct RoleMetrics {
    pub(crate) limit: Gauge,
    pub(crate) idle: Gauge,
    pub(crate) used: Gauge,
    pub(crate) waiters: Gauge,
    pub(crate) long_held: Gauge,
    pub(crate) hold: Histogram,
    pub(crate) opened: Counter,
    pub(crate) nested: Counter,
    /// The same as its pool's.
    pub(crate) forked: Counter,
    pub(crate) leaks: Counter,
    wait: Histogram,
    checkouts: Vec<Counter>,
    closed: Vec<Counter>,
}

impl RoleMetrics {
    /// Of a pool that has no other metrics.
    pub(crate) fn alone(pool: &str, role: &'static str) -> Self {
        describe();
        Self::new(pool, role)
    }

    fn new(pool: &str, role: &'static str) -> Self {
        let pool = || pool.to_owned();
        let connections = |state: &'static str| gauge!("tenure_connections", "pool" => pool(), "role" => role, "state" => state);
        let checkouts = |outcome: &&'static str| {
            counter!(
                "tenure_checkouts_total",
                "pool" => pool(), "role" => role, "outcome" => *outcome
            )
        };
        let closed = |reason: &&'static str| {
            counter!(
                "tenure_connections_closed_total",
                "pool" => pool(), "role" => role, "reason" => *reason
            )
        };
        let metrics = Self {
            limit: gauge!("tenure_connections_max", "pool" => pool(), "role" => role),
            idle: connections("idle"),
            used: connections("used"),
            waiters: gauge!("tenure_waiters", "pool" => pool(), "role" => role),
            long_held: gauge!("tenure_long_held", "pool" => pool(), "role" => role),
            hold: histogram!("tenure_hold_seconds", "pool" => pool(), "role" => role),
            opened: counter!(
                "tenure_connections_opened_total", "pool" => pool(), "role" => role
            ),
            nested: counter!("tenure_nested_checkouts_total", "pool" => pool(), "role" => role),
            forked: forked(&pool()),
            leaks: counter!("tenure_leaks_total", "pool" => pool(), "role" => role),
            wait: histogram!("tenure_checkout_wait_seconds", "pool" => pool(), "role" => role),
            checkouts: CheckoutOutcome::NAMES.iter().map(checkouts).collect(),
            closed: CloseReason::NAMES.iter().map(closed).collect(),
        };
        let Self { limit, idle, used, waiters, long_held, .. } = &metrics;
        for gauge in [limit, idle, used, waiters, long_held] {
            gauge.set(0.0);
        }
        metrics
    }

    pub(crate) fn checkout(&self, outcome: CheckoutOutcome, started: Instant) {
        self.checkouts[outcome as usize].increment(1);
        // Waits in vain count too: else the picture is best when everybody times out.
        if matches!(
            outcome,
            CheckoutOutcome::Waited | CheckoutOutcome::Timeout | CheckoutOutcome::ConnectFailed
        ) {
            self.wait.record(started.elapsed());
        }
    }

    pub(crate) fn checkouts(&self, outcome: CheckoutOutcome, times: u64) {
        self.checkouts[outcome as usize].increment(times);
    }

    pub(crate) fn closed(&self, reason: CloseReason) {
        self.closed[reason as usize].increment(1);
    }
}

fn forked(pool: &str) -> Counter {
    counter!("tenure_forked_total", "pool" => pool.to_owned())
}

fn describe() {
    for Metric { name, kind, unit, help, .. } in METRICS {
        match kind {
            MetricKind::Counter => metrics::describe_counter!(*name, *unit, *help),
            MetricKind::Gauge => metrics::describe_gauge!(*name, *unit, *help),
            MetricKind::Histogram => metrics::describe_histogram!(*name, *unit, *help),
        }
    }
}

/// The names of the pools that are open in this process.
static NAMES: PerProcess<Mutex<Option<HashSet<String>>>> =
    PerProcess::new([const { Mutex::new(None) }; 8]);

/// A pool's name, no other pool's while it lives: two pools under one name would add up their
/// counters and overwrite each other's gauges.
#[derive(Debug)]
pub(crate) struct PoolName(String);

impl PoolName {
    /// The name as given; `None` when a pool has it already.
    pub(crate) fn exactly(name: &str) -> Option<Self> {
        let mut names = NAMES.here().lock();
        names.get_or_insert_default().insert(name.to_owned()).then(|| Self(name.to_owned()))
    }

    /// The name, with `-2`, `-3` .. appended if need be.
    pub(crate) fn like(name: &str) -> Self {
        let mut names = NAMES.here().lock();
        let names = names.get_or_insert_default();
        let mut unique = name.to_owned();
        let mut number = 1;
        while !names.insert(unique.clone()) {
            number += 1;
            unique = format!("{name}-{number}");
        }
        Self(unique)
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl Drop for PoolName {
    fn drop(&mut self) {
        if let Some(names) = &mut *NAMES.here().lock() {
            names.remove(&self.0);
        }
    }
}
