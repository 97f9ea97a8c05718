//! Leaving nothing behind: what a read-only pool owes the directory it reads from.
//!
//! The connections of such a pool are opened read-only and cannot change the database. But SQLite
//! keeps its `-shm` and an empty `-wal` beside a database in WAL mode while it is open, and a
//! connection that is read-only may not remove them when it closes. Opening the file as `immutable`
//! would need neither, and would read nonsense as soon as another process writes. Deleting the files
//! here could pull them from under a process that has just opened them. So the last act of the pool is
//! a connection that may write, opened and closed: SQLite then removes the files itself, under its
//! own locks, if nobody else uses them.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use rusqlite::{Connection, OpenFlags};

use crate::fork::PerProcess;

/// What read-only pools of this process have promised to remove, by database.
static PROMISED: PerProcess<Mutex<Promises>> =
    PerProcess::new([const { Mutex::new(Vec::new()) }; 8]);

type Promises = Vec<(PathBuf, Weak<LeaveNoTrace>)>;

/// Remembers that the files were not there. Shared by the read-only pools of one database, so that
/// the last one keeps the promise of the first.
pub(crate) struct LeaveNoTrace {
    database: PathBuf,
}

impl LeaveNoTrace {
    /// `None` when the files are there already: then they are not this process's to remove.
    pub(crate) fn begin(database: &Path) -> Option<Arc<Self>> {
        let mut promised = PROMISED.here().lock();
        promised.retain(|(_, promise)| promise.strong_count() > 0);
        let known = promised.iter().find(|(path, _)| path == database);
        if let Some(promise) = known.and_then(|(_, promise)| promise.upgrade()) {
            return Some(promise);
        }
        if companion(database, "-wal").exists() || companion(database, "-shm").exists() {
            return None;
        }
        let promise = Arc::new(Self { database: database.to_owned() });
        promised.push((database.to_owned(), Arc::downgrade(&promise)));
        Some(promise)
    }
}

impl Drop for LeaveNoTrace {
    fn drop(&mut self) {
        // A `-wal` that is not empty belongs to a writer of another process: closing would move its
        // content into the database, and this pool has promised not to touch that.
        let empty = |path| fs::metadata(path).is_ok_and(|found| found.len() == 0);
        if !empty(companion(&self.database, "-wal")) {
            return;
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let closed = Connection::open_with_flags(&self.database, flags).and_then(|connection| {
            connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
            connection.close().map_err(|(_, error)| error)
        });
        if let Err(error) = closed {
            tracing::debug!(%error, "the -wal and -shm files of a read-only pool were left behind");
        }
    }
}

fn companion(database: &Path, suffix: &str) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
