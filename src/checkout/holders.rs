//! Who holds what, since when, taken where.
//!
//! Every checkout is noted, so that a time-out can name the holder that has kept others waiting
//! longest, and a status page can list them all. The notes live under the lock that a checkout takes
//! anyway; the thread is kept as the standard library's handle, its name read only when asked for.

use std::thread::{self, Thread};
use std::time::{Duration, Instant};

pub(super) use crate::log::{Place, thread_name};
use crate::status::Holder;

/// The number under which a checkout is noted.
pub(crate) type HolderId = usize;

struct Note {
    thread: Thread,
    place: Place,
    since: Instant,
    detached: bool,
    /// The log has been told that it is held for long.
    reported: bool,
}

impl Note {
    fn describe(&self, now: Instant) -> Holder {
        Holder {
            thread: thread_name(&self.thread),
            place: self.place.to_string(),
            held: now.saturating_duration_since(self.since),
            detached: self.detached,
        }
    }
}

/// The checkouts that are out. Freed numbers are used again, so it never outgrows the limit.
#[derive(Default)]
pub(super) struct Holders {
    notes: Vec<Option<Note>>,
    free: Vec<HolderId>,
}

impl Holders {
    pub(super) fn add(&mut self, thread: Thread, place: Place, since: Instant) -> HolderId {
        let note = Some(Note { thread, place, since, detached: false, reported: false });
        if let Some(id) = self.free.pop() {
            self.notes[id] = note;
            return id;
        }
        self.notes.push(note);
        self.notes.len() - 1
    }

    pub(super) fn remove(&mut self, id: HolderId) {
        self.notes[id] = None;
        self.free.push(id);
    }

    /// The connection waits to be attached to some thread.
    pub(super) fn detach(&mut self, id: HolderId) {
        if let Some(note) = &mut self.notes[id] {
            note.detached = true;
        }
    }

    /// The calling thread owns it from now on; the time it has been out goes on.
    pub(super) fn attach(&mut self, id: HolderId, place: Place) {
        if let Some(note) = &mut self.notes[id] {
            note.detached = false;
            note.thread = thread::current();
            note.place = place;
        }
    }

    pub(super) fn len(&self) -> usize {
        self.notes.len() - self.free.len()
    }

    pub(super) fn longest(&self, now: Instant) -> Option<Holder> {
        let oldest = self.notes.iter().flatten().min_by_key(|note| note.since);
        oldest.map(|note| note.describe(now))
    }

    /// How many have been held for longer than `limit`, and those of them not asked about before.
    pub(super) fn held_longer_than(
        &mut self,
        limit: Duration,
        now: Instant,
    ) -> (usize, Vec<Holder>) {
        let mut count = 0;
        let mut new = Vec::new();
        for note in self.notes.iter_mut().flatten() {
            if now.saturating_duration_since(note.since) >= limit {
                count += 1;
                if !std::mem::replace(&mut note.reported, true) {
                    new.push(note.describe(now));
                }
            }
        }
        (count, new)
    }

    pub(super) fn describe(&self, now: Instant) -> Vec<Holder> {
        let mut holders: Vec<_> = self.notes.iter().flatten().map(|n| n.describe(now)).collect();
        holders.sort_by_key(|holder| std::cmp::Reverse(holder.held));
        holders
    }
}
