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
    #[inline]
    pub(crate) fn is_elsewhere(self) -> bool {
        self.0 != ffi::forks()
    }
}

/// How many forks lie between this process and the first that opened a pool.
pub(crate) fn depth() -> u32 {
    ffi::forks()
}

/// For what all pools of a process share: each process has one of its own.
///
/// A lock that another thread holds at the moment of a fork is never released in the child. So a
/// child does not touch its parent's, and begins with one that nobody has used. The locks of a chain
/// of more than so many forks are shared by its last processes.
pub(crate) struct PerProcess<T>([T; 8]);

impl<T> PerProcess<T> {
    /// All of them equal and unused.
    pub(crate) const fn new(each: [T; 8]) -> Self {
        Self(each)
    }

    /// This process's.
    pub(crate) fn here(&self) -> &T {
        &self.0[(depth() as usize).min(self.0.len() - 1)]
    }
}

/// What is said to whoever tries.
pub(crate) const FORKED: &str = "this process was forked from the one that opened the pool: the \
                                 connections are the parent's (SQLite's locks stayed there), and to use \
                                 them here would damage what both are connected to; open a pool of the \
                                 child's own after the fork";
