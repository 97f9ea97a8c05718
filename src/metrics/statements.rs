//! What is counted for every request to a statement cache: per connection, and published in bulk.
//!
//! A request that hits costs some 40 ns, and a counter of an exporter shared by all threads 13 ns and
//! more. So each connection has numbers of its own, which only its holder changes, and publishing adds
//! up what has come since the last time. What a connection had counted stays when it is closed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_utils::CachePadded;
use metrics::{Counter, counter};
use parking_lot::Mutex;

use super::labels::CacheResult;

/// The numbers of one connection, by [`CacheResult`].
#[derive(Debug, Default)]
pub(crate) struct StatementTally(CachePadded<[AtomicU64; 2]>);

impl StatementTally {
    /// Only for the holder of the connection, so no atomic addition is needed.
    #[inline]
    pub(crate) fn count(&self, result: CacheResult) {
        let count = &self.0[result as usize];
        count.store(count.load(Ordering::Relaxed) + 1, Ordering::Release);
    }

    fn now(&self) -> [u64; 2] {
        [0, 1].map(|result: usize| self.0[result].load(Ordering::Acquire))
    }
}

#[derive(Debug, Default)]
struct State {
    connections: Vec<Arc<StatementTally>>,
    /// What connections that are closed by now had counted.
    closed: [u64; 2],
    published: [u64; 2],
}

/// The numbers of all connections of a role.
#[derive(Debug)]
pub(crate) struct StatementRequests {
    counters: [Counter; 2],
    /// Locked while a connection is opened, and while the numbers are added up.
    state: Mutex<State>,
}

impl StatementRequests {
    pub(super) fn new(pool: &str, role: &'static str) -> Self {
        let one = |result: CacheResult| {
            let result = CacheResult::NAMES[result as usize];
            counter!(
                "tenure_statement_cache_requests_total",
                "pool" => pool.to_owned(), "role" => role, "result" => result
            )
        };
        Self { counters: [CacheResult::Hit, CacheResult::Miss].map(one), state: Mutex::default() }
    }

    /// For a connection that was opened.
    pub(crate) fn tally(&self) -> Arc<StatementTally> {
        let tally = Arc::<StatementTally>::default();
        self.state.lock().connections.push(Arc::clone(&tally));
        tally
    }

    /// Hands what has come since the last time to the recorder.
    pub(super) fn publish(&self) {
        let mut state = self.state.lock();
        let State { connections, closed, published } = &mut *state;
        let mut now = [0; 2];
        connections.retain_mut(|tally| {
            // Alone with it: the connection is closed.
            let is_closed = Arc::get_mut(tally).is_some();
            let sum = if is_closed { &mut *closed } else { &mut now };
            for (sum, count) in sum.iter_mut().zip(tally.now()) {
                *sum += count;
            }
            !is_closed
        });
        for ((now, closed), (published, counter)) in
            now.into_iter().zip(closed).zip(published.iter_mut().zip(&self.counters))
        {
            let sum = now + *closed;
            counter.increment(sum - *published);
            *published = sum;
        }
    }
}
