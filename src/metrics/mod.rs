//! Every metric: name, type, unit, labels, help, and what to do when it moves, in one table.
//!
//! The library records through the `metrics` facade and leaves the exporter to the application.
//! Handles are made once, when a pool is opened: looking one up by name for each event costs about
//! ten times as much as using it. It follows that the recorder must be installed *before* the pool is
//! opened; handles made earlier record nothing, for ever. (To make them again later lost: every use
//! would have to look first, and what was counted until then would be missing all the same.) A pool
//! that notices says so in the log. It also follows that every series is there from the start, at 0, so
//! that a rate sees the first event.
//!
//! What happens often is counted where no thread waits for another, per slot and per connection, and
//! handed to the recorder each second and by [`Pool::publish_metrics`](crate::Pool::publish_metrics).
//!
//! Labels are `pool` and closed sets of words; never a path, SQL or a place in the source.
#![doc = include_str!("reference.md")]

mod buckets;
mod handles;
mod labels;
mod live;
mod statements;
mod table;

pub use buckets::{DURATION_BUCKETS, SIZE_BUCKETS};
pub(crate) use handles::{GroupMetrics, PoolMetrics, RoleMetrics};
pub(crate) use labels::{
    CacheResult, CheckoutOutcome, CheckpointMode, CheckpointOutcome, CloseReason, GroupOutcome,
    Operation, PageCache, Repair, TransactionKind, TransactionOutcome,
};
#[cfg(feature = "prometheus")]
pub(crate) use live::install_before_all;
pub use live::publish_all;
pub(crate) use live::{PoolName, Publish, say_who_records_nothing};
pub(crate) use statements::StatementTally;
pub use table::{METRICS, Metric, MetricKind};
