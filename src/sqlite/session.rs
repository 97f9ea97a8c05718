//! What may be done with the connection that writes: all that a reader may, and statements that change
//! rows. It neither starts nor ends a transaction: that takes a guard, mutably.

use std::fmt;
use std::ops::Deref;

use rusqlite::Params;

use super::read_session::ReadSession;

/// What may be done with the writing connection.
///
/// [`WriteGuard`](crate::WriteGuard), [`Transaction`](crate::Transaction) and
/// [`Savepoint`](crate::Savepoint) dereference to it.
///
/// ```
/// fn add(session: &tenure::Session, title: &str) -> tenure::rusqlite::Result<i64> {
///     session.execute("INSERT INTO task (title) VALUES (?1)", [title])?;
///     Ok(session.last_insert_rowid())
/// }
///
/// let pool = tenure::testing::temporary()?;
/// let writer = pool.write()?;
/// writer.execute_batch("CREATE TABLE task (id INTEGER PRIMARY KEY, title TEXT)")?;
/// assert_eq!(add(&writer, "write the docs")?, 1);
/// # Ok::<(), tenure::Error>(())
/// ```
pub struct Session {
    read: ReadSession,
}

impl Session {
    pub(super) fn new(read: ReadSession) -> Self {
        Self { read }
    }
}

impl Deref for Session {
    type Target = ReadSession;

    #[inline]
    fn deref(&self) -> &ReadSession {
        &self.read
    }
}

/// Statements that change rows, with the signatures of [`rusqlite::Connection`].
impl Session {
    /// Runs one statement and returns how many rows it changed. See [`rusqlite::Connection::execute`]. The
    /// statement is kept, as by [`query_row`](ReadSession::query_row).
    ///
    /// # Errors
    ///
    /// When the SQL is wrong or SQLite refuses it.
    ///
    /// ```
    /// let pool = tenure::testing::temporary()?;
    /// let writer = pool.write()?;
    /// writer.execute("CREATE TABLE task (title TEXT)", [])?;
    /// assert_eq!(writer.execute("INSERT INTO task VALUES (?1)", ["rest"])?, 1);
    /// # Ok::<(), tenure::Error>(())
    /// ```
    pub fn execute<P: Params>(&self, sql: &str, params: P) -> rusqlite::Result<usize> {
        let before = self.connection().total_changes();
        let changed = self.at_once(sql, |statement| statement.execute(params))?;
        // Of SQL that changes no rows SQLite says what the statement before has changed.
        Ok(if self.connection().total_changes() == before { 0 } else { changed })
    }

    /// Runs several statements. See [`rusqlite::Connection::execute_batch`].
    ///
    /// Without a transaction each of them commits by itself.
    ///
    /// # Errors
    ///
    /// When the SQL is wrong or SQLite refuses it; those before it have been run.
    ///
    /// ```
    /// let pool = tenure::testing::temporary()?;
    /// pool.write()?.execute_batch("CREATE TABLE a (n); CREATE TABLE b (n);")?;
    /// # Ok::<(), tenure::Error>(())
    /// ```
    pub fn execute_batch(&self, sql: &str) -> rusqlite::Result<()> {
        self.batch(sql)
    }

    /// The rowid of the row inserted last through this connection, 0 when there was none.
    /// See [`rusqlite::Connection::last_insert_rowid`].
    ///
    /// Nobody else can have come between: the connection is yours, and it forgets the rows of those who
    /// had it before.
    ///
    /// ```
    /// let pool = tenure::testing::temporary()?;
    /// let writer = pool.write()?;
    /// writer.execute_batch("CREATE TABLE task (title TEXT); INSERT INTO task VALUES ('rest')")?;
    /// assert_eq!(writer.last_insert_rowid(), 1);
    /// # Ok::<(), tenure::Error>(())
    /// ```
    pub fn last_insert_rowid(&self) -> i64 {
        self.connection().last_insert_rowid()
    }

    /// How many rows the statement run last changed, 0 when this holder has changed none.
    /// See [`rusqlite::Connection::changes`].
    ///
    /// The SQL function `changes()` goes on to show what the holder before did last.
    ///
    /// ```
    /// let pool = tenure::testing::temporary()?;
    /// let writer = pool.write()?;
    /// writer.execute_batch("CREATE TABLE task (title TEXT); INSERT INTO task VALUES ('rest')")?;
    /// assert_eq!(writer.changes(), 1);
    /// # Ok::<(), tenure::Error>(())
    /// ```
    pub fn changes(&self) -> u64 {
        match self.total_changes() {
            0 => 0,
            _ => self.connection().changes(),
        }
    }

    /// How many rows were changed since the connection was checked out.
    /// See [`rusqlite::Connection::total_changes`].
    ///
    /// ```
    /// let pool = tenure::testing::temporary()?;
    /// assert_eq!(pool.write()?.total_changes(), 0);
    /// # Ok::<(), tenure::Error>(())
    /// ```
    pub fn total_changes(&self) -> u64 {
        self.connection().total_changes().saturating_sub(self.changes_before())
    }
}

/// Without the path or any SQL.
impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("autocommit", &self.is_autocommit()).finish_non_exhaustive()
    }
}
