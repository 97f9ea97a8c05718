//! Guards that nobody gives back: forgotten ones, and ones that are dropped only when others have long been
//! opened in their connections' place.

use std::any::Any;
use std::cell::RefCell;
use std::mem;
use std::thread;
use std::time::Duration;

use tenure::Pool;

use super::Until;

/// In milliseconds: by then the pool has noticed that a thread has ended without giving its guard back, and
/// has opened another connection.
const NOTICED: u64 = 3_500;

thread_local! {
    static LATE_GUARD: RefCell<Option<Late>> = const { RefCell::new(None) };
}

/// Drops a guard long after its thread should have ended.
struct Late(Box<dyn Any>);

impl Drop for Late {
    fn drop(&mut self) {
        thread::sleep(Duration::from_millis(NOTICED));
        self.0 = Box::new(());
    }
}

pub(super) fn run(pool: &Pool, until: Until<'_>) {
    for round in 0_u64.. {
        if !until.pause(1000) {
            return;
        }
        if round % 4 > 0 {
            thread::scope(|scope| {
                scope.spawn(|| mem::forget(pool.read()));
                scope.spawn(|| mem::forget(pool.write()));
            });
        } else if until.pause(NOTICED) {
            late(pool, |pool| Box::new(pool.read_owned()));
            late(pool, |pool| Box::new(pool.write_owned()));
            until.pause(NOTICED);
        }
    }
}

fn late(pool: &Pool, check_out: fn(&Pool) -> Box<dyn Any>) {
    let keep = || {
        // First, so that it ends last: after the pool has seen the thread end.
        LATE_GUARD.with(|_| {});
        LATE_GUARD.set(Some(Late(check_out(pool))));
    };
    thread::scope(|scope| drop(scope.spawn(keep)));
}
