//! The connects that run on r2d2's thread, and what they have opened that nobody has fetched yet.
//!
//! r2d2 opens on a thread of its own, so a connect may still run, or its connection wait to be fetched,
//! when whoever asked for it has given up. No slot counts it then. So each is counted here, from the
//! moment it begins until its connection is fetched or closed, and a pool that is to be closed waits
//! for them as well. To have each look, when it is done, whether the pool was closed lost: it closes
//! the connection, but after `close` has said that nothing is open.

use std::sync::Arc;
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

#[derive(Default)]
struct State {
    count: usize,
    /// No more of them begin.
    ended: bool,
}

/// Of one role.
#[derive(Default)]
pub(super) struct Openings {
    state: Mutex<State>,
    /// Told when none is left. Waited on with `state`.
    none_left: Condvar,
}

impl Openings {
    /// `None` after the [end](Self::end).
    pub(super) fn begin(self: &Arc<Self>) -> Option<Opening> {
        let mut state = self.state.lock();
        if state.ended {
            return None;
        }
        state.count += 1;
        Some(Opening(Arc::clone(self)))
    }

    /// To be called when nobody can ask for a connection any more: lets no other begin, and waits for
    /// those that run. `false` = the deadline came first.
    pub(super) fn end(&self, deadline: Option<Instant>) -> bool {
        let mut state = self.state.lock();
        state.ended = true;
        let some_left = |state: &mut State| state.count > 0;
        match deadline {
            None => self.none_left.wait_while(&mut state, some_left),
            Some(deadline) => {
                self.none_left.wait_while_until(&mut state, some_left, deadline);
            }
        }
        state.count == 0
    }
}

/// One connect, and its connection as long as nobody has fetched it. Ends when it is dropped.
pub(crate) struct Opening(Arc<Openings>);

impl Drop for Opening {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.count -= 1;
        if state.count == 0 {
            self.0.none_left.notify_all();
        }
    }
}
