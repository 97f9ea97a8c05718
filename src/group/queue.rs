//! Who leads.
//!
//! At most one caller leads at a time: it takes the writer in turn, like anyone, and runs what is in
//! the queue. Before it commits it hands the lead on, to the first caller whose work it has not taken,
//! so that the next batch gathers, and its leader wakes, while this one is being written. With nobody
//! to hand it to there is no leader, and the next to come is one.
//!
//! A thread of its own that writes for all would cost a lone caller two changes of thread for each
//! commit. A token in a channel that all waiting callers listen to would wake callers whose work is
//! being committed already.
//!
//! **Nobody is forgotten.** A caller first puts its request into the queue and then asks for the lead.
//! A leader that finds the queue empty first gives up the lead and then looks once more. Both changes
//! of `led` are read-modify-writes, so one comes first: if the caller's does, the leader's look sees the
//! request; if the leader's does, the caller leads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::{Condvar, Mutex};

use super::request::Job;

/// For how long a batch may gather callers that are being woken with the answers of the one before.
/// Without it they find a core busy with a batch of one, and the commits are as many as the callers.
const GATHERING: Duration = Duration::from_micros(300);

/// Why a caller is not let in.
pub(super) enum Refused {
    /// So many are waiting already.
    Full,
    Closed,
}

struct Members {
    /// Callers that have been let in and have not returned.
    inside: usize,
    closed: bool,
}

pub(crate) struct GroupQueue {
    /// How many may wait beside the one who leads.
    limit: usize,
    sender: Sender<Arc<dyn Job>>,
    receiver: Receiver<Arc<dyn Job>>,
    /// Somebody leads, or has been told to.
    led: AtomicBool,
    /// Held for a few moves at a time.
    members: Mutex<Members>,
    empty: Condvar,
}

impl GroupQueue {
    /// At most so many may wait.
    pub(crate) fn new(limit: usize) -> Self {
        // Those who gave up stay until somebody leads.
        let (sender, receiver) = bounded(limit.saturating_add(1));
        Self {
            limit,
            sender,
            receiver,
            led: AtomicBool::new(false),
            members: Mutex::new(Members { inside: 0, closed: false }),
            empty: Condvar::new(),
        }
    }

    /// Lets a caller in.
    pub(super) fn enter(&self) -> Result<Inside<'_>, Refused> {
        let mut members = self.members.lock();
        if members.closed {
            return Err(Refused::Closed);
        }
        if members.inside > self.limit {
            return Err(Refused::Full);
        }
        members.inside += 1;
        Ok(Inside(self))
    }

    /// Takes a place in the queue; `true` = the caller is to lead.
    pub(super) fn join(&self, request: Arc<dyn Job>) -> Result<bool, Refused> {
        self.sender.try_send(request).map_err(|_| Refused::Full)?;
        Ok(!self.led.swap(true, Ordering::AcqRel))
    }

    pub(super) fn next(&self) -> Option<Arc<dyn Job>> {
        self.receiver.try_recv().ok()
    }

    /// As [`next`](Self::next), for a batch that has begun with so many. Callers that were answered and
    /// have not returned yet are about to run, and may come again: they are let run first.
    pub(super) fn next_soon(&self, taken: usize, began: Instant) -> Option<Arc<dyn Job>> {
        self.next().or_else(|| {
            if self.inside() <= taken || began.elapsed() >= GATHERING {
                return None;
            }
            thread::yield_now();
            self.next()
        })
    }

    /// Hands the lead on.
    pub(super) fn hand_on(&self) {
        loop {
            match self.next() {
                Some(request) if request.appoint() => return,
                // Given up meanwhile.
                Some(_) => {}
                None => {
                    self.led.swap(false, Ordering::AcqRel);
                    if self.receiver.is_empty() || self.led.swap(true, Ordering::AcqRel) {
                        return;
                    }
                }
            }
        }
    }

    /// How many callers are inside.
    pub(crate) fn inside(&self) -> usize {
        self.members.lock().inside
    }

    /// Lets nobody in any more, and waits for those inside until the deadline.
    pub(crate) fn close(&self, deadline: Option<Instant>) {
        let mut members = self.members.lock();
        members.closed = true;
        let mut passed = false;
        while members.inside > 0 && !passed {
            passed = match deadline {
                Some(deadline) => self.empty.wait_until(&mut members, deadline).timed_out(),
                None => {
                    self.empty.wait(&mut members);
                    false
                }
            };
        }
    }
}

/// A caller between its arrival and its return.
pub(super) struct Inside<'q>(&'q GroupQueue);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        let mut members = self.0.members.lock();
        members.inside -= 1;
        if members.inside == 0 && members.closed {
            self.0.empty.notify_all();
        }
    }
}
