//! What can be seen of the callers of group commit from outside: their status and their gauge.
//!
//! Apart from the [queue](super::queue), which knows no metrics, so that `tests/loom` can try it by itself.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Instant;

use super::queue::GroupQueue;
use super::request::Caller;
use crate::fork::Birthplace;
use crate::metrics::{PoolMetrics, Publish};
use crate::status::{GroupStatus, Waiter};
use crate::who::thread_name;

/// The callers of group commit of one pool.
pub(crate) struct Group {
    queue: GroupQueue,
    metrics: Arc<PoolMetrics>,
    birthplace: Birthplace,
}

impl Group {
    /// At most so many may wait.
    pub(crate) fn new(limit: usize, metrics: Arc<PoolMetrics>) -> Self {
        Self { queue: GroupQueue::new(limit), metrics, birthplace: Birthplace::here() }
    }

    pub(crate) fn status(&self) -> GroupStatus {
        // In a child nobody is inside, and the queue may have been locked when it was forked.
        if self.birthplace.is_elsewhere() {
            return GroupStatus::default();
        }
        let now = Instant::now();
        let waiter = |caller: Caller| Waiter {
            thread: thread_name(&caller.thread),
            place: caller.place.to_string(),
            waited: now.saturating_duration_since(caller.since),
        };
        let waiting = self.queue.waiting().into_iter().map(waiter).collect();
        GroupStatus { callers: self.queue.inside(), waiting }
    }

    /// Lets nobody in any more, and waits for those inside until the deadline.
    pub(crate) fn close(&self, deadline: Option<Instant>) {
        self.queue.close(deadline);
    }
}

impl Publish for Group {
    fn publish(&self) {
        if !self.birthplace.is_elsewhere() {
            self.metrics.group().waiting(self.queue.waiting_count());
        }
    }
}

impl Deref for Group {
    type Target = GroupQueue;

    fn deref(&self) -> &GroupQueue {
        &self.queue
    }
}

impl Drop for Group {
    /// The pool is gone: nobody would look at this any more.
    fn drop(&mut self) {
        self.metrics.group().waiting(0);
    }
}
