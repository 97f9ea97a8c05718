//! How a thread and a place in the source are named, in errors, in the log and in the status.

use std::fmt;
use std::panic::Location;
use std::thread::Thread;

/// Where in the source something happened.
pub(crate) type Place = &'static Location<'static>;

/// The thread's name, or its number for one that has none.
pub(crate) fn thread_name(thread: &Thread) -> String {
    thread.name().map_or_else(|| format!("{:?}", thread.id()), str::to_owned)
}

/// A thread, and what it calls its hold.
pub(crate) struct Named<'a> {
    pub(crate) thread: &'a str,
    pub(crate) label: Option<&'a str>,
}

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "thread `{}`", self.thread)?;
        match self.label {
            // Escaped: a line break in it must not look like the next line of a log.
            Some(label) => write!(f, " ({label:?})"),
            None => Ok(()),
        }
    }
}
