//! What can be seen of a role from outside: its status and its metrics.

use std::cmp::Reverse;
use std::time::Duration;

use super::clock;
use super::holders::{Held, Note};
use super::shared::Shared;
use super::source::Manage;
use crate::metrics::Publish;
use crate::status::{Holder, RoleStatus, Waiter};

impl<M: Manage> Shared<M> {
    /// What the note of this slot has said.
    pub(super) fn describe(&self, slot: usize, held: &Held, now: u64) -> Holder {
        Holder {
            thread: held.holder.thread_name(),
            place: held.holder.place.to_string(),
            label: self.labels.of(slot, held.version),
            held: Duration::from_nanos(now.saturating_sub(held.since)),
            detached: held.detached,
        }
    }

    /// No checkout that finds an idle connection waits for this, and none that does not for longer
    /// than it takes to copy who waits.
    pub(super) fn status(&self) -> RoleStatus {
        if self.is_forked() {
            let (held, waiting) = (Vec::new(), Vec::new());
            let limit = self.settings.limit;
            return RoleStatus { limit, open: 0, idle: 0, held, waiting, last_connect_error: None };
        }
        let waiting = self.dispatch.waiters();
        let now = clock::now();
        let waiting = waiting.into_iter().map(|(asker, since)| Waiter {
            thread: asker.thread_name(),
            place: asker.place.to_string(),
            waited: Duration::from_nanos(now.saturating_sub(since)),
        });
        RoleStatus {
            limit: self.dispatch.limit(),
            open: self.dispatch.open(),
            idle: self.idle(),
            held: self.held(),
            waiting: waiting.collect(),
            last_connect_error: self.sources.last_failure().map(|cause| cause.to_string()),
        }
    }

    /// Who holds a connection, the longest first.
    pub(super) fn held(&self) -> Vec<Holder> {
        let now = clock::now();
        let notes = self.dispatch.notes().map(Note::held).enumerate();
        let held = notes.filter_map(|(slot, held)| Some(self.describe(slot, &held?, now)));
        let mut held: Vec<_> = held.collect();
        held.sort_by_key(|holder| Reverse(holder.held));
        held
    }

    fn idle(&self) -> usize {
        self.dispatch.notes().filter(|note| note.looks_idle()).count()
    }

    pub(super) fn publish_metrics(&self) {
        if self.is_forked() {
            return;
        }
        let metrics = &self.settings.metrics;
        let used = self.dispatch.notes().filter(|note| note.looks_held()).count();
        metrics.idle.set(self.idle() as f64);
        metrics.used.set(used as f64);
        let (waiting, first) = self.dispatch.oldest_waiter();
        metrics.waiters.set(waiting as f64);
        let now = clock::now();
        let age = |since: u64| Duration::from_nanos(now.saturating_sub(since));
        let mut oldest_hold = Duration::ZERO;
        let mut long_held = 0;
        for held in self.dispatch.notes().filter_map(Note::held_since).map(age) {
            oldest_hold = oldest_hold.max(held);
            long_held +=
                u32::from(self.settings.long_held_after.is_some_and(|limit| held >= limit));
        }
        metrics.oldest_waiter.set(first.map_or(Duration::ZERO, age).as_secs_f64());
        metrics.oldest_hold.set(oldest_hold.as_secs_f64());
        metrics.long_held.set(f64::from(long_held));
        self.counts.publish(metrics);
        metrics.publish_statements();
    }
}

impl<M: Manage> Publish for Shared<M> {
    fn publish(&self) {
        self.publish_metrics();
    }
}
