//! Which snapshots are open, since when: the oldest keeps the WAL from being used again.
//!
//! A view is noted on its connection, under a lock that is contended only while somebody looks. The
//! pool keeps a list of its connections' notes. (A list of views instead would be one lock that all
//! readers take.)

use std::sync::{Arc, Weak};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::log::Log;
use crate::metrics::PoolMetrics;
use crate::status::Holder;
use crate::who::{Place, thread_name};

#[derive(Debug)]
struct View {
    thread: Thread,
    place: Option<Place>,
    since: Instant,
    /// Said to be old in the log.
    said: bool,
}

impl View {
    fn describe(&self, now: Instant) -> Holder {
        Holder {
            thread: thread_name(&self.thread),
            place: self.place.map_or_else(|| "unknown".to_owned(), ToString::to_string),
            held: now.saturating_duration_since(self.since),
            detached: false,
            label: None,
        }
    }
}

/// The view of one connection, if it has one.
#[derive(Debug, Default)]
pub(super) struct ViewNote(Mutex<Option<View>>);

impl ViewNote {
    pub(super) fn begin(&self, place: Option<Place>, since: Instant) {
        *self.0.lock() = Some(View { thread: thread::current(), place, since, said: false });
    }

    pub(super) fn end(&self) {
        *self.0.lock() = None;
    }
}

/// The notes of all connections of a pool.
#[derive(Debug, Default)]
pub(crate) struct Views(Mutex<Vec<Weak<ViewNote>>>);

impl Views {
    /// For a new connection.
    pub(super) fn note(&self) -> Arc<ViewNote> {
        let note = Arc::new(ViewNote::default());
        let mut notes = self.0.lock();
        notes.retain(|note| note.strong_count() > 0);
        notes.push(Arc::downgrade(&note));
        note
    }

    /// The oldest snapshot that is open.
    pub(super) fn oldest(&self) -> Option<Holder> {
        let now = Instant::now();
        let notes = self.notes();
        let views = notes.iter().filter_map(|note| Some(note.0.lock().as_ref()?.describe(now)));
        views.max_by_key(|view| view.held)
    }

    /// Says in the log which snapshots have become old, each once.
    pub(super) fn report(&self, limit: Option<Duration>, log: &Log) {
        let Some(limit) = limit else { return };
        let now = Instant::now();
        for note in self.notes() {
            let old = {
                let mut view = note.0.lock();
                let old = view.as_mut().filter(|view| {
                    !view.said && now.saturating_duration_since(view.since) >= limit
                });
                old.map(|view| {
                    view.said = true;
                    view.describe(now)
                })
            };
            if let Some(view) = old {
                log.old_snapshot(&view);
            }
        }
    }

    pub(super) fn publish(&self, metrics: &PoolMetrics) {
        metrics.oldest_snapshot(self.oldest().map_or(Duration::ZERO, |view| view.held));
    }

    fn notes(&self) -> Vec<Arc<ViewNote>> {
        self.0.lock().iter().filter_map(Weak::upgrade).collect()
    }
}
