//! One small error type per operation, and [`enum@Error`] over all of them.
//!
//! Each says what could not be done, which limit was met, who is in the way where that is known, and
//! what to do about it. The cause is in the text, so that a log line of the error alone is enough, and
//! it can be reached through [`source`](std::error::Error::source) to match on. No error
//! borrows a guard or a transaction (then `?` into `Box<dyn Error>` could not work); the one that
//! gives a transaction back is [`TryCommitError`](crate::TryCommitError).

mod backup;
mod checkout;
mod close;
mod deadlock;
mod open;
mod resize;
mod transaction;

use std::any::Any;
use std::error::Error as StdError;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};

use rusqlite::ErrorCode;

pub use self::backup::BackupError;
pub(crate) use self::checkout::Refusal;
pub use self::checkout::{CheckoutError, CheckoutErrorKind};
pub use self::close::CloseError;
pub use self::deadlock::{Claim, DeadlockedHolder};
pub use self::open::{ConnectError, FileProblem, OpenError};
pub use self::resize::ResizeError;
pub use self::transaction::{BeginError, CommitError, RollbackError, SavepointError};
use crate::config::ConfigError;

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
    /// Connections were still out when a pool was to be closed.
    #[error(transparent)]
    Close(#[from] CloseError),
    /// A backup could not be made.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// A pool could not be resized.
    #[error(transparent)]
    Resize(#[from] ResizeError),
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

/// The transaction is rolled back.
impl From<crate::sqlite::TryCommitError<'_>> for Error {
    fn from(refused: crate::sqlite::TryCommitError<'_>) -> Self {
        Self::Commit(refused.into_error())
    }
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

    /// Whether the same work may well succeed a little later: the pool was exhausted, a lock was
    /// taken, or another caller's part of a batch undid this one. A server answers 503 to these.
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
            Self::Commit(error) => {
                matches!(error, CommitError::Busy { .. } | CommitError::AbortedWithBatch { .. })
            }
            Self::Sqlite(error) => is_busy(error),
            _ => false,
        }
    }
}

/// Whether SQLite answered that a lock is taken.
pub(crate) fn is_busy(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
}

/// Runs what is the caller's, or may end in it: `on_connect`, a log, the drop of a value. `Err` = what its
/// panic said.
#[inline(always)] // In each check-in.
pub(crate) fn caught<R>(work: impl FnOnce() -> R) -> Result<R, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(said)
}

/// Runs what nothing depends on. That it panicked the panic hook has said.
pub(crate) fn quietly(work: impl FnOnce()) {
    let _ = caught(work);
}

/// What a panic said, if it said it in words.
#[cold]
fn said(panic: Box<dyn Any + Send>) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let message = text
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".to_owned());
    // It carries a value of the caller's: to drop that may panic again, with another.
    mem::forget(catch_unwind(AssertUnwindSafe(|| drop(panic))));
    message
}
