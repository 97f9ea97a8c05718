//! The mailbox of a waiter in a single step, whatever is done with it.
//!
//! The real one takes up to five, and each multiplies the interleavings of everything around it. It is
//! tried by itself, and so is this one, by the same tests: `mailboxes`.

use std::sync::Mutex as StdMutex;
use std::time::Instant;

use loom::sync::Mutex;
use loom::thread::{self, Thread};

pub(crate) struct Mailbox<M> {
    inside: Mutex<Inside<M>>,
    /// Between a message and its wake-up. Of the thread that puts it in.
    to_wake: StdMutex<Option<Thread>>,
}

struct Inside<M> {
    message: Option<M>,
    /// Has found nothing, and sleeps until it is woken.
    sleeper: Option<Thread>,
}

impl<M> Mailbox<M> {
    pub(crate) fn new() -> Self {
        Self {
            inside: Mutex::new(Inside { message: None, sleeper: None }),
            to_wake: StdMutex::new(None),
        }
    }

    pub(crate) fn put(&self, message: M) {
        let mut inside = self.inside.lock().unwrap();
        inside.message = Some(message);
        if let Some(sleeper) = inside.sleeper.take() {
            *self.to_wake.lock().unwrap() = Some(sleeper);
        }
    }

    pub(crate) fn wake(&self) {
        if let Some(sleeper) = self.to_wake.lock().unwrap().take() {
            sleeper.unpark();
        }
    }

    /// A deadline passes as soon as there is no message.
    pub(crate) fn wait(&self, deadline: Option<Instant>) -> Option<M> {
        loop {
            let mut inside = self.inside.lock().unwrap();
            if inside.message.is_some() || deadline.is_some() {
                return inside.message.take();
            }
            inside.sleeper = Some(thread::current());
            drop(inside);
            thread::park();
        }
    }

    pub(crate) fn take(&self) -> Option<M> {
        self.inside.lock().unwrap().message.take()
    }

    pub(crate) fn stay_awake(&self, _: Instant) {}
}
