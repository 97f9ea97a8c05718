//! The one module that may hold `unsafe`: what `rusqlite` does not offer in safe form.
//!
//! It decides how a busy handler learns *whose* wait it is serving. `rusqlite` takes a plain
//! `fn(i32) -> bool`, which has no room for the connection it belongs to. Alternatives that lost:
//!
//! * a thread-local: one thread may use connections of two pools, and raw statements of both would
//!   be counted in whichever was noted last;
//! * a table of `const`-generic functions, one per live connection: exact, but it bounds the number
//!   of connections of a whole process at compile time.
//!
//! SQLite's own `sqlite3_busy_handler` carries a context pointer, so [`Handle`] binds a connection to
//! the state its handler reads, and owns both for as long as either lives.
//!
//! It also ends what statements that were leaked in the middle of their rows hold on to, and clears
//! what a connection remembers of its last INSERT.
//!
//! `.ci/run` runs the tests of check-in and of the busy handler under Valgrind.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use rusqlite::{Connection, ffi};

/// What SQLite asks when a lock it needs is taken.
pub(crate) trait BusyHandler: Send + Sync + 'static {
    /// `attempt` is 0 at the first call for one lock. `true` = slept, try again; `false` = give up.
    fn busy(&self, attempt: u32) -> bool;
}

/// A connection together with the busy handler that SQLite calls for it.
///
/// There is no way to a `&mut Connection` from here: exchanging two connections would part one from
/// the handler it points to.
pub(crate) struct Handle<B: BusyHandler> {
    connection: Connection,
    // An `Arc` rather than a `Box`: SQLite keeps a second pointer to the value, which moving a
    // `Box` would invalidate under Rust's aliasing rules.
    handler: Arc<B>,
}

impl<B: BusyHandler> Handle<B> {
    pub(crate) fn new(connection: Connection, handler: Arc<B>) -> Self {
        let handle = Self { connection, handler };
        handle.install();
        handle
    }

    pub(crate) fn handler(&self) -> &B {
        &self.handler
    }

    /// Resets every statement that is in the middle of its rows, so that none pins a snapshot.
    ///
    /// Called when the connection comes back. Statements borrow the guard, so one that is still
    /// running then was leaked (`mem::forget`).
    ///
    /// They are reset and not finalized, although that would give their memory back too: virtual
    /// tables (FTS5, R-Tree) keep statements of their own on the connection, which look the same from
    /// here, and would use them again.
    pub(crate) fn reset_statements(&self) {
        // SAFETY: the handle is valid for the life of `self`, and each statement found belongs to it
        // and is open: whoever finalizes one removes it from the list. Resetting leaves it valid for
        // whoever owns it. No other thread uses the connection: `self` is not `Sync`.
        unsafe {
            let handle = self.connection.handle();
            let mut statement = ffi::sqlite3_next_stmt(handle, std::ptr::null_mut());
            while !statement.is_null() {
                if ffi::sqlite3_stmt_busy(statement) != 0 {
                    ffi::sqlite3_reset(statement);
                }
                statement = ffi::sqlite3_next_stmt(handle, statement);
            }
        }
    }

    /// Forgets which row was inserted last.
    pub(crate) fn forget_last_insert(&self) {
        // SAFETY: the handle is valid for the life of `self`; the call sets one number in it.
        unsafe { ffi::sqlite3_set_last_insert_rowid(self.connection.handle(), 0) }
    }

    fn install(&self) {
        let context = Arc::as_ptr(&self.handler).cast_mut().cast::<c_void>();
        // SAFETY: the connection is open for the life of `self`, so its handle is valid. `context`
        // points into the `Arc` that `self` holds, and `drop` takes the handler away before that
        // `Arc` is released. The callback reads it as a shared `B`, which is `Sync`.
        let code = unsafe {
            ffi::sqlite3_busy_handler(self.connection.handle(), Some(call::<B>), context)
        };
        debug_assert_eq!(code, ffi::SQLITE_OK, "sqlite3_busy_handler documents no failure");
    }
}

impl<B: BusyHandler> Deref for Handle<B> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

impl<B: BusyHandler> Drop for Handle<B> {
    fn drop(&mut self) {
        // SAFETY: the handle is valid until the field is dropped, which happens after this body.
        // Should the connection outlive it (a leaked statement makes `sqlite3_close` refuse), it
        // holds no pointer to the handler any more.
        unsafe {
            ffi::sqlite3_busy_handler(self.connection.handle(), None, std::ptr::null_mut());
        }
    }
}

/// # Safety
///
/// `context` is the pointer that [`Handle::install`] gave: a live, shared `B`.
unsafe extern "C" fn call<B: BusyHandler>(context: *mut c_void, attempt: c_int) -> c_int {
    // SAFETY: promised by the caller; SQLite passes back what was installed.
    let handler = unsafe { &*context.cast::<B>() };
    let attempt = u32::try_from(attempt).unwrap_or(0);
    // Unwinding into C is not allowed: a panic gives up, and SQLite answers BUSY.
    c_int::from(catch_unwind(AssertUnwindSafe(|| handler.busy(attempt))).unwrap_or(false))
}
