//! Where the connection of each slot comes from: an r2d2 pool of its own, for one connection.
//!
//! r2d2's limit is fixed; it goes on to count a connection whose guard was leaked, and to open for
//! those who have given up waiting. One r2d2 pool for all slots would therefore open fewer connections
//! than the limit allows after a leak, and more than that after a change of the limit. A slot that is
//! to have nothing more to do with what was opened for it forgets its source, and gets another one
//! when it is used again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use metrics::Histogram;
use parking_lot::Mutex;
use scheduled_thread_pool::ScheduledThreadPool;

use super::openings::Openings;
use super::source::{ConnectFailure, LastFailure, Manage, Notes, Source};
use crate::log::Log;

/// The longest pause that r2d2 makes between two tries is half of this. It gives back-off under a
/// lasting fault, and connections soon after the fault is gone.
const R2D2_TIMEOUT: Duration = Duration::from_millis(500);

/// The sources of all slots of a role.
pub(super) struct Sources<M: Manage> {
    manager: Arc<M>,
    last_failure: Arc<LastFailure>,
    openings: Arc<Openings>,
    /// r2d2's thread.
    opener: Arc<ScheduledThreadPool>,
    /// How long connects take.
    seconds: Histogram,
    /// Those that are in use. Locked to look one up; none is dropped under it.
    by_slot: Mutex<BTreeMap<usize, r2d2::Pool<Source<M>>>>,
}

impl<M: Manage> Sources<M> {
    pub(super) fn new(
        role: &'static str,
        log: Arc<Log>,
        manager: Arc<M>,
        opener: Arc<ScheduledThreadPool>,
        seconds: Histogram,
    ) -> Self {
        Self {
            manager,
            last_failure: Arc::new(LastFailure::new(role, log)),
            openings: Arc::default(),
            opener,
            seconds,
            by_slot: Mutex::default(),
        }
    }

    /// Where the connections of this slot come from: one at a time.
    pub(super) fn of(&self, slot: usize) -> r2d2::Pool<Source<M>> {
        self.by_slot.lock().entry(slot).or_insert_with(|| self.another()).clone()
    }

    fn another(&self) -> r2d2::Pool<Source<M>> {
        let (manager, failure) = (Arc::clone(&self.manager), Arc::clone(&self.last_failure));
        r2d2::Pool::builder()
            .max_size(1)
            .min_idle(Some(0))
            .max_lifetime(None)
            .idle_timeout(None)
            .connection_timeout(R2D2_TIMEOUT)
            .test_on_check_out(false)
            .error_handler(Box::new(Notes(Arc::clone(&failure))))
            .thread_pool(Arc::clone(&self.opener))
            .build_unchecked(Source::new(
                manager,
                failure,
                Arc::clone(&self.openings),
                self.seconds.clone(),
            ))
    }

    /// What r2d2 has opened for nobody there, or is about to, is closed.
    pub(super) fn forget(&self, mut slots: impl FnMut(usize) -> bool) {
        let mut sources = self.by_slot.lock();
        let gone: Vec<_> = sources.extract_if(.., |slot, _| slots(*slot)).collect();
        drop(sources);
        drop(gone);
    }

    /// When all slots of a closed pool are empty: waits until nothing is open for nobody either.
    /// `false` = the deadline came first.
    pub(super) fn end(&self, deadline: Option<Instant>) -> bool {
        self.openings.end(deadline)
    }

    /// Why the latest connection could not be opened; `None` once one could.
    pub(super) fn last_failure(&self) -> Option<ConnectFailure> {
        self.last_failure.get()
    }
}
