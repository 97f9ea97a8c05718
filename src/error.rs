//! One small error type per operation, and [`enum@Error`] over all of them.
//!
//! Each says what could not be done, which limit was met, who is in the way where that is known, and
//! what to do about it. Causes are reached through [`source`](std::error::Error::source). No error
//! borrows a guard or a transaction (then `?` into `Box<dyn Error>` could not work); the one that
//! gives a transaction back is [`TryCommitError`](crate::TryCommitError).

use std::any::Any;
use std::error::Error as StdError;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::ErrorCode;

pub use crate::config::ConfigError;
use crate::metrics::CheckoutOutcome;
use crate::status::Holder;

/// A cause of any type, as `setup` and `on_connect` closures may return it.
///
/// ```
/// fn check(version: i64) -> Result<(), tenure::BoxError> {
///     if version > 3 { Err("the file is from a newer release")? }
///     Ok(())
/// }
/// assert!(check(4).is_err());
/// ```
pub type BoxError = Box<dyn StdError + Send + Sync + 'static>;

/// Anything that can go wrong, for code that does not care which.
///
/// It converts from the error of every operation and from [`rusqlite::Error`], so `?` works in a
/// closure given to [`Pool::transaction`](crate::Pool::transaction); errors of your own go in with
/// [`Error::other`] and come out with [`Error::downcast_other`].
///
/// ```
/// #[derive(Debug, thiserror::Error)]
/// #[error("no task {0}")]
/// struct NoSuchTask(i64);
///
/// let pool = tenure::testing::temporary()?;
/// let result = pool.transaction(|_tx| Err::<(), _>(tenure::Error::other(NoSuchTask(7))));
/// let error = result.unwrap_err().downcast_other::<NoSuchTask>().expect("our own error");
/// assert_eq!(error.to_string(), "no task 7");
/// # Ok::<(), tenure::Error>(())
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A pool could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// No connection could be had.
    #[error(transparent)]
    Checkout(#[from] CheckoutError),
    /// A transaction or snapshot could not be begun.
    #[error(transparent)]
    Begin(#[from] BeginError),
    /// A transaction could not be committed.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// A transaction or savepoint could not be rolled back.
    #[error(transparent)]
    Rollback(#[from] RollbackError),
    /// A savepoint could not be set or released.
    #[error(transparent)]
    Savepoint(#[from] SavepointError),
    /// SQLite refused a statement.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    /// The caller's own error, put in with [`Error::other`].
    #[error(transparent)]
    Other(BoxError),
}

impl Error {
    /// Wraps an error of the caller's own.
    ///
    /// ```
    /// let error = tenure::Error::other("the account is closed");
    /// assert_eq!(error.to_string(), "the account is closed");
    /// ```
    pub fn other(error: impl Into<BoxError>) -> Self {
        Self::Other(error.into())
    }

    /// The caller's own error back, or this one if it is another.
    ///
    /// # Errors
    ///
    /// `self`, unchanged, when it does not hold an `E`.
    ///
    /// ```
    /// let error = tenure::Error::other(std::fmt::Error);
    /// assert!(error.downcast_other::<std::fmt::Error>().is_ok());
    /// ```
    pub fn downcast_other<E: StdError + 'static>(self) -> Result<E, Self> {
        match self {
            Self::Other(error) => error.downcast().map(|error| *error).map_err(Self::Other),
            other => Err(other),
        }
    }

    /// Whether the same work may well succeed a little later: the pool was exhausted or a lock was
    /// taken. A server answers 503 to these.
    ///
    /// ```
    /// let pool = tenure::testing::temporary()?;
    /// let _writer = pool.write()?;
    /// let error = tenure::Error::from(pool.try_write().unwrap_err());
    /// assert!(error.is_overload());
    /// # Ok::<(), tenure::Error>(())
    /// ```
    pub fn is_overload(&self) -> bool {
        match self {
            Self::Checkout(error) => matches!(
                error.kind(),
                CheckoutErrorKind::Timeout
                    | CheckoutErrorKind::Overloaded
                    | CheckoutErrorKind::Unavailable
            ),
            Self::Begin(error) => matches!(error, BeginError::Busy { .. }),
            Self::Commit(error) => matches!(error, CommitError::Busy { .. }),
            Self::Sqlite(error) => is_busy(error),
            _ => false,
        }
    }
}

/// Why a pool could not be opened.
///
/// ```
/// let error = tenure::Pool::open(":memory:").unwrap_err();
/// assert!(matches!(error, tenure::OpenError::InMemory));
/// assert!(error.to_string().contains("testing::temporary"));
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// `:memory:` or an empty path: every connection would have a database of its own.
    #[error(
        "an in-memory database cannot be pooled: every connection would see another, empty one; \
         for tests use tenure::testing::temporary(), a file that deletes itself"
    )]
    InMemory,
    /// No file is at the path, and the pool may not create one.
    #[error(
        "no database at {path:?}; create it first, or open the pool with `create = true` and \
         `access = \"read-write\"`"
    )]
    Missing {
        /// The path.
        path: PathBuf,
    },
    /// The directory that should hold the file is not there.
    #[error("cannot create {path:?}: its directory does not exist; create the directory first")]
    MissingDirectory {
        /// The path of the database.
        path: PathBuf,
    },
    /// The path leads to something that is not a regular file.
    #[error("{path:?} is not a regular file; give the path of a database file")]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// The system would not let the file be looked at or created.
    #[error("cannot access {path:?}; check the permissions of the file and of its directory")]
    Inaccessible {
        /// The path.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// This SQLite can lose committed pages in WAL mode.
    #[error(
        "SQLite {version} can lose committed data in WAL mode (the WAL-reset bug, fixed in 3.51.3); \
         enable the feature `bundled`, link a newer SQLite, or set `journal_mode = \"truncate\"`"
    )]
    UnsafeSqlite {
        /// The version of the library that is linked.
        version: String,
    },
    /// Two live pools may not share a name: their metrics would be mixed.
    #[error(
        "a pool named {name:?} is open already; share it by cloning it, or give this one another \
         `name`"
    )]
    NameTaken {
        /// The name.
        name: String,
    },
    /// The first connection could not be opened and configured.
    #[error("cannot open {path:?} as {role} connection")]
    Connect {
        /// The path.
        path: PathBuf,
        /// `read` or `write`.
        role: &'static str,
        /// At which step, and why.
        source: ConnectError,
    },
    /// The pool could not open all its connections.
    #[error("cannot open all connections of the pool")]
    Fill {
        /// What the last try ended in.
        source: CheckoutError,
    },
    /// The `setup` closure failed.
    #[error("the setup closure failed: {source}")]
    Setup {
        /// What the closure returned.
        source: BoxError,
    },
    /// The `setup` closure left a transaction open.
    #[error(
        "the setup closure left a transaction open: nothing it did was kept; commit before it returns"
    )]
    SetupLeftTransaction,
    /// A pool opened with `access = "read-only"` cannot run `setup`.
    #[error("`setup` needs to write, and `access` is \"read-only\"; leave out one of them")]
    SetupOnReadOnly,
    /// A thread of the pool could not be started.
    #[error("cannot start the pool's housekeeping thread")]
    Thread {
        /// The system's reason.
        source: std::io::Error,
    },
}

/// Why a connection could not be opened and configured.
///
/// ```
/// use tenure::{ConnectError, OpenError, Pool};
///
/// let directory = tempfile::tempdir()?;
/// let result = Pool::builder()
///     .database(directory.path().join("app.db"))
///     .on_connect(|_connection, _role| Err("no key for this file".into()))
///     .open();
/// let Err(OpenError::Connect { source: ConnectError::OnConnect { .. }, .. }) = result else {
///     panic!("the hook's error was lost");
/// };
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// SQLite could not open the file.
    #[error("SQLite cannot open the file: {source}")]
    Open {
        /// SQLite's reason.
        source: rusqlite::Error,
    },
    /// A setting could not be applied.
    #[error("cannot set {setting}: {source}")]
    Setting {
        /// The setting, as it is called in the configuration.
        setting: &'static str,
        /// SQLite's reason.
        source: rusqlite::Error,
    },
    /// The journal mode could not be changed.
    #[error(
        "the journal mode is {found:?} and could not be changed to {wanted:?}; the file system may \
         not support it, or another connection is open"
    )]
    JournalMode {
        /// What was asked for.
        wanted: &'static str,
        /// What SQLite answered.
        found: String,
    },
    /// The `on_connect` closure failed.
    #[error("the on_connect closure failed: {source}")]
    OnConnect {
        /// What the closure returned.
        source: BoxError,
    },
    /// The `on_connect` closure left a transaction open.
    #[error("the on_connect closure left a transaction open; commit it before it returns")]
    OnConnectLeftTransaction,
}

/// Why no connection could be had.
///
/// The text says how many are held, by whom longest, and where that one was checked out.
///
/// ```
/// use tenure::CheckoutErrorKind;
///
/// let pool = tenure::testing::temporary()?;
/// let _writer = pool.write()?;
/// let error = pool.write_timeout(std::time::Duration::from_millis(1)).unwrap_err();
/// assert_eq!(error.kind(), CheckoutErrorKind::Timeout);
/// println!("in the way: {:?}", error.longest_holder());
/// # Ok::<(), tenure::Error>(())
/// ```
#[derive(Debug)]
pub struct CheckoutError {
    pub(crate) role: &'static str,
    pub(crate) kind: CheckoutErrorKind,
    pub(crate) waited: Duration,
    pub(crate) limit: usize,
    pub(crate) held: usize,
    pub(crate) waiting: usize,
    pub(crate) longest: Option<Box<Holder>>,
    pub(crate) cause: Option<Arc<dyn StdError + Send + Sync>>,
}

/// The kinds of [`CheckoutError`].
///
/// ```
/// let pool = tenure::testing::temporary()?;
/// let _writer = pool.write()?;
/// match pool.try_write().map_err(|error| error.kind()) {
///     Err(tenure::CheckoutErrorKind::Unavailable) => println!("somebody else is writing"),
///     other => panic!("{other:?}"),
/// }
/// # Ok::<(), tenure::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CheckoutErrorKind {
    /// No turn came before the deadline.
    Timeout,
    /// As many threads as `max_waiters` allows were waiting already.
    Overloaded,
    /// `try_read` or `try_write` found nothing idle.
    Unavailable,
    /// A connection had to be opened, and could not be before the deadline.
    Connect,
    /// The pool was closed.
    Closed,
    /// The pool was opened with `access = "read-only"` and has no writer.
    ReadOnly,
}

impl CheckoutError {
    pub(crate) fn read_only() -> Self {
        Self {
            role: "write",
            kind: CheckoutErrorKind::ReadOnly,
            waited: Duration::ZERO,
            limit: 0,
            held: 0,
            waiting: 0,
            longest: None,
            cause: None,
        }
    }

    /// What went wrong, to match on.
    ///
    /// ```
    /// let pool = tenure::testing::temporary()?;
    /// let _writer = pool.write()?;
    /// let error = pool.try_write().unwrap_err();
    /// assert_eq!(error.kind(), tenure::CheckoutErrorKind::Unavailable);
    /// # Ok::<(), tenure::Error>(())
    /// ```
    pub fn kind(&self) -> CheckoutErrorKind {
        self.kind
    }

    /// How long the caller waited.
    ///
    /// ```
    /// use std::time::Duration;
    /// let pool = tenure::testing::temporary()?;
    /// let _writer = pool.write()?;
    /// let error = pool.write_timeout(Duration::from_millis(3)).unwrap_err();
    /// assert!(error.waited() >= Duration::from_millis(3));
    /// # Ok::<(), tenure::Error>(())
    /// ```
    pub fn waited(&self) -> Duration {
        self.waited
    }

    /// Who has held a connection of this role longest.
    ///
    /// ```
    /// let pool = tenure::testing::temporary()?;
    /// let _writer = pool.write()?;
    /// let error = pool.try_write().unwrap_err();
    /// assert!(error.longest_holder().is_some());
    /// # Ok::<(), tenure::Error>(())
    /// ```
    pub fn longest_holder(&self) -> Option<&Holder> {
        self.longest.as_deref()
    }

    pub(crate) fn outcome(&self) -> CheckoutOutcome {
        match self.kind {
            CheckoutErrorKind::Timeout => CheckoutOutcome::Timeout,
            CheckoutErrorKind::Overloaded => CheckoutOutcome::Overloaded,
            CheckoutErrorKind::Unavailable => CheckoutOutcome::Unavailable,
            CheckoutErrorKind::Connect => CheckoutOutcome::ConnectFailed,
            CheckoutErrorKind::Closed | CheckoutErrorKind::ReadOnly => CheckoutOutcome::Closed,
        }
    }
}

impl fmt::Display for CheckoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { role, waited, limit, held, waiting, .. } = self;
        match self.kind {
            CheckoutErrorKind::Timeout => {
                write!(f, "{role} checkout timed out after {waited:.1?}: {held} of {limit} connections held")?;
                self.write_longest(f)?;
                write!(f, "; give guards back sooner, ")?;
                f.write_str(match *role {
                    "read" => "or raise `readers` or `checkout_timeout`",
                    _ => "keep slow work out of write transactions, or raise `checkout_timeout`",
                })
            }
            CheckoutErrorKind::Overloaded => {
                write!(f, "{role} checkout refused: {waiting} threads wait already (`max_waiters`), {held} of {limit} connections held")?;
                self.write_longest(f)?;
                f.write_str("; answer the client \"try again later\"")
            }
            CheckoutErrorKind::Unavailable => {
                write!(f, "no idle {role} connection: {held} of {limit} held, {waiting} waiting")?;
                self.write_longest(f)
            }
            CheckoutErrorKind::Connect => {
                write!(f, "{role} checkout failed after {waited:.1?}: a connection could not be opened")?;
                match &self.cause {
                    Some(cause) => write!(f, ": {cause}"),
                    None => Ok(()),
                }
            }
            CheckoutErrorKind::Closed => write!(f, "{role} checkout refused: the pool is closed"),
            CheckoutErrorKind::ReadOnly => f.write_str(
                "write checkout refused: the pool was opened with `access = \"read-only\"` and has no writer",
            ),
        }
    }
}

impl CheckoutError {
    fn write_longest(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.longest {
            Some(holder) => write!(
                f,
                "; longest {:.1?} by thread `{}` at {}",
                holder.held, holder.thread, holder.place
            ),
            None => Ok(()),
        }
    }
}

impl StdError for CheckoutError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.cause.as_deref().map(|cause| cause as &(dyn StdError + 'static))
    }
}

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
    /// Another connection, not of this pool, kept the write lock.
    #[error(
        "cannot begin: the database stayed locked for {waited:.1?} (`busy_timeout` is {limit:?}) by a \
         connection outside this pool; find the process that holds it, or raise `busy_timeout`"
    )]
    Busy {
        /// How long the caller waited.
        waited: Duration,
        /// The configured busy time-out.
        limit: Duration,
        /// SQLite's code.
        source: rusqlite::Error,
    },
    /// A raw `BEGIN` was run on this guard before.
    #[error(
        "cannot begin: a transaction is open on this connection already, begun by SQL text; end it, \
         or begin with transaction() only"
    )]
    AlreadyOpen,
    /// SQLite refused.
    #[error("cannot begin")]
    Sqlite {
        /// SQLite's reason.
        source: rusqlite::Error,
    },
}

/// Why a commit failed, and what that means for the work.
///
/// Every case but [`Unknown`](CommitError::Unknown) means: certainly undone.
///
/// ```
/// let pool = tenure::testing::temporary()?;
/// let mut writer = pool.write()?;
/// let tx = writer.transaction()?;
/// tx.execute_batch("ROLLBACK")?;
/// let error = tx.commit().unwrap_err();
/// assert!(matches!(error, tenure::CommitError::NotOpen));
/// assert!(error.is_undone());
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
    Busy {
        /// How long the commit was tried.
        waited: Duration,
        /// The configured busy time-out.
        limit: Duration,
        /// SQLite's code.
        source: rusqlite::Error,
    },
    /// No transaction was open any more: SQL text ended it, or SQLite rolled it back.
    #[error(
        "not committed: no transaction is open; SQLite rolled it back after an error (ON CONFLICT \
         ROLLBACK, disk full, I/O error), or SQL text ended it"
    )]
    NotOpen,
    /// SQLite refused, a deferred foreign key for instance. The work was rolled back.
    #[error("not committed, the work was rolled back: {source}")]
    Refused {
        /// SQLite's reason.
        source: rusqlite::Error,
    },
    /// An input or output error during COMMIT: the work may or may not be in the file.
    #[error(
        "the outcome of COMMIT is unknown after an input or output error: read the data back before \
         doing the work again: {source}"
    )]
    Unknown {
        /// SQLite's reason.
        source: rusqlite::Error,
    },
}

impl CommitError {
    /// Whether it is certain that nothing of the transaction was kept.
    ///
    /// ```
    /// assert!(tenure::CommitError::NotOpen.is_undone());
    /// ```
    pub fn is_undone(&self) -> bool {
        !matches!(self, Self::Unknown { .. })
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
/// savepoint.execute_batch("ROLLBACK")?;
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

/// Whether SQLite answered that a lock is taken.
pub(crate) fn is_busy(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
}

/// What a panic said, if it said it in words.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".to_owned())
}
