//! A copy of the database, made while it is used.
//!
//! All pages are copied in one snapshot of one reading connection: the copy is the database as it was
//! when the copying began. SQLite's backup begins again when somebody writes meanwhile, but not if its
//! source is in a transaction, which sees none of that. There are no pauses between the steps: in WAL
//! mode readers keep nobody waiting, and until the snapshot ends the WAL cannot start over. (`VACUUM
//! INTO` lost: it says nothing of how far it is, and rewrites the database instead of copying it.)
//!
//! The copy gets its name when it is whole and on the disk, and nothing is overwritten: a database
//! that somebody has open would be pulled from under them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};
use tempfile::TempPath;

use crate::error::BackupError;
use crate::file::{companions, is_companion};
use crate::pool::Pool;

/// How far a backup is.
///
/// ```
/// let pool = tenure::testing::temporary()?;
/// let directory = tempfile::tempdir().map_err(tenure::Error::other)?;
/// pool.backup_with_progress(directory.path().join("copy.db"), |progress| {
///     println!("{} of {} pages", progress.copied, progress.total);
/// })?;
/// # Ok::<(), tenure::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackupProgress {
    /// Pages in the copy.
    pub copied: u32,
    /// Pages of the database.
    pub total: u32,
}

/// Copying it.
impl Pool {
    /// Copies the database, as it is now, into a new file at `path`, while it is used. Databases that are
    /// attached are not copied.
    ///
    /// It holds one reading connection for the time that it takes. Writers go on meanwhile, in WAL
    /// mode; in the other modes they cannot commit until it is done. The WAL cannot start over in that
    /// time and grows with every commit.
    ///
    /// The copy appears under its name when it is whole and on the disk; only its owner may read it. It
    /// has no journal beside it, and is in the journal mode of the original.
    ///
    /// # Errors
    ///
    /// [`BackupError`]; then there is nothing at `path` that was not there before. A file that is there
    /// already is not overwritten. The copy of an encrypted database cannot be made in this way.
    ///
    /// ```
    /// let pool = tenure::testing::temporary()?;
    /// pool.write()?.execute_batch("CREATE TABLE task (title TEXT)")?;
    /// let directory = tempfile::tempdir().map_err(tenure::Error::other)?;
    /// let copy = directory.path().join("copy.db");
    /// pool.backup_to(&copy)?;
    /// assert!(tenure::Pool::open(&copy)?.read()?.table_exists(None, "task")?);
    /// # Ok::<(), tenure::Error>(())
    /// ```
    #[track_caller]
    pub fn backup_to(&self, path: impl AsRef<Path>) -> Result<(), BackupError> {
        self.backup_with_progress(path, |_| ())
    }

    /// As [`backup_to`](Self::backup_to); `progress` is told after each step of a mebibyte or so, and at
    /// the end.
    ///
    /// # Errors
    ///
    /// As [`backup_to`](Self::backup_to).
    ///
    /// # Panics
    ///
    /// When `progress` does. What had been copied is removed.
    ///
    /// ```
    /// let pool = tenure::testing::temporary()?;
    /// let directory = tempfile::tempdir().map_err(tenure::Error::other)?;
    /// let mut latest = None;
    /// pool.backup_with_progress(directory.path().join("copy.db"), |now| latest = Some(now))?;
    /// assert!(latest.is_some_and(|end| end.copied == end.total));
    /// # Ok::<(), tenure::Error>(())
    /// ```
    #[track_caller]
    pub fn backup_with_progress(
        &self,
        path: impl AsRef<Path>,
        mut progress: impl FnMut(BackupProgress),
    ) -> Result<(), BackupError> {
        let path = path.as_ref();
        let mut reader = self.read()?;
        let (directory, path) = place(path)?;
        let file = new_file(&directory, &path)?;
        let copy = |source| BackupError::Copy { source };
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_EXRESCODE;
        let mut target = Connection::open_with_flags(&file, flags).map_err(copy)?;
        // What is not whole is removed: it needs no journal.
        target
            .pragma_update_and_check(None, "journal_mode", "off", |_| Ok(()))
            .and_then(|()| target.pragma_update(None, "synchronous", "full"))
            .map_err(copy)?;
        let snapshot = reader.snapshot()?;
        snapshot.copy_into(&mut target, &mut progress).map_err(copy)?;
        drop(snapshot);
        drop(reader);
        target.close().map_err(|(_, source)| copy(source))?;
        keep(file, &directory, path)
    }
}

/// The directory, and the path in it, at which there is nothing yet.
fn place(path: &Path) -> Result<(PathBuf, PathBuf), BackupError> {
    let failed = |source| BackupError::Place { path: path.to_owned(), source };
    let name = path.file_name().ok_or_else(|| failed(io::ErrorKind::InvalidInput.into()))?;
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let directory = fs::canonicalize(directory).map_err(failed)?;
    let path = directory.join(name);
    if is_companion(&path) {
        let message =
            "SQLite would take it for the journal of the database beside it, and remove it";
        return Err(failed(io::Error::new(io::ErrorKind::InvalidInput, message)));
    }
    for there in std::iter::once(path.clone()).chain(companions(&path)) {
        if fs::symlink_metadata(&there).is_ok() {
            return Err(BackupError::AlreadyThere { path: there });
        }
    }
    Ok((directory, path))
}

/// An empty file for its owner only. Its descriptor is closed again before SQLite opens it.
fn new_file(directory: &Path, path: &Path) -> Result<TempPath, BackupError> {
    let made = tempfile::Builder::new().prefix(".backup-").tempfile_in(directory);
    let made = made.map_err(|source| BackupError::Place { path: path.to_owned(), source })?;
    Ok(made.into_temp_path())
}

/// Gives the copy its name, for good.
fn keep(file: TempPath, directory: &Path, path: PathBuf) -> Result<(), BackupError> {
    // The name too is to outlive a power cut. Before it is given, for a directory need not be readable.
    #[cfg(unix)]
    let directory = fs::File::open(directory)
        .map_err(|source| BackupError::Place { path: path.clone(), source })?;
    match file.persist_noclobber(&path) {
        Ok(()) => {}
        Err(failed) if failed.error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(BackupError::AlreadyThere { path });
        }
        Err(failed) => return Err(BackupError::Place { path, source: failed.error }),
    }
    #[cfg(unix)]
    if let Err(source) = directory.sync_all() {
        let _ = fs::remove_file(&path);
        return Err(BackupError::Place { path, source });
    }
    #[cfg(not(unix))]
    let _ = directory;
    Ok(())
}
