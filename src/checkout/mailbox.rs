//! What a waiting thread is told, and its sleep until then.
//!
//! Apart from the [queue](super::queue), so that `tests/loom` can try each by itself: the mailbox with all
//! of its own steps, and then the queue and the hand-over with a mailbox of one step, of which the
//! interleavings are few enough to try them all.

use std::time::Instant;

use super::sync::{AtomicBool, Condvar, Mutex, Ordering, spin_until};

/// Of one thread that waits; any thread may put something in.
pub(super) struct Mailbox<M> {
    /// Locked by the waiting thread only while it goes to sleep or wakes.
    message: Mutex<Option<M>>,
    /// For a look without the lock.
    has_message: AtomicBool,
    told: Condvar,
}

impl<M> Mailbox<M> {
    pub(super) fn new() -> Self {
        Self {
            message: Mutex::new(None),
            has_message: AtomicBool::new(false),
            told: Condvar::new(),
        }
    }

    /// Takes the place of a message that was not taken yet. Wakes nobody: that takes a system call, and
    /// this happens under a lock.
    pub(super) fn put(&self, message: M) {
        *self.message.lock() = Some(message);
        self.has_message.store(true, Ordering::Relaxed);
    }

    /// To be called after each [`put`](Self::put).
    pub(super) fn wake(&self) {
        self.told.notify_one();
    }

    /// Sleeps until a message comes (`Some`) or the deadline passes.
    pub(super) fn wait(&self, deadline: Option<Instant>) -> Option<M> {
        let mut message = self.message.lock();
        loop {
            if message.is_some() {
                self.has_message.store(false, Ordering::Relaxed);
                return message.take();
            }
            message = match deadline {
                None => self.told.wait(message),
                Some(deadline) => {
                    let (mut message, passed) = self.told.wait_until(message, deadline);
                    if passed {
                        return message.take();
                    }
                    message
                }
            };
        }
    }

    /// What is there already.
    pub(super) fn take(&self) -> Option<M> {
        self.message.lock().take()
    }

    /// Keeps its core busy until a message comes or the moment passes.
    pub(super) fn stay_awake(&self, until: Instant) {
        spin_until(|| self.has_message.load(Ordering::Relaxed), until);
    }
}
