//! A database that SQLite has found damaged: the pool stops.
//!
//! To go on would be to read wrong rows and to write them back. So the first statement that fails for
//! damage stops the pool for good: no connection is lent any more, and a transaction that met it
//! cannot commit. The file is left as it is, for whoever restores or recovers it.

use std::error::Error;
use std::fmt;

use rusqlite::ffi;

/// What was found, by whom.
#[derive(Debug)]
pub(crate) struct Damage {
    pub(super) cause: ffi::Error,
    pub(super) thread: String,
    pub(super) place: String,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cause, thread, place } = self;
        write!(f, "{cause}; met by thread `{thread}`, with the connection checked out at {place}")
    }
}

impl Error for Damage {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.cause)
    }
}

/// Whether a code says that the file is damaged. Not so when a virtual table finds its own data
/// inconsistent: applications bring that about by themselves (an FTS5 index of external content).
pub(super) fn shows_damage(code: i32) -> bool {
    let vtab = code == ffi::SQLITE_CORRUPT_VTAB;
    matches!(code & 0xff, ffi::SQLITE_CORRUPT | ffi::SQLITE_NOTADB) && !vtab
}
