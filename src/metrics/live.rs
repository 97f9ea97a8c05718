//! The pools that are open in this process: their names, which of them record into nothing, and how to
//! have all of them publish.
//!
//! The facade has no hook that an exporter could call before it renders, so who renders has to ask the
//! pools. They are kept weakly: a pool ends with its last user.

use std::mem;
use std::sync::Weak;

use parking_lot::Mutex;

use crate::fork::PerProcess;

/// What counts by itself, and can hand it to the recorder.
pub(crate) trait Publish: Send + Sync {
    /// No checkout waits for it longer than for the copy of a number.
    fn publish(&self);
}

/// A pool that is open.
struct Live {
    name: String,
    publishes: Vec<Weak<dyn Publish>>,
    hears: Hears,
}

/// Whether there was a recorder when the pool was opened. Handles that were made without one record
/// nothing, for ever.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Hears {
    Yes,
    No,
    /// Not, and the log has it.
    NoAsSaid,
}

/// The pools that are open in this process.
static POOLS: PerProcess<Mutex<Vec<Live>>> = PerProcess::new([const { Mutex::new(Vec::new()) }; 8]);

/// A pool's name, no other pool's while it lives: two pools under one name would add up their
/// counters and overwrite each other's gauges.
#[derive(Debug)]
pub(crate) struct PoolName(String);

impl PoolName {
    /// The name as given; `None` when a pool has it already.
    pub(crate) fn exactly(name: &str) -> Option<Self> {
        let mut pools = POOLS.here().lock();
        let is_free = pools.iter().all(|pool| pool.name != name);
        is_free.then(|| Self::enter(&mut pools, name.to_owned()))
    }

    /// The name, with `-2`, `-3` .. appended if need be.
    pub(crate) fn like(name: &str) -> Self {
        let mut pools = POOLS.here().lock();
        let mut unique = name.to_owned();
        let mut number = 1;
        while pools.iter().any(|pool| pool.name == unique) {
            number += 1;
            unique = format!("{name}-{number}");
        }
        Self::enter(&mut pools, unique)
    }

    fn enter(pools: &mut Vec<Live>, name: String) -> Self {
        pools.push(Live { name: name.clone(), publishes: Vec::new(), hears: Hears::Yes });
        Self(name)
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// To be called before the handles are made, by a pool that is to record.
    pub(crate) fn listen(&self) {
        // Under the lock, so that a recorder is not installed in between.
        self.with(|pool| pool.hears = if has_recorder() { Hears::Yes } else { Hears::No });
    }

    /// From now on it publishes with all others.
    pub(crate) fn publish_with_all(&self, publishes: Weak<dyn Publish>) {
        self.with(|pool| pool.publishes.push(publishes));
    }

    fn with(&self, work: impl FnOnce(&mut Live)) {
        let mut pools = POOLS.here().lock();
        if let Some(pool) = pools.iter_mut().find(|pool| pool.name == self.0) {
            work(pool);
        }
    }
}

impl Drop for PoolName {
    fn drop(&mut self) {
        let mut pools = POOLS.here().lock();
        let gone = pools.iter().position(|pool| pool.name == self.0);
        let gone = gone.map(|at| pools.swap_remove(at));
        drop(pools);
        drop(gone);
    }
}

/// Whether handles made here and now record anything.
///
/// The facade does not say, but hands out a recorder without any contents when there is none. One of
/// an application's that has no contents either is taken for none, and nothing is said then.
fn has_recorder() -> bool {
    metrics::with_recorder(|recorder| mem::size_of_val(recorder) > 0)
}

/// Says in the log, once, which pools were opened before the recorder.
pub(crate) fn say_who_records_nothing() {
    let mut deaf = Vec::new();
    for pool in POOLS.here().lock().iter_mut() {
        if pool.hears == Hears::No && has_recorder() {
            pool.hears = Hears::NoAsSaid;
            deaf.push(pool.name.clone());
        }
    }
    for pool in deaf {
        tracing::warn!(
            pool,
            "the metrics recorder was installed after this pool had been opened, which therefore \
             records nothing; install it first"
        );
    }
}

/// Runs `install` unless a pool is open that would record nothing afterwards: then `Err` has the names
/// of those. No pool is opened meanwhile.
#[cfg(feature = "prometheus")]
pub(crate) fn install_before_all<T>(install: impl FnOnce() -> T) -> Result<T, Vec<String>> {
    let pools = POOLS.here().lock();
    let deaf = pools.iter().filter(|pool| pool.hears != Hears::Yes);
    let deaf: Vec<_> = deaf.map(|pool| pool.name.clone()).collect();
    if deaf.is_empty() { Ok(install()) } else { Err(deaf) }
}

/// Has every open pool of the process publish, as [`Pool::publish_metrics`](crate::Pool::publish_metrics)
/// does. To be called before an exporter renders.
///
/// ```
/// let pool = tenure::testing::temporary()?;
/// drop(pool.read()?);
/// tenure::metrics::publish_all();
/// # Ok::<(), tenure::Error>(())
/// ```
pub fn publish_all() {
    let all = |pools: &[Live]| -> Vec<_> {
        pools.iter().flat_map(|pool| pool.publishes.iter().cloned()).collect()
    };
    let all = all(&POOLS.here().lock());
    // Not under the lock: the last user of a pool may be gone meanwhile, and it ends here.
    for pool in all.iter().filter_map(Weak::upgrade) {
        pool.publish();
    }
}
