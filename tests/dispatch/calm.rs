//! A check-in that only stores and a waiter that comes at the same moment do not miss each other.
//!
//! Whether the kernel's fence does what `tests/loom` takes for granted, only real threads can tell.

use std::hint;
use std::panic::Location;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::dispatch::{Answer, Dispatch};
use crate::ffi::asymmetric_fence;
use crate::holders::Asker;
use crate::queue::Turn;

const ROUNDS: u32 = 200_000;

/// A pointer, as the pool's own: what is larger is not stored at once.
type Connection = Box<usize>;

/// Where both threads are.
#[derive(Default)]
struct Meeting(AtomicU32);

impl Meeting {
    /// Returns when both have come for the `number`th time, counted from 1.
    fn meet(&self, number: u32) {
        self.0.fetch_add(1, Ordering::AcqRel);
        while self.0.load(Ordering::Acquire) < 2 * number {
            hint::spin_loop();
            // Where there is a single core.
            if number.is_multiple_of(64) {
                thread::yield_now();
            }
        }
    }
}

/// More memory than a cache holds. As long as a processor waits for it, to write to it, what it stores
/// afterwards cannot be seen.
struct Far(Vec<AtomicU8>);

impl Far {
    const SIZE: usize = 64 << 20;
    const STEP: usize = 4096 + 64;
    const AT_ONCE: usize = 8;

    fn new() -> Self {
        Self((0..Self::SIZE).map(|_| AtomicU8::new(1)).collect())
    }

    fn write(&self, round: u32) {
        for at in 0..Self::AT_ONCE {
            let at = (round as usize * Self::AT_ONCE + at) * Self::STEP;
            self.0[at % Self::SIZE].store(2, Ordering::Relaxed);
        }
    }
}

/// Waits for the only connection, which is about to come back; `None` = in vain.
fn wait(dispatch: &Dispatch<Connection>) -> Option<Connection> {
    let asker = Asker::current(Location::caller());
    match dispatch.ask(Some(asker), 1) {
        Answer::Connection(connection) => Some(connection),
        Answer::Wait(waiter) => {
            match dispatch.wait(&waiter, Some(Instant::now() + Duration::from_secs(5)), || None) {
                Some(Turn::Connection(connection)) => Some(connection),
                _ => None,
            }
        }
        _ => None,
    }
}

#[test]
#[cfg_attr(
    debug_assertions,
    ignore = "without optimization the two are never close enough; see .ci/run"
)]
fn nobody_waits_in_vain_for_what_came_back_in_calm() {
    assert!(asymmetric_fence::is_available(), "there is no such fence here, and nothing to try");
    let dispatch = Dispatch::new(1, 1, 8, 0);
    assert_eq!(dispatch.room(), Some(0));
    assert!(dispatch.give(0, Box::new(0)).is_none());
    let (meeting, far, missed) = (Meeting::default(), Far::new(), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..ROUNDS {
                meeting.meet(2 * round + 1);
                // Sometimes before the connection is given back, and sometimes after it.
                (0..round % 64).for_each(|_| hint::spin_loop());
                match wait(&dispatch) {
                    Some(connection) => assert!(dispatch.give(0, connection).is_none()),
                    None => missed.store(true, Ordering::Relaxed),
                }
                meeting.meet(2 * round + 2);
                if missed.load(Ordering::Relaxed) {
                    return;
                }
            }
        });
        for round in 0..ROUNDS {
            // Of the last round somebody has asked, of this one nobody yet.
            dispatch.calm_down();
            dispatch.calm_down();
            let connection = dispatch.take().expect("it is idle and nobody waits");
            meeting.meet(2 * round + 1);
            (0..48).for_each(|_| hint::spin_loop());
            far.write(round);
            assert!(dispatch.give(0, connection).is_none());
            meeting.meet(2 * round + 2);
            if missed.load(Ordering::Relaxed) {
                return;
            }
        }
    });
    assert!(!missed.into_inner(), "it came back, and nobody has woken who waits for it");
}
