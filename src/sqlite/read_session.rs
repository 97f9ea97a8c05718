//! What may be done with a connection that only reads.
//!
//! The methods keep `rusqlite`'s names, signatures and errors, so code written for a
//! `rusqlite::Connection` moves over by changing the type. The session does not dereference to
//! `rusqlite::Connection`: `unchecked_transaction(&self)`, for one, would reopen the hole that
//! borrowing closes. [`ReadSession::rusqlite`] is the way round for functions that want one.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::sync::Arc;

use rusqlite::Connection;

use super::baseline::Baseline;
use super::busy::Busy;
use super::extensions::Extensions;
use super::interrupt::{InterruptHandle, Interrupts};
use super::manager::{Leavings, Recipe, Role};
use super::read_mark::TELL_EACH;
use super::suspicion::Suspicion;
use super::views::ViewNote;
use crate::ffi::{Handle, OwnStatement};
use crate::fork::FORKED;
use crate::log::Log;
use crate::metrics::{Operation, PoolMetrics, Repair, StatementTally};
use crate::who::Place;

/// What may be done with a reading connection.
///
/// [`ReadGuard`](crate::ReadGuard) and [`Snapshot`](crate::Snapshot) dereference to it, and so does
/// [`Session`](crate::Session). A function that only reads takes `&ReadSession` and can be called with any of them.
///
/// ```
/// use tenure::ReadSession;
///
/// fn open_tasks(session: &ReadSession) -> tenure::rusqlite::Result<i64> {
///     session.query_one("SELECT count(*) FROM task WHERE done = 0", [], |row| row.get(0))
/// }
///
/// let pool = tenure::testing::temporary()?;
/// pool.write()?.execute_batch("CREATE TABLE task (id INTEGER PRIMARY KEY, done INTEGER)")?;
/// assert_eq!(open_tasks(&*pool.read()?)?, 0);
/// pool.transaction(|tx| {
///     tx.execute("INSERT INTO task (done) VALUES (0)", [])?;
///     assert_eq!(open_tasks(tx)?, 1);
///     Ok(())
/// })?;
/// # Ok::<(), tenure::Error>(())
/// ```
pub struct ReadSession {
    pub(super) connection: Handle<Busy>,
    pub(super) role: Role,
    /// Where the connection was checked out.
    place: Cell<Option<Place>>,
    /// Something went wrong that only closing the connection is sure to mend.
    pub(super) condemned: Cell<bool>,
    /// Anything was done with it in this checkout.
    pub(super) touched: Cell<bool>,
    /// A transaction or snapshot of this crate is open.
    pub(super) in_transaction: Cell<bool>,
    /// What this checkout has done that may leave something behind.
    pub(super) suspicion: Cell<Suspicion>,
    /// What the connection was like before anybody did.
    pub(super) baseline: RefCell<Option<Baseline>>,
    /// It did what takes effect unseen.
    pub(super) pending: Cell<bool>,
    /// SQL text has set a savepoint, which may be there yet.
    pub(super) savepoint_set: Cell<bool>,
    /// What SQLite said when it rolled the transaction back by itself; 0 = nothing that was seen.
    pub(super) rolled_back_for: Cell<i32>,
    /// It may change the limits on the process's memory.
    pub(super) heap_watched: Cell<bool>,
    /// A prepared statement was handed out that the cache does not know.
    pub(super) statement_lent: Cell<bool>,
    /// Checkouts that the pool was not told of yet.
    untold: Cell<u32>,
    /// Rows changed before this checkout.
    changes_before: Cell<u64>,
    /// The snapshot that is open, for whoever asks why the WAL grows.
    pub(super) view: Arc<ViewNote>,
    /// Requests to its statement cache.
    pub(super) statements: Arc<StatementTally>,
    interrupts: Interrupts,
    extensions: Extensions,
    pub(super) recipe: Arc<Recipe>,
    /// After the connection, so that a temporary directory outlives it.
    _leavings: Option<Arc<Leavings>>,
}

impl Drop for ReadSession {
    fn drop(&mut self) {
        if !self.is_forked() {
            self.recipe.leave_wal_if_stopped(Some(&self.connection));
        }
    }
}

/// For the layer itself.
impl ReadSession {
    pub(super) fn new(
        connection: Handle<Busy>,
        role: Role,
        recipe: Arc<Recipe>,
        leavings: Option<Arc<Leavings>>,
    ) -> Self {
        let view = recipe.views.note();
        let session = Self {
            connection,
            role,
            place: Cell::new(None),
            condemned: Cell::new(false),
            touched: Cell::new(false),
            in_transaction: Cell::new(false),
            suspicion: Cell::new(Suspicion::None),
            baseline: RefCell::new(None),
            pending: Cell::new(false),
            savepoint_set: Cell::new(false),
            rolled_back_for: Cell::new(0),
            heap_watched: Cell::new(false),
            statement_lent: Cell::new(false),
            untold: Cell::new(0),
            changes_before: Cell::new(0),
            view,
            statements: recipe.metrics.statements(role as usize).tally(),
            interrupts: Interrupts::default(),
            extensions: Extensions::default(),
            recipe,
            _leavings: leavings,
        };
        // What `on_connect` did is not the first holder's.
        session.forget_changes();
        session
    }

    /// Teaches the pool which hooks `on_connect` sets; this connection is not lent.
    pub(crate) fn learn_hooks(&self) {
        self.recipe.learn_hooks(self.role, &self.connection);
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    pub(super) fn handle(&self) -> &Handle<Busy> {
        &self.connection
    }

    pub(super) fn busy(&self) -> &Busy {
        self.connection.watch()
    }

    pub(super) fn role(&self) -> Role {
        self.role
    }

    pub(super) fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    pub(super) fn metrics(&self) -> &PoolMetrics {
        &self.recipe.metrics
    }

    pub(super) fn log(&self) -> &Log {
        &self.recipe.log
    }

    /// Whether this process is a child of the one that opened the pool.
    pub(super) fn is_forked(&self) -> bool {
        self.connection.is_forked()
    }

    pub(super) fn place(&self) -> Option<Place> {
        self.place.get()
    }

    /// Notes where it was checked out or attached.
    #[inline]
    pub(super) fn lent_at(&self, place: Place) {
        self.place.set(Some(place));
    }

    /// Runs one statement that has no parameters and no rows, from the statement cache.
    pub(super) fn run(&self, operation: Operation, sql: &str) -> rusqlite::Result<()> {
        self.busy().during(operation, || {
            self.watched(|_| self.own_statement(sql)?.raw_execute().map(drop))
        })
    }

    /// As [`run`](Self::run), of those that are kept prepared.
    pub(super) fn run_own(
        &self,
        operation: Operation,
        which: OwnStatement,
    ) -> rusqlite::Result<()> {
        // What a prepared statement has met is not this operation's.
        self.notice_timeout();
        self.busy().during(operation, || self.watched(|_| self.connection.run(which)))
    }

    /// Ends whatever transaction is open; none is fine too.
    pub(super) fn roll_back(&self) -> rusqlite::Result<()> {
        self.begin_use()?;
        // ROLLBACK would overwrite what failed before it.
        self.notice_last_error();
        self.in_transaction.set(false);
        if self.connection.is_autocommit() {
            return Ok(());
        }
        self.connection.forget_interrupt();
        let result = self.run_own(Operation::Commit, OwnStatement::Rollback);
        if result.is_err() {
            self.condemn();
        }
        result
    }

    /// From now on SQL text may not begin or end a transaction (`true`), or may again.
    pub(super) fn set_in_transaction(&self, open: bool) {
        self.in_transaction.set(open);
    }

    /// The connection will be closed at check-in.
    pub(super) fn condemn(&self) {
        self.condemned.set(true);
    }

    /// Whether anything was done with it in this checkout.
    #[inline]
    pub(super) fn was_touched(&self) -> bool {
        self.touched.get()
    }

    #[inline]
    pub(super) fn is_condemned(&self) -> bool {
        self.condemned.get()
    }

    /// From now on nobody can interrupt.
    pub(super) fn cut_interrupts(&self) {
        self.interrupts.cut();
    }

    /// Whether the holder had a statement in hand that it may have forgotten.
    pub(super) fn was_statement_lent(&self) -> bool {
        self.statement_lent.get()
            || self.connection.has_cached_out()
            || self.suspicion.get() == Suspicion::Raw
    }

    /// Rows changed before this checkout.
    pub(super) fn changes_before(&self) -> u64 {
        self.changes_before.get()
    }

    /// A checkout of a reader ends in which something was done; one in so many is told.
    pub(super) fn count_reads(&self) {
        if self.role != Role::Read {
            return;
        }
        let untold = self.untold.get() + 1;
        if untold < TELL_EACH {
            self.untold.set(untold);
            return;
        }
        self.untold.set(0);
        if let Some(reads) = self.recipe.reads.get() {
            reads.tell();
        }
    }

    /// The next holder starts afresh.
    pub(super) fn forget_what_was(&self) {
        // A reader changes no rows, other than by what arouses suspicion.
        if self.role == Role::Write || self.suspicion.get() != Suspicion::None {
            self.forget_changes();
        }
        self.busy().settle();
        self.touched.set(false);
        self.in_transaction.set(false);
        self.suspicion.set(Suspicion::None);
        self.pending.set(false);
        self.savepoint_set.set(false);
        self.rolled_back_for.set(0);
        self.statement_lent.set(false);
        self.connection.write_cached_off();
        self.put_heap_limits_back();
        self.busy().forget_runs();
    }

    /// The next part of a batch starts afresh, in the same transaction.
    pub(super) fn forget_part(&self) {
        self.forget_changes();
        self.statement_lent.set(false);
        self.connection.write_cached_off();
        self.savepoint_set.set(false);
        self.rolled_back_for.set(0);
    }

    /// Resets statements that were left in the middle of their rows, inside a transaction.
    pub(super) fn reset_forgotten_statements(&self) {
        if self.was_statement_lent() && self.connection.is_held_up() {
            self.metrics().repair(Repair::UnfinishedStatement);
            self.log().repair(self.role.name(), self.place(), Repair::UnfinishedStatement.found());
            self.connection.reset_statements();
        }
    }

    fn forget_changes(&self) {
        self.connection.forget_last_insert();
        self.changes_before.set(self.connection.total_changes());
    }
}

/// Its state, and the connection itself.
impl ReadSession {
    /// Whether no transaction is open. See [`Connection::is_autocommit`].
    ///
    /// ```
    /// let pool = tenure::testing::temporary()?;
    /// assert!(pool.read()?.is_autocommit());
    /// # Ok::<(), tenure::Error>(())
    /// ```
    pub fn is_autocommit(&self) -> bool {
        self.connection.is_autocommit()
    }

    /// Whether a statement is in the middle of its rows. See [`Connection::is_busy`].
    ///
    /// ```
    /// let pool = tenure::testing::temporary()?;
    /// assert!(!pool.read()?.is_busy());
    /// # Ok::<(), tenure::Error>(())
    /// ```
    pub fn is_busy(&self) -> bool {
        self.connection.is_busy()
    }

    /// A handle by which another thread can interrupt what runs here, until the guard is gone.
    ///
    /// ```
    /// let pool = tenure::testing::temporary()?;
    /// let reader = pool.read()?;
    /// let handle = reader.interrupt_handle();
    /// assert!(handle.interrupt());
    /// drop(reader);
    /// assert!(!handle.interrupt(), "whoever has the connection now is not disturbed");
    /// # Ok::<(), tenure::Error>(())
    /// ```
    pub fn interrupt_handle(&self) -> InterruptHandle {
        self.touched.set(true);
        self.interrupts.handle(&self.connection)
    }

    /// The connection itself, for a function that wants one.
    ///
    /// What cannot be checked at compile time any more is checked at check-in: an open transaction is
    /// rolled back, and a connection whose PRAGMAs, attached databases, TEMP objects, limits,
    /// functions or hooks are not as before is closed and opened again. The first call on a connection
    /// costs some 300 us and each check-in after it some 200 us, and prepared statements are kept no longer
    /// than to that check-in; with `after_raw = "discard"` the
    /// connection is closed instead, whatever was done.
    ///
    /// Do not begin a transaction here; `unchecked_transaction` in particular is not tied to the
    /// transactions of this crate. What `rusqlite` offers for its statement cache is about its own, not
    /// about the one that the session's methods use.
    ///
    /// # Panics
    ///
    /// In a child that was forked from the process that opened the pool.
    ///
    /// ```
    /// fn tables(connection: &rusqlite::Connection) -> rusqlite::Result<i64> {
    ///     connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
    /// }
    /// let pool = tenure::testing::temporary()?;
    /// assert_eq!(tables(pool.read()?.rusqlite())?, 0);
    /// # Ok::<(), tenure::Error>(())
    /// ```
    pub fn rusqlite(&self) -> &Connection {
        assert!(self.begin_use().is_ok(), "{FORKED}");
        self.suspect(Suspicion::Raw);
        &self.connection
    }

    /// Works on a value that belongs to this connection: made with [`Default`] when it is first
    /// asked for, found again by later holders of the same connection, dropped with it. There is one
    /// value of each type.
    ///
    /// For caches of what was read through this connection. Whoever holds the connection owns the
    /// value, so it needs no lock.
    ///
    /// # Panics
    ///
    /// When `work` asks for the same type again. If `work` panics, the value is dropped, and the next
    /// caller starts with a new one.
    ///
    /// ```
    /// use std::collections::HashMap;
    ///
    /// #[derive(Default)]
    /// struct Names(HashMap<i64, String>);
    ///
    /// fn name(session: &tenure::ReadSession, id: i64) -> tenure::rusqlite::Result<String> {
    ///     session.with_extension(|names: &mut Names| {
    ///         if let Some(name) = names.0.get(&id) {
    ///             return Ok(name.clone());
    ///         }
    ///         let name: String = session.query_one("SELECT 'user ' || ?1", [id], |row| row.get(0))?;
    ///         names.0.insert(id, name.clone());
    ///         Ok(name)
    ///     })
    /// }
    /// let pool = tenure::testing::temporary()?;
    /// assert_eq!(name(&*pool.read()?, 7)?, "user 7");
    /// # Ok::<(), tenure::Error>(())
    /// ```
    pub fn with_extension<T, R>(&self, work: impl FnOnce(&mut T) -> R) -> R
    where
        T: Default + Send + 'static,
    {
        self.extensions.with(T::default, work)
    }

    /// As [`with_extension`](Self::with_extension), for a type that is not made with [`Default`].
    ///
    /// # Panics
    ///
    /// As [`with_extension`](Self::with_extension).
    ///
    /// ```
    /// struct Limit(usize);
    /// let pool = tenure::testing::temporary()?;
    /// let limit = pool.read()?.with_extension_or(|| Limit(10), |limit| limit.0);
    /// assert_eq!(limit, 10);
    /// # Ok::<(), tenure::Error>(())
    /// ```
    pub fn with_extension_or<T, R>(
        &self,
        make: impl FnOnce() -> T,
        work: impl FnOnce(&mut T) -> R,
    ) -> R
    where
        T: Send + 'static,
    {
        self.extensions.with(make, work)
    }
}

/// Without the path or any SQL.
impl fmt::Debug for ReadSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadSession")
            .field("role", &self.role)
            .field("autocommit", &self.is_autocommit())
            .finish_non_exhaustive()
    }
}
