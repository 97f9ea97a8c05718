//! The one module that may hold `unsafe`: what `rusqlite` does not offer in safe form.
//!
//! * `handle`: handlers that know *whose* wait or statement they are asked about. `rusqlite` takes a
//!   plain `fn(i32) -> bool`, which has no room for the connection it belongs to.
//! * `probe`: what has been changed on a connection, as far as only C functions can tell.
//! * `close`: closing a connection on which statements were forgotten.
//! * `own_statements`: the statements of transactions, kept prepared.
//! * `statement_cache`: the statements of the holders, kept prepared beside the connection they borrow.
//! * `sync_database`: bringing to the disk what checkpoints have written.
//! * `fork`: noticing that this process is a child.
//! * `asymmetric_fence`: a memory fence in all threads at once, for which the kernel is asked.
//!
//! `.ci/run` runs the tests of check-in, of the statement cache, of the busy handler and some of checkpoints under
//! Valgrind.
#![allow(unsafe_code)]

pub(crate) mod asymmetric_fence;
mod close;
mod fork;
mod handle;
mod own_statements;
mod probe;
mod statement_cache;
mod sync_database;

pub(crate) use fork::{count_forks, forks};
pub(crate) use handle::{Handle, Run, Watch};
pub(crate) use own_statements::OwnStatement;
pub(crate) use probe::{
    HeapLimits, Hooks, Switches, has_preupdate_hooks, heap_limits, learn_hooks, set_heap_limits,
    shares_page_cache,
};
pub use statement_cache::CachedStatement;
pub(crate) use sync_database::sync_database;
