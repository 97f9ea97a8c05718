//! The statements that the pool itself runs all the time, prepared once for each connection.
//!
//! `rusqlite`'s cache would keep them too, but looks each up by its text and moves it out and in, which
//! takes longer than BEGIN does. What it offers besides, a `Statement`, borrows its connection and so
//! cannot be kept beside it.

use std::cell::Cell;
use std::ffi::{CStr, c_int};
use std::ptr;

use rusqlite::ffi;

/// One of them. None has parameters, and none is there for its rows.
#[derive(Clone, Copy, Debug)]
pub(crate) enum OwnStatement {
    BeginDeferred,
    BeginImmediate,
    BeginExclusive,
    Commit,
    Rollback,
    /// Begins the transaction in truth, which BEGIN DEFERRED does not.
    FirstRead,
    /// The outermost one, and its end.
    Savepoint,
    Release,
}

impl OwnStatement {
    const COUNT: usize = 8;

    fn text(self) -> &'static CStr {
        match self {
            Self::BeginDeferred => c"BEGIN DEFERRED",
            Self::BeginImmediate => c"BEGIN IMMEDIATE",
            Self::BeginExclusive => c"BEGIN EXCLUSIVE",
            Self::Commit => c"COMMIT",
            Self::Rollback => c"ROLLBACK",
            Self::FirstRead => c"SELECT 1 FROM sqlite_schema LIMIT 1",
            Self::Savepoint => c"SAVEPOINT tenure_1",
            Self::Release => c"RELEASE tenure_1",
        }
    }
}

/// Those of one connection, as far as they were needed.
#[derive(Default)]
pub(super) struct OwnStatements(
    [Cell<Option<ptr::NonNull<ffi::sqlite3_stmt>>>; OwnStatement::COUNT],
);

impl OwnStatements {
    /// # Safety
    ///
    /// The connection is open, is the same at each call, and no other thread uses it. It is not closed
    /// before [`finalize`](Self::finalize).
    pub(super) unsafe fn run(
        &self,
        connection: *mut ffi::sqlite3,
        which: OwnStatement,
    ) -> rusqlite::Result<()> {
        let kept = &self.0[which as usize];
        if kept.get().is_none() {
            let mut statement = ptr::null_mut();
            // SAFETY: as the caller promises; the text ends with NUL. On failure what comes back is
            // null.
            let code = unsafe {
                let (text, flags) = (which.text().as_ptr(), ffi::SQLITE_PREPARE_PERSISTENT);
                let (to, rest) = (&raw mut statement, ptr::null_mut());
                ffi::sqlite3_prepare_v3(connection, text, -1, flags, to, rest)
            };
            // SAFETY: as the caller promises.
            unsafe { check(connection, code) }?;
            kept.set(ptr::NonNull::new(statement));
        }
        let Some(statement) = kept.get() else { return Ok(()) };
        // SAFETY: a statement of this connection, finalized by `finalize` alone, with which nobody else
        // has anything to do. What a step has met, resetting says again.
        unsafe {
            while ffi::sqlite3_step(statement.as_ptr()) == ffi::SQLITE_ROW {}
            check(connection, ffi::sqlite3_reset(statement.as_ptr()))
        }
    }

    /// # Safety
    ///
    /// The connection is open.
    pub(super) unsafe fn finalize(&self) {
        for statement in self.0.iter().filter_map(Cell::take) {
            // SAFETY: prepared by `run`, and forgotten here.
            unsafe { ffi::sqlite3_finalize(statement.as_ptr()) };
        }
    }
}

/// # Safety
///
/// The connection is open, and `code` is what the latest call on it returned.
unsafe fn check(connection: *mut ffi::sqlite3, code: c_int) -> rusqlite::Result<()> {
    if code == ffi::SQLITE_OK {
        return Ok(());
    }
    // SAFETY: the text is never null, and is copied before the next call on the connection.
    let message = unsafe { CStr::from_ptr(ffi::sqlite3_errmsg(connection)) };
    let message = message.to_string_lossy().into_owned();
    Err(rusqlite::Error::SqliteFailure(ffi::Error::new(code), Some(message)))
}
