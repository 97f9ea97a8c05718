//! Running a statement that is kept: the methods of `rusqlite`'s that take it mutably.

use rusqlite::{AndThenRows, BindIndex, MappedRows, Params, Row, Rows, ToSql};

use super::queries::first_row;
use crate::ffi::CachedStatement;

/// The methods of [`rusqlite::Statement`] that run it.
impl CachedStatement<'_> {
    /// Runs it and returns how many rows it changed. See [`rusqlite::Statement::execute`].
    ///
    /// # Errors
    ///
    /// When the values cannot be bound, the statement returns rows, or SQLite refuses it.
    ///
    /// ```
    /// let pool = tenure::testing::temporary()?;
    /// let writer = pool.write()?;
    /// writer.execute_batch("CREATE TABLE task (title TEXT)")?;
    /// let mut insert = writer.prepare_cached("INSERT INTO task VALUES (?1)")?;
    /// assert_eq!(insert.execute(["rest"])?, 1);
    /// # Ok::<(), tenure::Error>(())
    /// ```
    #[inline]
    pub fn execute<P: Params>(&mut self, params: P) -> rusqlite::Result<usize> {
        self.statement().execute(params)
    }

    /// Runs an INSERT of one row and returns its rowid. See [`rusqlite::Statement::insert`].
    ///
    /// # Errors
    ///
    /// As [`execute`](Self::execute), and when not exactly one row was inserted.
    ///
    /// ```
    /// let pool = tenure::testing::temporary()?;
    /// let writer = pool.write()?;
    /// writer.execute_batch("CREATE TABLE task (title TEXT)")?;
    /// let mut insert = writer.prepare_cached("INSERT INTO task VALUES (?1)")?;
    /// assert_eq!((insert.insert(["rest"])?, insert.insert(["work"])?), (1, 2));
    /// # Ok::<(), tenure::Error>(())
    /// ```
    #[inline]
    pub fn insert<P: Params>(&mut self, params: P) -> rusqlite::Result<i64> {
        self.statement().insert(params)
    }

    /// Runs it and returns its rows. See [`rusqlite::Statement::query`].
    ///
    /// # Errors
    ///
    /// When the values cannot be bound.
    ///
    /// ```
    /// let pool = tenure::testing::temporary()?;
    /// let reader = pool.read()?;
    /// let mut statement = reader.prepare_cached("VALUES (1), (2)")?;
    /// let mut rows = statement.query([])?;
    /// let mut sum = 0;
    /// while let Some(row) = rows.next()? {
    ///     sum += row.get::<_, i64>(0)?;
    /// }
    /// assert_eq!(sum, 3);
    /// # Ok::<(), tenure::Error>(())
    /// ```
    #[inline]
    pub fn query<P: Params>(&mut self, params: P) -> rusqlite::Result<Rows<'_>> {
        self.statement_with_rows().query(params)
    }

    /// Runs it and maps its rows. See [`rusqlite::Statement::query_map`].
    ///
    /// # Errors
    ///
    /// When the values cannot be bound; each row may be one too.
    ///
    /// ```
    /// let pool = tenure::testing::temporary()?;
    /// let reader = pool.read()?;
    /// let mut statement = reader.prepare_cached("VALUES (1), (2)")?;
    /// let numbers: Vec<i64> = statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    /// assert_eq!(numbers, [1, 2]);
    /// # Ok::<(), tenure::Error>(())
    /// ```
    #[inline]
    pub fn query_map<T, P, F>(&mut self, params: P, f: F) -> rusqlite::Result<MappedRows<'_, F>>
    where
        P: Params,
        F: FnMut(&Row<'_>) -> rusqlite::Result<T>,
    {
        self.statement_with_rows().query_map(params, f)
    }

    /// As [`query_map`](Self::query_map), with an error type of the caller's.
    /// See [`rusqlite::Statement::query_and_then`].
    ///
    /// # Errors
    ///
    /// When the values cannot be bound; each row may be one too.
    ///
    /// ```
    /// let pool = tenure::testing::temporary()?;
    /// let reader = pool.read()?;
    /// let mut statement = reader.prepare_cached("VALUES ('1'), ('two')")?;
    /// let numbers: Result<Vec<i64>, Box<dyn std::error::Error>> = statement
    ///     .query_and_then([], |row| Ok(row.get::<_, String>(0)?.parse::<i64>()?))?
    ///     .collect();
    /// assert_eq!(numbers.unwrap_err().to_string(), "invalid digit found in string");
    /// # Ok::<(), tenure::Error>(())
    /// ```
    #[inline]
    pub fn query_and_then<T, E, P, F>(
        &mut self,
        params: P,
        f: F,
    ) -> rusqlite::Result<AndThenRows<'_, F>>
    where
        P: Params,
        E: From<rusqlite::Error>,
        F: FnMut(&Row<'_>) -> Result<T, E>,
    {
        self.statement_with_rows().query_and_then(params, f)
    }

    /// Whether it has a row. See [`rusqlite::Statement::exists`].
    ///
    /// # Errors
    ///
    /// When the values cannot be bound, or SQLite fails.
    ///
    /// ```
    /// let pool = tenure::testing::temporary()?;
    /// let reader = pool.read()?;
    /// assert!(!reader.prepare_cached("SELECT 1 WHERE ?1 > 2")?.exists([1])?);
    /// # Ok::<(), tenure::Error>(())
    /// ```
    #[inline]
    pub fn exists<P: Params>(&mut self, params: P) -> rusqlite::Result<bool> {
        self.statement().exists(params)
    }

    /// Maps the first row. See [`rusqlite::Statement::query_row`]. Unlike there, what changes rows
    /// (`INSERT .. RETURNING`) is run to its end, so that an error of its commit is told.
    ///
    /// # Errors
    ///
    /// When there is no row, SQLite fails, or what `f` returns.
    ///
    /// ```
    /// let pool = tenure::testing::temporary()?;
    /// let reader = pool.read()?;
    /// let mut statement = reader.prepare_cached("SELECT ?1 + 1")?;
    /// assert_eq!(statement.query_row([41], |row| row.get::<_, i64>(0))?, 42);
    /// # Ok::<(), tenure::Error>(())
    /// ```
    #[inline]
    pub fn query_row<T, P, F>(&mut self, params: P, f: F) -> rusqlite::Result<T>
    where
        P: Params,
        F: FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    {
        first_row(self.statement(), params, f)
    }

    /// Maps the only row. See [`rusqlite::Statement::query_one`].
    ///
    /// # Errors
    ///
    /// When there is no row or more than one, SQLite fails, or what `f` returns.
    ///
    /// ```
    /// let pool = tenure::testing::temporary()?;
    /// let reader = pool.read()?;
    /// let mut statement = reader.prepare_cached("SELECT ?1 + 1")?;
    /// assert_eq!(statement.query_one([41], |row| row.get::<_, i64>(0))?, 42);
    /// # Ok::<(), tenure::Error>(())
    /// ```
    #[inline]
    pub fn query_one<T, P, F>(&mut self, params: P, f: F) -> rusqlite::Result<T>
    where
        P: Params,
        F: FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    {
        self.statement().query_one(params, f)
    }

    /// Binds one value, for [`raw_query`](Self::raw_query) and [`raw_execute`](Self::raw_execute).
    /// See [`rusqlite::Statement::raw_bind_parameter`].
    ///
    /// # Errors
    ///
    /// When there is no such parameter, or the value cannot be bound.
    ///
    /// ```
    /// let pool = tenure::testing::temporary()?;
    /// let reader = pool.read()?;
    /// let mut statement = reader.prepare_cached("SELECT ?1 || :name")?;
    /// statement.raw_bind_parameter(1, "a")?;
    /// statement.raw_bind_parameter(c":name", "b")?;
    /// let mut rows = statement.raw_query();
    /// assert_eq!(rows.next()?.unwrap().get::<_, String>(0)?, "ab");
    /// # Ok::<(), tenure::Error>(())
    /// ```
    #[inline]
    pub fn raw_bind_parameter<I: BindIndex, T: ToSql>(
        &mut self,
        index: I,
        value: T,
    ) -> rusqlite::Result<()> {
        self.statement().raw_bind_parameter(index, value)
    }

    /// Runs it with the values that were bound, and returns how many rows it changed.
    /// See [`rusqlite::Statement::raw_execute`].
    ///
    /// # Errors
    ///
    /// When the statement returns rows, or SQLite refuses it.
    ///
    /// ```
    /// let pool = tenure::testing::temporary()?;
    /// let writer = pool.write()?;
    /// writer.execute_batch("CREATE TABLE task (title TEXT)")?;
    /// let mut insert = writer.prepare_cached("INSERT INTO task VALUES (?1)")?;
    /// insert.raw_bind_parameter(1, "rest")?;
    /// assert_eq!(insert.raw_execute()?, 1);
    /// # Ok::<(), tenure::Error>(())
    /// ```
    #[inline]
    pub fn raw_execute(&mut self) -> rusqlite::Result<usize> {
        self.statement().raw_execute()
    }

    /// Runs it with the values that were bound, and returns its rows.
    /// See [`rusqlite::Statement::raw_query`].
    ///
    /// ```
    /// let pool = tenure::testing::temporary()?;
    /// let reader = pool.read()?;
    /// let mut statement = reader.prepare_cached("SELECT ?1")?;
    /// statement.raw_bind_parameter(1, 7)?;
    /// assert_eq!(statement.raw_query().next()?.unwrap().get::<_, i64>(0)?, 7);
    /// # Ok::<(), tenure::Error>(())
    /// ```
    #[inline]
    pub fn raw_query(&mut self) -> Rows<'_> {
        self.statement_with_rows().raw_query()
    }

    /// Takes the values back that were bound. See [`rusqlite::Statement::clear_bindings`].
    ///
    /// ```
    /// let pool = tenure::testing::temporary()?;
    /// let reader = pool.read()?;
    /// let mut statement = reader.prepare_cached("SELECT ?1")?;
    /// statement.raw_bind_parameter(1, 7)?;
    /// statement.clear_bindings();
    /// assert_eq!(statement.raw_query().next()?.unwrap().get::<_, Option<i64>>(0)?, None);
    /// # Ok::<(), tenure::Error>(())
    /// ```
    #[inline]
    pub fn clear_bindings(&mut self) {
        if self.is_statement() {
            self.statement().clear_bindings();
        }
    }
}
