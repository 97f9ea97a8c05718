//! The handles through which a pool records, made once, when it is opened.

use std::sync::Arc;
use std::time::{Duration, Instant};

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

use super::labels::{
    CheckoutOutcome, CheckpointMode, CheckpointOutcome, CloseReason, GroupOutcome, Operation,
    PageCache, Repair, TransactionKind, TransactionOutcome, can_be_closed, can_end, can_wait,
};
use super::statements::StatementRequests;
use super::table::{METRICS, Metric, MetricKind, OF_SQLITE};

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
    statements: Vec<Arc<StatementRequests>>,
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
            let one = |outcome: &&'static str| match can_end(kind, outcome) {
                true => counter!(
                    "tenure_transactions_total",
                    "pool" => name.to_owned(), "kind" => *kind, "outcome" => *outcome
                ),
                false => Counter::noop(),
            };
            TransactionOutcome::NAMES.iter().map(one).collect()
        };
        let seconds = |metric: &'static str, label: &'static str, values: &[&'static str]| {
            let one = |value| histogram!(metric, "pool" => name.to_owned(), label => value);
            values.iter().map(|value| one(*value)).collect()
        };
        let of_waits = |metric: &'static str| {
            let one = |op: &&'static str| match can_wait(op) {
                true => counter!(metric, "pool" => name.to_owned(), "op" => *op),
                false => Counter::noop(),
            };
            Operation::NAMES.iter().map(one).collect()
        };
        let busy_wait = |op: &&'static str| match can_wait(op) {
            true => {
                histogram!("tenure_busy_wait_seconds", "pool" => name.to_owned(), "op" => *op)
            }
            false => Histogram::noop(),
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
            busy_retries: of_waits("tenure_busy_retries_total"),
            busy_timeouts: of_waits("tenure_busy_timeouts_total"),
            busy_refusals: by("tenure_busy_refusals_total", "op", Operation::NAMES),
            busy_wait: Operation::NAMES.iter().map(busy_wait).collect(),
            statement_timeouts: by("tenure_statement_timeouts_total", "role", OF_SQLITE.1),
            statements: OF_SQLITE
                .1
                .iter()
                .map(|role| Arc::new(StatementRequests::new(name, role)))
                .collect(),
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

    /// Of the role of that number.
    pub(crate) fn role(&self, role: usize) -> RoleMetrics {
        let statements = Some(Arc::clone(&self.statements[role]));
        RoleMetrics { statements, ..RoleMetrics::new(self.name(), OF_SQLITE.1[role]) }
    }

    /// What is counted by the connections of the role of that number.
    pub(crate) fn statements(&self, role: usize) -> &StatementRequests {
        &self.statements[role]
    }

    /// What is in use, said once.
    pub(crate) fn info(
        &self,
        journal_mode: &'static str,
        synchronous: &'static str,
        page_cache: PageCache,
    ) {
        let info = gauge!(
            "tenure_info",
            "pool" => self.pool.clone(),
            "version" => env!("CARGO_PKG_VERSION"),
            "sqlite" => rusqlite::version(),
            "journal_mode" => journal_mode,
            "synchronous" => synchronous,
            "page_cache" => page_cache.name(),
        );
        info.set(1.0);
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

    /// Or the pool is gone.
    pub(crate) fn not_damaged(&self) {
        self.damaged.set(0.0);
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
    waiters: Gauge,
}

impl GroupMetrics {
    fn new(pool: &str) -> Self {
        let waiters = gauge!("tenure_group_commit_waiters", "pool" => pool.to_owned());
        waiters.set(0.0);
        let commits = |outcome: &&'static str| counter!("tenure_group_commits_total", "pool" => pool.to_owned(), "outcome" => *outcome);
        Self {
            commits: GroupOutcome::NAMES.iter().map(commits).collect(),
            size: histogram!("tenure_group_commit_size", "pool" => pool.to_owned()),
            wait: histogram!("tenure_group_commit_wait_seconds", "pool" => pool.to_owned()),
            waiters,
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

    /// So many wait now.
    pub(crate) fn waiting(&self, callers: usize) {
        self.waiters.set(callers as f64);
    }
}

/// The handles of one role.
#[derive(Debug)]
pub(crate) struct RoleMetrics {
    pub(crate) limit: Gauge,
    pub(crate) idle: Gauge,
    pub(crate) used: Gauge,
    pub(crate) waiters: Gauge,
    pub(crate) oldest_waiter: Gauge,
    pub(crate) oldest_hold: Gauge,
    pub(crate) long_held: Gauge,
    pub(crate) hold: Histogram,
    pub(crate) connect: Histogram,
    pub(crate) opened: Counter,
    pub(crate) nested: Counter,
    /// The same as its pool's.
    pub(crate) forked: Counter,
    pub(crate) leaks: Counter,
    wait: Histogram,
    checkouts: Vec<Counter>,
    closed: Vec<Counter>,
    /// `None` of a pool of something else.
    statements: Option<Arc<StatementRequests>>,
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
        let closed = |reason: &&'static str| match can_be_closed(role, reason) {
            true => counter!(
                "tenure_connections_closed_total",
                "pool" => pool(), "role" => role, "reason" => *reason
            ),
            false => Counter::noop(),
        };
        let metrics = Self {
            limit: gauge!("tenure_connections_max", "pool" => pool(), "role" => role),
            idle: connections("idle"),
            used: connections("used"),
            waiters: gauge!("tenure_waiters", "pool" => pool(), "role" => role),
            oldest_waiter: gauge!("tenure_oldest_waiter_seconds", "pool" => pool(), "role" => role),
            oldest_hold: gauge!("tenure_oldest_hold_seconds", "pool" => pool(), "role" => role),
            long_held: gauge!("tenure_long_held", "pool" => pool(), "role" => role),
            hold: histogram!("tenure_hold_seconds", "pool" => pool(), "role" => role),
            connect: histogram!("tenure_connect_seconds", "pool" => pool(), "role" => role),
            opened: counter!(
                "tenure_connections_opened_total", "pool" => pool(), "role" => role
            ),
            nested: counter!("tenure_nested_checkouts_total", "pool" => pool(), "role" => role),
            forked: forked(&pool()),
            leaks: counter!("tenure_leaks_total", "pool" => pool(), "role" => role),
            wait: histogram!("tenure_checkout_wait_seconds", "pool" => pool(), "role" => role),
            checkouts: CheckoutOutcome::NAMES.iter().map(checkouts).collect(),
            closed: CloseReason::NAMES.iter().map(closed).collect(),
            statements: None,
        };
        let Self { limit, idle, used, waiters, oldest_waiter, oldest_hold, long_held, .. } =
            &metrics;
        for gauge in [limit, idle, used, waiters, oldest_waiter, oldest_hold, long_held] {
            gauge.set(0.0);
        }
        metrics
    }

    /// `queued` = it had a place in the queue.
    pub(crate) fn checkout(&self, outcome: CheckoutOutcome, started: Instant, queued: bool) {
        self.checkouts[outcome as usize].increment(1);
        // Waits in vain count too: else the picture is best when everybody times out. So does a wait for
        // the opening.
        if queued
            || matches!(
                outcome,
                CheckoutOutcome::Waited | CheckoutOutcome::Timeout | CheckoutOutcome::ConnectFailed
            )
        {
            self.wait.record(started.elapsed());
        }
    }

    pub(crate) fn checkouts(&self, outcome: CheckoutOutcome, times: u64) {
        self.checkouts[outcome as usize].increment(times);
    }

    /// Publishes what the connections have counted.
    pub(crate) fn publish_statements(&self) {
        if let Some(statements) = &self.statements {
            statements.publish();
        }
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
