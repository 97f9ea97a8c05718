//! The waiters, in order of arrival, each with its deadline.
//!
//! What a waiter is given is a [`Turn`]. It is put down under the lock of
//! [`Dispatch`](super::dispatch::Dispatch), so a waiter whose deadline passes at the same moment
//! either is still in the queue (and leaves it) or has its turn already (and takes it); nothing can
//! be lost in between. Waking a thread takes a system call and happens after that lock is released.

use std::collections::VecDeque;
use std::sync::Arc;

use super::holders::Asker;
use super::mailbox::Mailbox;

/// What a waiter is given.
pub(super) enum Turn<T> {
    /// A connection, noted as held by the waiter.
    Connection(T),
    /// The right to open one into this slot: the limit has room and the room is reserved.
    Room(usize),
    /// The pool was closed.
    Closed,
    /// The limit has become less, and to wait on would be in vain.
    WouldDeadlock,
}

/// What a waiter is told.
pub(super) enum Message<T> {
    Turn(Turn<T>),
    /// A connection is free; the waiter may have it if it comes before a newcomer does.
    Look,
}

/// One thread's wait.
pub(super) struct Waiter<T> {
    pub(super) asker: Asker,
    pub(super) since: u64,
    /// Rises with every arrival.
    pub(super) number: u64,
    pub(super) mailbox: Mailbox<Message<T>>,
}

impl<T> Waiter<T> {
    /// The turn of a waiter that is no longer in the queue.
    pub(super) fn turn(&self) -> Option<Turn<T>> {
        match self.mailbox.take() {
            Some(Message::Turn(turn)) => Some(turn),
            Some(Message::Look) | None => None,
        }
    }
}

/// Those who have been told something and must be woken.
///
/// Dropping it wakes them; it is dropped after the lock.
#[must_use = "it is to be dropped after the lock"]
pub(super) struct Told<T>(Vec<Arc<Waiter<T>>>);

impl<T> Told<T> {
    pub(super) fn nobody() -> Self {
        Self(Vec::new())
    }

    pub(super) fn tell(&mut self, waiter: Arc<Waiter<T>>, message: Message<T>) {
        // A turn replaces an invitation to look.
        waiter.mailbox.put(message);
        self.0.push(waiter);
    }
}

impl<T> Drop for Told<T> {
    fn drop(&mut self) {
        for waiter in &self.0 {
            waiter.mailbox.wake();
        }
    }
}

struct Entry<T> {
    waiter: Arc<Waiter<T>>,
    /// Was told to look, and looks once more by itself if it comes too late.
    looking: bool,
}

/// All waits, the longest first.
pub(super) struct Queue<T> {
    entries: VecDeque<Entry<T>>,
    arrivals: u64,
    /// Since when the first one has been the first.
    first_since: u64,
}

impl<T> Queue<T> {
    pub(super) fn new() -> Self {
        Self { entries: VecDeque::new(), arrivals: 0, first_since: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Takes a place at the end.
    pub(super) fn join(&mut self, asker: Asker, now: u64) -> Arc<Waiter<T>> {
        if self.entries.is_empty() {
            self.first_since = now;
        }
        self.arrivals += 1;
        let waiter =
            Arc::new(Waiter { asker, since: now, number: self.arrivals, mailbox: Mailbox::new() });
        self.entries.push_back(Entry { waiter: Arc::clone(&waiter), looking: false });
        waiter
    }

    /// For how long the first one has been the first.
    pub(super) fn first_for(&self, now: u64) -> u64 {
        now.saturating_sub(self.first_since)
    }

    /// For how long the first one has been in the queue.
    pub(super) fn waited(&self, now: u64) -> u64 {
        self.entries.front().map_or(0, |entry| now.saturating_sub(entry.waiter.since))
    }

    /// Takes the first one out.
    pub(super) fn pop(&mut self, now: u64) -> Option<Arc<Waiter<T>>> {
        let entry = self.entries.pop_front()?;
        self.first_since = now;
        Some(entry.waiter)
    }

    /// How many are before the waiter of this number; `None` when it is not in the queue any more.
    pub(super) fn before(&self, number: u64) -> Option<usize> {
        self.entries.binary_search_by_key(&number, |entry| entry.waiter.number).ok()
    }

    pub(super) fn remove(&mut self, at: usize, now: u64) -> Option<Arc<Waiter<T>>> {
        let entry = self.entries.remove(at)?;
        if at == 0 {
            self.first_since = now;
        }
        Some(entry.waiter)
    }

    /// Has the waiter at this place told to look, unless it has been already.
    pub(super) fn invite(&mut self, at: usize, told: &mut Told<T>) {
        if let Some(entry) = self.entries.get_mut(at).filter(|entry| !entry.looking) {
            entry.looking = true;
            told.tell(Arc::clone(&entry.waiter), Message::Look);
        }
    }

    /// The waiter at this place does not look by itself any more.
    pub(super) fn may_be_invited(&mut self, at: usize) {
        self.entries[at].looking = false;
    }

    pub(super) fn waiters(&self) -> impl Iterator<Item = &Waiter<T>> {
        self.entries.iter().map(|entry| &*entry.waiter)
    }
}
