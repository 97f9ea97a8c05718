//! What may be done with a connection that only reads.
//!
//! The methods keep `rusqlite`'s names, signatures and errors, so code written for a
//! `rusqlite::Connection` moves over by changing the type. The session does not dereference to
//! `rusqlite::Connection`: `unchecked_transaction(&self)`, for one, would reopen the hole that
//! borrowing closes. [`ReadSession::rusqlite`] is the way round for functions that want one.

use std::cell::{Cell, RefCell};
use std::ffi::CStr;
use std::fmt;
use std::sync::Arc;

use rusqlite::blob::Blob;
use rusqlite::{CachedStatement, Connection, Name, Params, PrepFlags, Row, Statement, ToSql};

use super::baseline::Baseline;
use super::busy::Busy;
use super::extensions::Extensions;
use super::interrupt::{InterruptHandle, Interrupts};
use super::manager::{Recipe, Role};
use super::read_mark::TELL_EACH;
use super::sql_text;
use super::suspicion::Suspicion;
use super::views::ViewNote;
use crate::ffi::Handle;
use crate::fork::FORKED;
use crate::log::Log;
use crate::metrics::{CacheResult, Operation, PoolMetrics, Repair, StatementTally};
use crate::who::Place;

/// The longest text that the statement cache keeps without being asked to, in bytes: what is longer was
/// most likely put together for one use.
const LONGEST_KEPT: usize = 4096;

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
    /// It may change the limits on the process's memory.
    pub(super) heap_watched: Cell<bool>,
    /// A prepared statement was handed out.
    statement_lent: Cell<bool>,
    /// Checkouts that the pool was not told of yet.
    untold: Cell<u32>,
    /// Rows changed before this checkout.
    changes_before: Cell<u64>,
    /// The snapshot that is open, for whoever asks why the WAL grows.
    pub(super) view: Arc<ViewNote>,
    /// Requests to its statement cache.
    statements: Arc<StatementTally>,
    interrupts: Interrupts,
    extensions: Extensions,
    /// After the connection, so that a temporary directory outlives it.
    pub(super) recipe: Arc<Recipe>,
}

/// For the layer itself.
impl ReadSession {
    pub(super) fn new(connection: Handle<Busy>, role: Role, recipe: Arc<Recipe>) -> Self {
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
            heap_watched: Cell::new(false),
            statement_lent: Cell::new(false),
            untold: Cell::new(0),
            changes_before: Cell::new(0),
            view,
            statements: recipe.metrics.statements(role as usize).tally(),
            interrupts: Interrupts::default(),
            extensions: Extensions::default(),
            recipe,
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
            self.watched(|connection| {
                let mut statement = connection.prepare_cached(sql)?;
                // `raw_query` rather than `execute`, which refuses statements that may return rows.
                let mut rows = statement.raw_query();
                while rows.next()?.is_some() {}
                Ok(())
            })
        })
    }

    /// Runs one statement of the caller's that does not leave here. It is kept in the statement cache if it
    /// reads or changes rows, as nearly all do; what else acts when it is prepared (many a PRAGMA does),
    /// or is long, is prepared each time. So is everything once the connection itself was handed out:
    /// a function that takes the place of another does not always reach the statements there are.
    pub(super) fn at_once<T, E: From<rusqlite::Error>>(
        &self,
        sql: &str,
        work: impl FnOnce(&mut Statement<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let keep = sql.len() <= LONGEST_KEPT
            && sql_text::is_about_rows(sql)
            && sql_text::ends_as_trimmed(sql)
            && self.suspicion.get() != Suspicion::Raw;
        self.sql(sql, |connection| match keep {
            true => work(&mut *self.cached_statement(connection, sql)?),
            false => work(&mut connection.prepare(sql)?),
        })
    }

    fn cached_statement<'s>(
        &self,
        connection: &'s Connection,
        sql: &str,
    ) -> rusqlite::Result<CachedStatement<'s>> {
        // SQLite puts what it prepares at the head of the connection's statements, and the cache
        // finalizes nothing while it looks. (How often the statement has run does not tell: one that
        // was put back without being run is a hit as well.)
        let newest = self.connection.newest_statement();
        let statement = connection.prepare_cached(sql)?;
        let hit = self.connection.newest_statement() == newest;
        self.statements.count(if hit { CacheResult::Hit } else { CacheResult::Miss });
        Ok(statement)
    }

    /// Has SQLite look whether another connection has changed the schema. Statements do that by
    /// themselves; the functions that look a table up without a statement would go by what this
    /// connection saw last.
    fn refresh_schema(&self) -> rusqlite::Result<()> {
        self.watched(|connection| {
            let mut statement = connection.prepare_cached("SELECT 1 FROM sqlite_schema LIMIT 1")?;
            statement.raw_query().next().map(drop)
        })
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
        let result = self.run(Operation::Commit, "ROLLBACK");
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
        self.statement_lent.get() || self.suspicion.get() == Suspicion::Raw
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
        self.statement_lent.set(false);
        self.put_heap_limits_back();
        self.busy().forget_runs();
    }

    /// The next part of a batch starts afresh, in the same transaction.
    pub(super) fn forget_part(&self) {
        self.forget_changes();
        self.statement_lent.set(false);
        self.savepoint_set.set(false);
    }

    /// Resets statements that were left in the middle of their rows, inside a transaction.
    pub(super) fn reset_forgotten_statements(&self) {
        if self.was_statement_lent() && self.connection.is_busy() {
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

/// Queries, with the signatures of [`rusqlite::Connection`].
impl ReadSession {
    /// Prepares a statement. See [`Connection::prepare`].
    ///
    /// On a reader, a statement that would write is prepared and fails when it is run.
    ///
    /// # Errors
    ///
    /// When the SQL is wrong.
    ///
    /// ```
    /// let pool = tenure::testing::temporary()?;
    /// let reader = pool.read()?;
    /// let mut statement = reader.prepare("SELECT ?1 + 1")?;
    /// assert_eq!(statement.query_one([41], |row| row.get::<_, i64>(0))?, 42);
    /// # Ok::<(), tenure::Error>(())
    /// ```
    pub fn prepare(&self, sql: &str) -> rusqlite::Result<Statement<'_>> {
        self.statement_lent.set(true);
        self.sql(sql, |connection| connection.prepare(sql))
    }

    /// Prepares a statement with flags. See [`Connection::prepare_with_flags`].
    ///
    /// # Errors
    ///
    /// When the SQL is wrong.
    ///
    /// ```
    /// use tenure::rusqlite::PrepFlags;
    /// let pool = tenure::testing::temporary()?;
    /// let reader = pool.read()?;
    /// let mut statement = reader.prepare_with_flags("SELECT 1", PrepFlags::SQLITE_PREPARE_NO_VTAB)?;
    /// assert!(statement.exists([])?);
    /// # Ok::<(), tenure::Error>(())
    /// ```
    pub fn prepare_with_flags(
        &self,
        sql: &str,
        flags: PrepFlags,
    ) -> rusqlite::Result<Statement<'_>> {
        self.statement_lent.set(true);
        self.sql(sql, |connection| connection.prepare_with_flags(sql, flags))
    }

    /// Prepares a statement, or takes it from this connection's cache (about ten times cheaper).
    /// See [`Connection::prepare_cached`].
    ///
    /// # Errors
    ///
    /// When the SQL is wrong.
    ///
    /// ```
    /// let pool = tenure::testing::temporary()?;
    /// let reader = pool.read()?;
    /// for n in 0..3 {
    ///     let mut statement = reader.prepare_cached("SELECT ?1")?;
    ///     assert_eq!(statement.query_one([n], |row| row.get::<_, i64>(0))?, n);
    /// }
    /// # Ok::<(), tenure::Error>(())
    /// ```
    pub fn prepare_cached(&self, sql: &str) -> rusqlite::Result<CachedStatement<'_>> {
        self.statement_lent.set(true);
        self.sql(sql, |connection| self.cached_statement(connection, sql))
    }

    /// Runs a query and maps its first row. See [`Connection::query_row`].
    ///
    /// Unlike there, the statement is taken from this connection's cache, as by
    /// [`prepare_cached`](Self::prepare_cached), and kept there: the same text is prepared once. So bind
    /// values rather than write them into the text. Not kept are PRAGMAs and whatever else does not begin
    /// with SELECT, INSERT, UPDATE, DELETE, REPLACE, WITH or VALUES, a text with a semicolon in it, and one
    /// of more than 4 KiB; nor is anything after [`rusqlite`](Self::rusqlite) in the same hold.
    ///
    /// # Errors
    ///
    /// When the SQL is wrong, when there is no row, or what `f` returns.
    ///
    /// ```
    /// let pool = tenure::testing::temporary()?;
    /// let sum: i64 = pool.read()?.query_row("SELECT ?1 + ?2", (1, 2), |row| row.get(0))?;
    /// assert_eq!(sum, 3);
    /// # Ok::<(), tenure::Error>(())
    /// ```
    pub fn query_row<T, P, F>(&self, sql: &str, params: P, f: F) -> rusqlite::Result<T>
    where
        P: Params,
        F: FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    {
        self.at_once(sql, |statement| statement.query_row(params, f))
    }

    /// Runs a query that must have exactly one row. See [`Connection::query_one`]. The statement is kept, as
    /// by [`query_row`](Self::query_row).
    ///
    /// # Errors
    ///
    /// When the SQL is wrong, when there is no row or more than one, or what `f` returns.
    ///
    /// ```
    /// let pool = tenure::testing::temporary()?;
    /// let one: i64 = pool.read()?.query_one("SELECT 1", [], |row| row.get(0))?;
    /// assert_eq!(one, 1);
    /// # Ok::<(), tenure::Error>(())
    /// ```
    pub fn query_one<T, P, F>(&self, sql: &str, params: P, f: F) -> rusqlite::Result<T>
    where
        P: Params,
        F: FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    {
        self.at_once(sql, |statement| statement.query_one(params, f))
    }

    /// As [`query_row`](Self::query_row), with an error type of the caller's. The statement is kept too.
    /// See [`Connection::query_row_and_then`].
    ///
    /// # Errors
    ///
    /// When the SQL is wrong, when there is no row, or what `f` returns.
    ///
    /// ```
    /// let pool = tenure::testing::temporary()?;
    /// let even = pool.read()?.query_row_and_then("SELECT 7", [], |row| match row.get::<_, i64>(0)? {
    ///     n if n % 2 == 0 => Ok(n),
    ///     n => Err(tenure::Error::other(format!("{n} is odd"))),
    /// });
    /// assert_eq!(even.unwrap_err().to_string(), "7 is odd");
    /// # Ok::<(), tenure::Error>(())
    /// ```
    pub fn query_row_and_then<T, E, P, F>(&self, sql: &str, params: P, f: F) -> Result<T, E>
    where
        P: Params,
        F: FnOnce(&Row<'_>) -> Result<T, E>,
        E: From<rusqlite::Error>,
    {
        self.at_once(sql, |statement| match statement.query(params)?.next()? {
            Some(row) => f(row),
            None => Err(E::from(rusqlite::Error::QueryReturnedNoRows)),
        })
    }

    /// Reads a pragma that has one value. See [`Connection::pragma_query_value`].
    ///
    /// # Errors
    ///
    /// When there is no such pragma, or what `f` returns.
    ///
    /// ```
    /// let pool = tenure::testing::temporary()?;
    /// let mode: String =
    ///     pool.read()?.pragma_query_value(None, "journal_mode", |row| row.get(0))?;
    /// assert_eq!(mode, "wal");
    /// # Ok::<(), tenure::Error>(())
    /// ```
    pub fn pragma_query_value<T, F>(
        &self,
        schema_name: Option<&str>,
        pragma_name: &str,
        f: F,
    ) -> rusqlite::Result<T>
    where
        F: FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    {
        self.begin_statement()?;
        self.watched(|connection| connection.pragma_query_value(schema_name, pragma_name, f))
    }

    /// Reads a pragma that has many rows. See [`Connection::pragma_query`].
    ///
    /// # Errors
    ///
    /// When there is no such pragma, or what `f` returns.
    ///
    /// ```
    /// let pool = tenure::testing::temporary()?;
    /// let mut databases = Vec::new();
    /// pool.read()?.pragma_query(None, "database_list", |row| {
    ///     databases.push(row.get::<_, String>(1)?);
    ///     Ok(())
    /// })?;
    /// assert_eq!(databases, ["main"]);
    /// # Ok::<(), tenure::Error>(())
    /// ```
    pub fn pragma_query<F>(
        &self,
        schema_name: Option<&str>,
        pragma_name: &str,
        f: F,
    ) -> rusqlite::Result<()>
    where
        F: FnMut(&Row<'_>) -> rusqlite::Result<()>,
    {
        self.begin_statement()?;
        self.watched(|connection| connection.pragma_query(schema_name, pragma_name, f))
    }

    /// Reads a pragma that takes an argument. See [`Connection::pragma`].
    ///
    /// # Errors
    ///
    /// When there is no such pragma, or what `f` returns.
    ///
    /// ```
    /// let pool = tenure::testing::temporary()?;
    /// pool.write()?.execute_batch("CREATE TABLE task (id INTEGER PRIMARY KEY, title TEXT)")?;
    /// let mut columns = Vec::new();
    /// pool.read()?.pragma(None, "table_info", "task", |row| {
    ///     columns.push(row.get::<_, String>("name")?);
    ///     Ok(())
    /// })?;
    /// assert_eq!(columns, ["id", "title"]);
    /// # Ok::<(), tenure::Error>(())
    /// ```
    pub fn pragma<F, V>(
        &self,
        schema_name: Option<&str>,
        pragma_name: &str,
        pragma_value: V,
        f: F,
    ) -> rusqlite::Result<()>
    where
        F: FnMut(&Row<'_>) -> rusqlite::Result<()>,
        V: ToSql,
    {
        self.begin_statement()?;
        self.admit(sql_text::pragma_with_argument(schema_name, pragma_name))?;
        self.watched(|connection| connection.pragma(schema_name, pragma_name, pragma_value, f))
    }

    /// Opens a BLOB for reading and, with `read_only = false` on the writer, for writing.
    /// See [`Connection::blob_open`].
    ///
    /// # Errors
    ///
    /// When there is no such row or column, or it holds no BLOB or text.
    ///
    /// ```
    /// use std::io::Read as _;
    /// let pool = tenure::testing::temporary()?;
    /// pool.write()?.execute_batch("CREATE TABLE file (bytes BLOB); INSERT INTO file VALUES (x'0102')")?;
    /// let reader = pool.read()?;
    /// let mut bytes = Vec::new();
    /// reader.blob_open("main", "file", "bytes", 1, true)?.read_to_end(&mut bytes)?;
    /// assert_eq!(bytes, [1, 2]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn blob_open<D: Name, N: Name>(
        &self,
        db: D,
        table: N,
        column: N,
        row_id: i64,
        read_only: bool,
    ) -> rusqlite::Result<Blob<'_>> {
        self.begin_statement()?;
        self.statement_lent.set(true);
        self.watched(|connection| {
            self.refresh_schema()?;
            connection.blob_open(db, table, column, row_id, read_only)
        })
    }

    /// Whether a table exists. See [`Connection::table_exists`].
    ///
    /// # Errors
    ///
    /// When SQLite cannot read the schema.
    ///
    /// ```
    /// let pool = tenure::testing::temporary()?;
    /// assert!(!pool.read()?.table_exists(None, "task")?);
    /// # Ok::<(), tenure::Error>(())
    /// ```
    pub fn table_exists<N: Name>(
        &self,
        db_name: Option<N>,
        table_name: N,
    ) -> rusqlite::Result<bool> {
        self.begin_statement()?;
        self.refresh_schema()?;
        self.watched(|connection| connection.table_exists(db_name, table_name))
    }

    /// Whether a column exists. See [`Connection::column_exists`].
    ///
    /// # Errors
    ///
    /// When SQLite cannot read the schema.
    ///
    /// ```
    /// let pool = tenure::testing::temporary()?;
    /// assert!(!pool.read()?.column_exists(None, "task", "title")?);
    /// # Ok::<(), tenure::Error>(())
    /// ```
    pub fn column_exists<N: Name>(
        &self,
        db_name: Option<N>,
        table_name: N,
        column_name: N,
    ) -> rusqlite::Result<bool> {
        self.begin_statement()?;
        self.refresh_schema()?;
        self.watched(|connection| connection.column_exists(db_name, table_name, column_name))
    }

    /// Type, collation, NOT NULL, primary key and AUTOINCREMENT of a column.
    /// See [`Connection::column_metadata`].
    ///
    /// # Errors
    ///
    /// When there is no such column.
    ///
    /// ```
    /// let pool = tenure::testing::temporary()?;
    /// pool.write()?.execute_batch("CREATE TABLE task (id INTEGER PRIMARY KEY)")?;
    /// let reader = pool.read()?;
    /// let (kind, _, _, primary_key, _) = reader.column_metadata(None, "task", "id")?;
    /// assert_eq!((kind, primary_key), (Some(c"INTEGER"), true));
    /// # Ok::<(), tenure::Error>(())
    /// ```
    #[expect(clippy::type_complexity, reason = "the signature is rusqlite's")]
    pub fn column_metadata<N: Name>(
        &self,
        db_name: Option<N>,
        table_name: N,
        column_name: N,
    ) -> rusqlite::Result<(Option<&CStr>, Option<&CStr>, bool, bool, bool)> {
        self.begin_statement()?;
        self.refresh_schema()?;
        self.watched(|connection| connection.column_metadata(db_name, table_name, column_name))
    }

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
    /// costs some 150 us and each check-in after it as much; with `after_raw = "discard"` the
    /// connection is closed instead, whatever was done.
    ///
    /// Do not begin a transaction here; `unchecked_transaction` in particular is not tied to the
    /// transactions of this crate.
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
