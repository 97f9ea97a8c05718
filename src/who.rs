//! How a thread and a place in the source are named, in errors, in the log and in the status.

use std::panic::Location;
use std::thread::Thread;

/// Where in the source something happened.
pub(crate) type Place = &'static Location<'static>;

/// The thread's name, or its number for one that has none.
pub(crate) fn thread_name(thread: &Thread) -> String {
    thread.name().map_or_else(|| format!("{:?}", thread.id()), str::to_owned)
}
