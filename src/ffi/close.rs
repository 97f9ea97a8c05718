//! Closing a connection on which statements were forgotten.
//!
//! A statement that was leaked, even before its first step, makes `sqlite3_close` refuse. To finalize it
//! then lost: it looks like one that somebody has yet. Virtual tables (FTS5, R-Tree) keep statements of their
//! own; and safe code can put one into the statement cache of another connection, by exchanging what two
//! `rusqlite::CachedStatement`s point to, from where it would be freed a second time. So the connection is
//! left as it is, without a snapshot or a lock, for as long as the process runs, and the log says so.

use std::ptr;
use std::time::Instant;

use rusqlite::{Connection, ffi};

use crate::log::Rate;

static STAYING_OPEN: Rate = Rate::new();

/// # Safety
///
/// The connection is open and no other thread uses it.
pub(super) unsafe fn reset_statements(connection: *mut ffi::sqlite3) {
    // SAFETY: each statement found belongs to the connection and is open: whoever finalizes one
    // removes it from the list. Resetting one leaves it valid for whoever owns it; it may finalize
    // others (those of its cursors), so the next is asked for afterwards.
    unsafe {
        let mut statement = ffi::sqlite3_next_stmt(connection, ptr::null_mut());
        while !statement.is_null() {
            if ffi::sqlite3_stmt_busy(statement) != 0 {
                ffi::sqlite3_reset(statement);
            }
            statement = ffi::sqlite3_next_stmt(connection, statement);
        }
    }
}

pub(super) fn close(connection: Connection) {
    // Dropping what comes back tries once more, and leaves it to itself.
    if connection.close().is_err()
        && let Some(left_out) = STAYING_OPEN.admit(Instant::now())
    {
        tracing::error!(
            left_out,
            "a connection cannot be closed, its files stay open: statements, a backup or a session were \
             forgotten on it"
        );
    }
}
