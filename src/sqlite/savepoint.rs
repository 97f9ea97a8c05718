//! A part of a transaction that can be undone by itself.
//!
//! It borrows its transaction, or the savepoint around it, mutably: nesting is last in, first out by
//! construction, and the outer one cannot be used before the inner one has ended.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;

use super::session::Session;
use super::transaction::{Exactly, Hooks};
use crate::checkout::Pinned;
use crate::error::{RollbackError, SavepointError};
use crate::ffi::OwnStatement;
use crate::metrics::Operation;

/// The depth of what stands for a whole transaction.
const WHOLE: u32 = 0;

/// A savepoint in a [`Transaction`](crate::Transaction). Dropping it rolls back to where it was set.
///
/// ```
/// let pool = tenure::testing::temporary()?;
/// pool.transaction(|tx| {
///     tx.execute_batch("CREATE TABLE task (title TEXT)")?;
///     let mut outer = tx.savepoint()?;
///     outer.execute("INSERT INTO task VALUES ('one')", [])?;
///     let inner = outer.savepoint()?;
///     inner.execute("INSERT INTO task VALUES ('two')", [])?;
///     drop(inner);
///     outer.commit()?;
///     let titles: String = tx.query_one("SELECT group_concat(title) FROM task", [], |r| r.get(0))?;
///     assert_eq!(titles, "one");
///     Ok(())
/// })?;
/// # Ok::<(), tenure::Error>(())
/// ```
#[must_use = "dropping a savepoint rolls back to it"]
pub struct Savepoint<'t> {
    session: &'t Session,
    hooks: &'t Hooks,
    /// How many hooks there were when it was set.
    hooks_before: usize,
    depth: u32,
    ended: bool,
    _pinned: Pinned,
    _exactly: Exactly<'t>,
}

impl<'t> Savepoint<'t> {
    pub(super) fn set(
        session: &'t Session,
        hooks: &'t Hooks,
        depth: u32,
    ) -> Result<Self, SavepointError> {
        let failed = |source| SavepointError { action: "set", depth, source };
        if session.is_autocommit() {
            // A SAVEPOINT outside a transaction would begin one, and a DEFERRED one at that.
            return Err(failed(not_open()));
        }
        let set = match depth {
            1 => session.run_own(Operation::Write, OwnStatement::Savepoint),
            _ => session.run(Operation::Write, &format!("SAVEPOINT tenure_{depth}")),
        };
        set.map_err(failed)?;
        Ok(Self::at(session, hooks, depth))
    }

    /// Stands for the whole of a transaction in which nothing was done yet: undoing this ends the
    /// transaction. It costs no statement.
    pub(super) fn whole(session: &'t Session, hooks: &'t Hooks) -> Self {
        Self::at(session, hooks, WHOLE)
    }

    fn at(session: &'t Session, hooks: &'t Hooks, depth: u32) -> Self {
        let hooks_before = hooks.borrow().len();
        Self {
            session,
            hooks,
            hooks_before,
            depth,
            ended: false,
            _pinned: PhantomData,
            _exactly: PhantomData,
        }
    }

    /// Sets a savepoint inside this one.
    ///
    /// # Errors
    ///
    /// When SQL text, or SQLite itself, has ended the transaction.
    ///
    /// ```
    /// fn try_both(outer: &mut tenure::Savepoint<'_>) -> Result<(), tenure::Error> {
    ///     let inner = outer.savepoint()?;
    ///     inner.execute("DELETE FROM task", [])?;
    ///     inner.commit()?;
    ///     Ok(())
    /// }
    /// ```
    pub fn savepoint(&mut self) -> Result<Savepoint<'_>, SavepointError> {
        Savepoint::set(self.session, self.hooks, self.depth + 1)
    }

    /// Has `hook` run after the transaction was committed, unless this savepoint is rolled back.
    /// See [`Transaction::on_commit`](crate::Transaction::on_commit).
    ///
    /// ```
    /// let pool = tenure::testing::temporary()?;
    /// pool.transaction(|tx| {
    ///     let savepoint = tx.savepoint()?;
    ///     savepoint.on_commit(|| unreachable!("the savepoint was rolled back"));
    ///     savepoint.rollback()?;
    ///     Ok(())
    /// })?;
    /// # Ok::<(), tenure::Error>(())
    /// ```
    pub fn on_commit(&self, hook: impl FnOnce() + 'static) {
        self.hooks.borrow_mut().push(Box::new(hook));
    }

    /// Releases the savepoint: its work becomes part of what is around it, and durable with it.
    ///
    /// # Errors
    ///
    /// When SQL text, or SQLite itself, has ended the savepoint or the transaction.
    ///
    /// ```
    /// fn keep(savepoint: tenure::Savepoint<'_>) -> Result<(), tenure::SavepointError> {
    ///     savepoint.commit()
    /// }
    /// ```
    pub fn commit(mut self) -> Result<(), SavepointError> {
        let depth = self.depth;
        let failed = |source| SavepointError { action: "release", depth, source };
        if self.session.is_autocommit() {
            return Err(failed(not_open()));
        }
        let released = match depth {
            // It has none to release; but in a child of the process it is refused like a statement.
            WHOLE => self.session.begin_use(),
            1 => self.session.run_own(Operation::Write, OwnStatement::Release),
            _ => self.session.run(Operation::Write, &format!("RELEASE tenure_{depth}")),
        };
        released.map_err(failed)?;
        self.ended = true;
        Ok(())
    }

    /// Undoes what was done since the savepoint was set.
    ///
    /// # Errors
    ///
    /// [`RollbackError`] when SQLite fails to; the connection is then closed at check-in.
    ///
    /// ```
    /// fn forget(savepoint: tenure::Savepoint<'_>) -> Result<(), tenure::RollbackError> {
    ///     savepoint.rollback()
    /// }
    /// ```
    pub fn rollback(mut self) -> Result<(), RollbackError> {
        self.roll_back().map_err(|source| RollbackError { source })
    }

    fn roll_back(&mut self) -> rusqlite::Result<()> {
        self.ended = true;
        // Dropped last, and not under the borrow: what a hook owns may panic, or add a hook.
        let _undone = self.hooks.borrow_mut().split_off(self.hooks_before);
        if self.session.is_autocommit() {
            // The whole transaction is gone, and this with it.
            return Ok(());
        }
        if self.depth == WHOLE {
            return self.session.roll_back();
        }
        let name = self.depth;
        let result = self
            .session
            .run(Operation::Write, &format!("ROLLBACK TO tenure_{name}"))
            .and_then(|()| self.session.run(Operation::Write, &format!("RELEASE tenure_{name}")));
        if result.is_err() {
            self.session.condemn();
        }
        result
    }
}

/// What SQLite itself says of a statement that needs a transaction.
fn not_open() -> rusqlite::Error {
    let message = "no transaction is open: SQL text or SQLite itself ended it";
    rusqlite::Error::SqliteFailure(
        rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_ERROR),
        Some(message.to_owned()),
    )
}

impl Deref for Savepoint<'_> {
    type Target = Session;

    fn deref(&self) -> &Session {
        self.session
    }
}

impl Drop for Savepoint<'_> {
    fn drop(&mut self) {
        if self.ended || self.session.is_forked() {
            return;
        }
        if let Err(error) = self.roll_back() {
            let pool = self.session.log().pool();
            tracing::error!(pool, %error, "cannot roll back to a savepoint; the connection will be closed");
        }
    }
}

impl fmt::Debug for Savepoint<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Savepoint").field("depth", &self.depth).finish_non_exhaustive()
    }
}
