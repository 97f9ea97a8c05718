//! Why a transaction could not be begun or ended, and what became of its work.

use std::time::Duration;

use crate::fork::FORKED;

/// Why a transaction or snapshot could not be begun.
///
/// ```
/// let pool = tenure::testing::temporary()?;
/// let mut writer = pool.write()?;
/// writer.execute_batch("BEGIN")?;
/// let error = writer.transaction().unwrap_err();
/// assert!(matches!(error, tenure::BeginError::AlreadyOpen));
/// # Ok::<(), tenure::Error>(())
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BeginError {
    /// Another connection kept the lock: of another process, or of this one outside the pool; outside
    /// WAL mode a reader can do it too.
    #[error(
        "cannot begin: the database stayed locked for {waited:.1?} (`busy_timeout` is {limit:?}) by \
         another connection; find the process that holds it, or raise `busy_timeout`"
    )]
    #[non_exhaustive]
    Busy {
        /// How long the caller waited.
        waited: Duration,
        /// The configured busy time-out.
        limit: Duration,
        /// SQLite's code.
        source: rusqlite::Error,
    },
    /// An [`InterruptHandle`](crate::InterruptHandle) stopped it, most often in a wait for another
    /// connection's lock.
    #[error(
        "cannot begin: interrupted after {waited:.1?} by an interrupt handle of this connection"
    )]
    #[non_exhaustive]
    Interrupted {
        /// How long it had tried.
        waited: Duration,
        /// SQLite's code.
        source: rusqlite::Error,
    },
    /// This process is a child of the one that opened the pool.
    #[error("cannot begin: {FORKED}")]
    Forked,
    /// A raw `BEGIN` was run on this guard before.
    #[error(
        "cannot begin: a transaction is open on this connection already, begun by SQL text; end it, \
         or begin with transaction() only"
    )]
    AlreadyOpen,
    /// SQLite refused.
    #[error("cannot begin: {source}")]
    #[non_exhaustive]
    Sqlite {
        /// SQLite's reason.
        source: rusqlite::Error,
    },
}

/// Why a commit failed, and what that means for the work.
///
/// [`is_undone`](CommitError::is_undone) says whether nothing was kept for certain: so it is with all but
/// [`Unknown`](CommitError::Unknown), [`NotOpen`](CommitError::NotOpen) and
/// [`Forked`](CommitError::Forked).
///
/// ```
/// let pool = tenure::testing::temporary()?;
/// let mut writer = pool.write()?;
/// let tx = writer.transaction()?;
/// tx.rusqlite().execute_batch("ROLLBACK")?;
/// let error = tx.commit().unwrap_err();
/// assert!(matches!(error, tenure::CommitError::NotOpen));
/// assert!(!error.is_undone());
/// # Ok::<(), tenure::Error>(())
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommitError {
    /// Readers outside WAL mode kept their locks. Nothing was committed.
    #[error(
        "not committed: the database stayed locked for {waited:.1?} (`busy_timeout` is {limit:?}); \
         the work was rolled back; end long reads sooner, use `journal_mode = \"wal\"`, or raise \
         `busy_timeout`"
    )]
    #[non_exhaustive]
    Busy {
        /// How long the commit was tried.
        waited: Duration,
        /// The configured busy time-out.
        limit: Duration,
        /// SQLite's code.
        source: rusqlite::Error,
    },
    /// An [`InterruptHandle`](crate::InterruptHandle) ended the wait for the lock. The work was rolled
    /// back.
    #[error(
        "not committed, the work was rolled back: interrupted after {waited:.1?} of waiting for \
         another connection's lock"
    )]
    #[non_exhaustive]
    Interrupted {
        /// How long it had waited.
        waited: Duration,
        /// SQLite's code.
        source: rusqlite::Error,
    },
    /// No transaction was open any more: SQL text ended it, or SQLite rolled it back. What was run
    /// after that by a statement prepared before was committed by itself.
    #[error(
        "there was no transaction to commit any more: SQLite rolled it back after an error (ON \
         CONFLICT ROLLBACK, disk full, I/O error), or SQL text ended it; what was run after that may \
         have been committed by itself: do not go on after such an error"
    )]
    NotOpen,
    /// SQLite refused, a deferred foreign key for instance. The work was rolled back.
    #[error("not committed, the work was rolled back: {source}")]
    #[non_exhaustive]
    Refused {
        /// SQLite's reason.
        source: rusqlite::Error,
    },
    /// Another closure of the same [group commit](crate::Pool::group_commit) made SQLite roll back the
    /// whole transaction. Do the work again.
    #[error(
        "not committed, the work was rolled back: another closure of the same group commit made SQLite \
         roll back the whole transaction ({source}); run the work again"
    )]
    #[non_exhaustive]
    AbortedWithBatch {
        /// What SQLite said last.
        source: rusqlite::Error,
    },
    /// The disk is full, or the database has reached `PRAGMA max_page_count`. The work was rolled back,
    /// and the pool can be used again as soon as there is room.
    #[error(
        "not committed, the work was rolled back: no room on the disk, or `max_page_count` is reached; \
         make room: the pool goes on by itself then: {source}"
    )]
    #[non_exhaustive]
    Full {
        /// SQLite's reason.
        source: rusqlite::Error,
    },
    /// This process is a child of the one that opened the pool. The transaction is the parent's, to
    /// commit or not.
    #[error("not committed: {FORKED}")]
    Forked,
    /// SQLite has found the database damaged, or the disk did not keep what a checkpoint wrote into it. The
    /// work was rolled back, and the pool has stopped.
    #[error(
        "not committed, the work was rolled back: the pool has stopped, for the database is damaged or \
         the disk has lost what was written to it; the log and each refused checkout say which, and \
         what to do"
    )]
    Damaged,
    /// An input or output error during COMMIT: the work may or may not be in the file. So it is too when
    /// COMMIT fails beside an attached database, for each file is committed by itself, or with a WAL hook
    /// of yours, or that may have been set through [`rusqlite()`](crate::ReadSession::rusqlite), which
    /// runs after it.
    #[error(
        "the outcome of COMMIT is unknown: read the data back before doing the work again: {source}"
    )]
    #[non_exhaustive]
    Unknown {
        /// SQLite's reason.
        source: rusqlite::Error,
    },
}

impl CommitError {
    /// The same once more, for another caller of the same batch.
    pub(crate) fn again(&self) -> Self {
        let source = |source: &rusqlite::Error| match source {
            rusqlite::Error::SqliteFailure(code, message) => {
                rusqlite::Error::SqliteFailure(*code, message.clone())
            }
            other => rusqlite::Error::ToSqlConversionFailure(other.to_string().into()),
        };
        match self {
            Self::Busy { waited, limit, source: cause } => {
                Self::Busy { waited: *waited, limit: *limit, source: source(cause) }
            }
            Self::Interrupted { waited, source: cause } => {
                Self::Interrupted { waited: *waited, source: source(cause) }
            }
            Self::NotOpen => Self::NotOpen,
            Self::Refused { source: cause } => Self::Refused { source: source(cause) },
            Self::Full { source: cause } => Self::Full { source: source(cause) },
            Self::AbortedWithBatch { source: cause } => {
                Self::AbortedWithBatch { source: source(cause) }
            }
            Self::Forked => Self::Forked,
            Self::Damaged => Self::Damaged,
            Self::Unknown { source: cause } => Self::Unknown { source: source(cause) },
        }
    }

    /// Whether it is certain that nothing of the transaction was kept.
    ///
    /// ```
    /// let pool = tenure::testing::temporary()?;
    /// pool.write()?.execute_batch(
    ///     "CREATE TABLE team (id INTEGER PRIMARY KEY);
    ///      CREATE TABLE member (team REFERENCES team DEFERRABLE INITIALLY DEFERRED)",
    /// )?;
    /// let mut writer = pool.write()?;
    /// let tx = writer.transaction()?;
    /// tx.execute("INSERT INTO member VALUES (1)", [])?;
    /// assert!(tx.commit().unwrap_err().is_undone());
    /// # Ok::<(), tenure::Error>(())
    /// ```
    pub fn is_undone(&self) -> bool {
        !matches!(self, Self::Unknown { .. } | Self::NotOpen | Self::Forked)
    }
}

/// A transaction or savepoint could not be rolled back. The connection is closed at check-in, which
/// undoes the work too.
///
/// ```
/// fn end(tx: tenure::Transaction<'_>) -> Result<(), tenure::RollbackError> {
///     tx.rollback()
/// }
/// ```
#[derive(Debug, thiserror::Error)]
#[error("cannot roll back, the connection will be closed instead: {source}")]
pub struct RollbackError {
    pub(crate) source: rusqlite::Error,
}

/// A savepoint could not be set or released.
///
/// ```
/// let pool = tenure::testing::temporary()?;
/// let mut writer = pool.write()?;
/// let mut tx = writer.transaction()?;
/// let savepoint = tx.savepoint()?;
/// savepoint.rusqlite().execute_batch("ROLLBACK")?;
/// let error: tenure::SavepointError = savepoint.commit().unwrap_err();
/// assert!(error.to_string().contains("savepoint"));
/// # Ok::<(), tenure::Error>(())
/// ```
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} savepoint {depth}: {source}")]
pub struct SavepointError {
    pub(crate) action: &'static str,
    pub(crate) depth: u32,
    pub(crate) source: rusqlite::Error,
}
