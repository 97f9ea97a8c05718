//! Queries of a session, with the names and signatures of [`rusqlite::Connection`]'s.
//!
//! What is run at once (`query_row`, `execute`) is kept in the statement cache of the connection, as if
//! by `prepare_cached`: to prepare a point query takes as long as to run it, and most programs have few
//! texts. Only what reads or changes rows is kept: many a PRAGMA acts when it is prepared, not when it
//! is run. The alternative, to keep nothing that was not asked for, is rusqlite's; it leaves half the
//! speed to those who know.

use std::ffi::CStr;

use rusqlite::blob::Blob;
use rusqlite::{Name, Params, PrepFlags, Row, Statement, ToSql};

use super::read_session::ReadSession;
use super::sql_text;
use super::suspicion::Suspicion;
use crate::ffi::CachedStatement;
use crate::metrics::CacheResult;

/// The longest text that the statement cache keeps without being asked to, in bytes: what is longer was
/// most likely put together for one use.
const LONGEST_KEPT: usize = 4096;

/// Maps the first row.
///
/// What changes rows (INSERT .. RETURNING) is run to its end, as `rusqlite` does not: a statement that is
/// given up after a row commits when it is reset, where nobody is told of an error, nor of the commit.
pub(super) fn first_row<T, E: From<rusqlite::Error>>(
    statement: &mut Statement<'_>,
    params: impl Params,
    f: impl FnOnce(&Row<'_>) -> Result<T, E>,
) -> Result<T, E> {
    let only_reads = statement.readonly();
    let mut rows = statement.query(params)?;
    let first = match rows.next()? {
        Some(row) => f(row),
        None => Err(E::from(rusqlite::Error::QueryReturnedNoRows)),
    };
    while !only_reads && rows.next()?.is_some() {}
    first
}

impl ReadSession {
    /// Prepares a statement. See [`rusqlite::Connection::prepare`].
    ///
    /// On a reader, a statement that would write is prepared and fails when it is run.
    ///
    /// # Errors
    ///
    /// When the SQL is wrong, or sets a savepoint in a transaction: that is for
    /// [`Transaction::savepoint`](crate::Transaction::savepoint), or to be executed at once.
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
        self.prepare_sql(sql, |connection| connection.prepare(sql))
    }

    /// Prepares a statement with flags. See [`rusqlite::Connection::prepare_with_flags`].
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
        self.prepare_sql(sql, |connection| connection.prepare_with_flags(sql, flags))
    }

    /// Prepares a statement, or takes it from this connection's cache (about ten times cheaper).
    /// See [`rusqlite::Connection::prepare_cached`].
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
        self.begin_statement()?;
        if let Some(statement) = self.kept(sql) {
            self.notice_timeout();
            return Ok(statement);
        }
        self.prepare_sql(sql, |_| self.cached_statement(sql))
    }

    /// Runs a query and maps its first row. See [`rusqlite::Connection::query_row`].
    ///
    /// Unlike there, the statement is taken from this connection's cache, as by
    /// [`prepare_cached`](Self::prepare_cached), and kept there: the same text is prepared once. So bind
    /// values rather than write them into the text. Not kept are PRAGMAs and whatever else does not begin
    /// with SELECT, INSERT, UPDATE, DELETE, REPLACE, WITH or VALUES, a text with a semicolon in it, and one
    /// of more than 4 KiB; nor is anything after [`rusqlite`](Self::rusqlite) in the same hold.
    ///
    /// Unlike there, too, what changes rows (`INSERT .. RETURNING`) is run to its end, so that an error of
    /// its commit is told.
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
        self.at_once(sql, |statement| first_row(statement, params, f))
    }

    /// Runs a query that must have exactly one row. See [`rusqlite::Connection::query_one`]. The statement is
    /// kept, as by [`query_row`](Self::query_row). What changes more rows than one (`INSERT .. RETURNING`) is
    /// refused after it has changed them: in a transaction that can be undone.
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
    /// See [`rusqlite::Connection::query_row_and_then`].
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
        self.at_once(sql, |statement| first_row(statement, params, f))
    }

    /// Reads a pragma that has one value. See [`rusqlite::Connection::pragma_query_value`].
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

    /// Reads a pragma that has many rows. See [`rusqlite::Connection::pragma_query`].
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

    /// Reads a pragma that takes an argument. See [`rusqlite::Connection::pragma`].
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

    /// Sets a pragma. See [`rusqlite::Connection::pragma_update`]. What it changes of the connection is put
    /// right at check-in; a setting of the pool is better given there.
    ///
    /// # Errors
    ///
    /// When there is no such pragma, when it answers with a row, or on a reader when it would write.
    ///
    /// ```
    /// let pool = tenure::testing::temporary()?;
    /// pool.transaction(|tx| Ok(tx.pragma_update(None, "user_version", 3)?))?;
    /// let version: i32 = pool.read()?.pragma_query_value(None, "user_version", |row| row.get(0))?;
    /// assert_eq!(version, 3);
    /// # Ok::<(), tenure::Error>(())
    /// ```
    pub fn pragma_update<V: ToSql>(
        &self,
        schema_name: Option<&str>,
        pragma_name: &str,
        pragma_value: V,
    ) -> rusqlite::Result<()> {
        self.begin_statement()?;
        self.admit(sql_text::pragma_with_argument(schema_name, pragma_name))?;
        self.watched(|connection| connection.pragma_update(schema_name, pragma_name, pragma_value))
    }

    /// Opens a BLOB for reading and, with `read_only = false` on the writer, for writing.
    /// See [`rusqlite::Connection::blob_open`].
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

    /// Whether a table exists. See [`rusqlite::Connection::table_exists`].
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

    /// Whether a column exists. See [`rusqlite::Connection::column_exists`].
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
    /// See [`rusqlite::Connection::column_metadata`].
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

    /// Runs one statement of the caller's that does not leave here. It is kept in the statement cache if it
    /// reads or changes rows, as nearly all do; what else acts when it is prepared (many a PRAGMA does),
    /// or is long, is prepared each time. So is everything once the connection itself was handed out:
    /// a function that takes the place of another does not always reach the statements there are.
    pub(super) fn at_once<T, E: From<rusqlite::Error>>(
        &self,
        sql: &str,
        work: impl FnOnce(&mut Statement<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        self.begin_statement()?;
        // What only reads or changes rows has no effect that would have to be admitted.
        let is_raw = self.suspicion.get() == Suspicion::Raw;
        if !is_raw && let Some(mut statement) = self.kept(sql) {
            return self.watched_use(|_| work(statement.statement()));
        }
        if !is_raw && sql.len() <= LONGEST_KEPT && sql_text::is_about_rows(sql) {
            return self.watched_use(|_| work(self.cached_statement(sql)?.statement()));
        }
        self.admit(sql_text::effect(sql))?;
        self.watched_use(|connection| work(&mut connection.prepare(sql)?))
    }

    /// The statement of a text that is known to do no more than read or change rows, if it was kept: its
    /// words need not be looked at again.
    #[inline]
    fn kept(&self, sql: &str) -> Option<CachedStatement<'_>> {
        let statement = self.connection.cached_only_rows(sql.trim_ascii())?;
        self.statements.count(CacheResult::Hit);
        Some(statement)
    }

    fn cached_statement(&self, sql: &str) -> rusqlite::Result<CachedStatement<'_>> {
        // No more than this: to SQLite a space that is not ASCII belongs to a name.
        let sql = sql.trim_ascii();
        if let Some(statement) = self.connection.cached(sql) {
            self.statements.count(CacheResult::Hit);
            return Ok(statement);
        }
        let statement = self.connection.prepare_to_keep(sql, sql_text::is_about_rows(sql))?;
        self.statements.count(CacheResult::Miss);
        Ok(statement)
    }

    /// As [`cached_statement`](Self::cached_statement), for the pool's own: it does not count.
    pub(super) fn own_statement(&self, sql: &str) -> rusqlite::Result<CachedStatement<'_>> {
        match self.connection.cached(sql) {
            Some(statement) => Ok(statement),
            None => self.connection.prepare_to_keep(sql, sql_text::is_about_rows(sql)),
        }
    }

    /// Has SQLite look whether another connection has changed the schema. Statements do that by
    /// themselves; the functions that look a table up without a statement would go by what this
    /// connection saw last.
    fn refresh_schema(&self) -> rusqlite::Result<()> {
        self.watched(|_| {
            let mut statement = self.own_statement("SELECT 1 FROM sqlite_schema LIMIT 1")?;
            statement.raw_query().next().map(drop)
        })
    }
}
