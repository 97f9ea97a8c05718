//! Noticing that this process is a child of the one that opened a pool.
//!
//! A forked child has the parent's connections and none of its locks: SQLite keeps those per process.
//! Were the child to use a connection, or just to close it, it could write into the parent's
//! transaction or take away its WAL. So everything remembers in which process it was made, and in
//! any other does nothing at all, not even when it is dropped.
//!
//! The process is told apart by a number that a handler of `pthread_atfork` raises in each child: one
//! load for each look, where `getpid` is a system call. A child made by the bare system call, past the
//! C library, is not noticed.

use crate::ffi;

/// The process in which something was made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Birthplace(u32);

impl Birthplace {
    pub(crate) fn here() -> Self {
        ffi::count_forks();
        Self(ffi::forks())
    }

    /// Whether this is a child of that process.
    pub(crate) fn is_elsewhere(self) -> bool {
        self.0 != ffi::forks()
    }
}

/// What is said to whoever tries.
pub(crate) const FORKED: &str = "this process was forked from the one that opened the pool: SQLite's \
                                 locks stayed there, and to use its connections here would damage the \
                                 database; open a pool of the child's own after the fork";
