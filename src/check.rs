//! Whether the database is sound, asked of SQLite.

use crate::error::Error;
use crate::pool::Pool;

/// What a check has found. Made by [`Pool::check`].
///
/// ```
/// let pool = tenure::testing::temporary()?;
/// let report = pool.check()?;
/// assert!(report.is_sound(), "{report:?}");
/// # Ok::<(), tenure::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CheckReport {
    /// What `PRAGMA integrity_check` says is wrong, the first hundred; empty = nothing.
    pub problems: Vec<String>,
    /// Rows that refer to rows which are not there. Looked for only if there are no other problems.
    pub foreign_keys: Vec<ForeignKeyViolation>,
}

impl CheckReport {
    /// Nothing is wrong.
    ///
    /// ```
    /// assert!(tenure::testing::temporary()?.check()?.is_sound());
    /// # Ok::<(), tenure::Error>(())
    /// ```
    pub fn is_sound(&self) -> bool {
        self.problems.is_empty() && self.foreign_keys.is_empty()
    }
}

/// A row that refers to one which is not there.
///
/// ```
/// let pool = tenure::testing::temporary_with(tenure::Pool::builder().foreign_keys(false))?;
/// pool.write()?.execute_batch(
///     "CREATE TABLE team (id INTEGER PRIMARY KEY);
///      CREATE TABLE member (team REFERENCES team);
///      INSERT INTO member VALUES (7)",
/// )?;
/// let violation = &pool.check()?.foreign_keys[0];
/// assert_eq!((&*violation.table, &*violation.parent), ("member", "team"));
/// # Ok::<(), tenure::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ForeignKeyViolation {
    /// The table that the row is in.
    pub table: String,
    /// The row; `None` in a table WITHOUT ROWID.
    pub rowid: Option<i64>,
    /// The table that it refers to.
    pub parent: String,
    /// Which of the foreign keys of the table, as numbered by `PRAGMA foreign_key_list`.
    pub key: i64,
}

/// Checking it.
impl Pool {
    /// Has SQLite check the whole database, in one snapshot of a reading connection: `PRAGMA
    /// integrity_check`, then `PRAGMA foreign_key_check`.
    ///
    /// It reads every page, which takes as long as that takes, and `statement_timeout` does not end it.
    /// Meanwhile the WAL cannot start over. What is found is reported and changes nothing: an index
    /// that lacks an entry, say, is mended by `REINDEX`.
    ///
    /// # Errors
    ///
    /// [`Error::Checkout`] and [`Error::Begin`]; [`Error::Sqlite`] when the check itself cannot be made,
    /// also because of damage, which stops the pool.
    ///
    /// ```
    /// let report = tenure::testing::temporary()?.check()?;
    /// assert_eq!(report.problems, [""; 0]);
    /// # Ok::<(), tenure::Error>(())
    /// ```
    #[track_caller]
    pub fn check(&self) -> Result<CheckReport, Error> {
        self.snapshot(|snapshot| Ok(snapshot.check()?))
    }
}
