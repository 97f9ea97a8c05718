//! What every worker process does: it opens one peer's pool and puts windows of load on it when the
//! main program says so.
//!
//! The peers cannot all link one SQLite, so each is measured in a process of its own. That also keeps
//! the threads and the memory of one out of the figures of another.

pub mod phase;
pub mod protocol;
pub mod sample;
pub mod sql;
pub mod tasks;
pub mod threads;
pub mod versions;
pub mod worker;

use protocol::Window;
use sample::Sample;

/// A pool that is open, and a way to put load on it.
pub trait Runner {
    /// One sample for each load of the window, in order.
    fn run(&self, window: &Window) -> anyhow::Result<Vec<Sample>>;
}
