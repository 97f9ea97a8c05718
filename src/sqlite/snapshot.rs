//! One consistent view of the database, for as long as it is held.
//!
//! SQLite begins a read transaction lazily, at the first read after BEGIN: two statements could see
//! two states, if a commit came between BEGIN and the first. So a snapshot reads once when it is
//! made.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::thread;
use std::time::Instant;

use super::read_session::ReadSession;
use super::session::Session;
use super::transaction::{Exactly, begin, not_begun};
use crate::checkout::Pinned;
use crate::error::BeginError;
use crate::ffi::OwnStatement;
use crate::metrics::{Operation, TransactionKind, TransactionOutcome};

/// A consistent read view. Dropping it ends the view.
///
/// Made by [`ReadGuard::snapshot`](crate::ReadGuard::snapshot) and
/// [`Pool::snapshot`](crate::Pool::snapshot). It dereferences to [`ReadSession`]. While it is held,
/// the WAL cannot be reset and grows with every commit: keep it short.
///
/// Several queries in one snapshot also cost less than the same queries one by one, because each
/// query outside takes and gives back a file lock.
///
/// ```
/// let pool = tenure::testing::temporary()?;
/// pool.write()?.execute_batch("CREATE TABLE task (title TEXT)")?;
/// let mut reader = pool.read()?;
/// let snapshot = reader.snapshot()?;
/// pool.write()?.execute("INSERT INTO task VALUES ('later')", [])?;
/// let count: i64 = snapshot.query_one("SELECT count(*) FROM task", [], |row| row.get(0))?;
/// assert_eq!(count, 0);
/// # Ok::<(), tenure::Error>(())
/// ```
#[must_use = "a snapshot ends when it is dropped"]
pub struct Snapshot<'g> {
    session: &'g Session,
    begun: Instant,
    _pinned: Pinned,
    _exactly: Exactly<'g>,
}

impl<'g> Snapshot<'g> {
    pub(super) fn begin(session: &'g Session) -> Result<Self, BeginError> {
        let begun = begin(session, TransactionKind::Snapshot, OwnStatement::BeginDeferred)?;
        if let Err(source) = session.run_own(Operation::Begin, OwnStatement::FirstRead) {
            // A failure condemns the connection by itself.
            let _ = session.roll_back();
            return Err(not_begun(session, TransactionKind::Snapshot, begun, source));
        }
        session.view.begin(session.place(), begun);
        Ok(Self { session, begun, _pinned: PhantomData, _exactly: PhantomData })
    }
}

impl Deref for Snapshot<'_> {
    type Target = ReadSession;

    fn deref(&self) -> &ReadSession {
        self.session
    }
}

impl Drop for Snapshot<'_> {
    fn drop(&mut self) {
        if self.session.is_forked() {
            return;
        }
        self.session.view.end();
        let panicking = thread::panicking();
        let outcome =
            if panicking { TransactionOutcome::Panic } else { TransactionOutcome::Commit };
        self.session.metrics().transaction(TransactionKind::Snapshot, outcome, Some(self.begun));
        if let Err(error) = self.session.roll_back() {
            let pool = self.session.log().pool();
            tracing::error!(pool, %error, "cannot end a snapshot; the connection will be closed instead");
        }
    }
}

impl fmt::Debug for Snapshot<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").field("age", &self.begun.elapsed()).finish_non_exhaustive()
    }
}
