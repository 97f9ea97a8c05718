//! Why a backup could not be made.

use std::path::PathBuf;

use super::{BeginError, CheckoutError};

/// Why a backup could not be made. Nothing is left at its path.
///
/// ```
/// let pool = tenure::testing::temporary()?;
/// let directory = tempfile::tempdir().map_err(tenure::Error::other)?;
/// let path = directory.path().join("copy.db");
/// pool.backup_to(&path)?;
/// let error = pool.backup_to(&path).unwrap_err();
/// assert!(matches!(error, tenure::BackupError::AlreadyThere { .. }));
/// # Ok::<(), tenure::Error>(())
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// Something is at the path, or beside it where SQLite would take it for the journal of the copy.
    #[error(
        "no backup was made: {path:?} is there already, and is not overwritten; give another path, or \
         move it away first, when nothing has it open"
    )]
    #[non_exhaustive]
    AlreadyThere {
        /// What is there.
        path: PathBuf,
    },
    /// The file could not be created, or not be given its name.
    #[error("no backup was made: cannot write to {path:?}: {source}")]
    #[non_exhaustive]
    Place {
        /// The path.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// No reading connection could be had.
    #[error("no backup was made: {0}")]
    Checkout(#[from] CheckoutError),
    /// The state of the database to be copied could not be held.
    #[error("no backup was made: {0}")]
    Begin(#[from] BeginError),
    /// SQLite could not read the database or write the copy: the disk is full, for instance.
    #[error("no backup was made, and what had been copied was removed: {source}")]
    #[non_exhaustive]
    Copy {
        /// SQLite's reason.
        source: rusqlite::Error,
    },
}
