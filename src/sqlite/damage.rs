//! A database that is damaged, or whose disk has lost what was written to it: the pool stops.
//!
//! To go on would be to read wrong rows and to write them back. So the first statement that fails for
//! damage stops the pool for good: no connection is lent any more, and a transaction that met it
//! cannot commit. The file is left as it is, for whoever restores or recovers it.
//!
//! A checkpoint whose fsync fails is no better. The kernel then counts as written what it could not write,
//! so that the next fsync succeeds; and SQLite reads from the database what it believes to be there, and in
//! the end writes over the WAL, which has it yet. So the pool stops as well, as PostgreSQL does since version
//! 12, and its connections leave the WAL behind when they are closed. Whoever opens the file as the first one
//! copies all of it again. (What a COMMIT could not sync nobody has read yet; whether it is kept is unknown,
//! and its caller is told so.)

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

impl Damage {
    /// What SQLite would say of it.
    pub(super) fn code(&self) -> i32 {
        match self.cause.extended_code {
            code if is_lost_write(code) => code,
            _ => ffi::SQLITE_CORRUPT,
        }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cause, thread, place } = self;
        let (what, remedy) = if is_lost_write(cause.extended_code) {
            (
                "the disk did not keep what a checkpoint has written",
                "see to the disk, then end every process that has the file open and start anew: what \
                 was committed is in the -wal, which is kept, and copied once more as far as the disk \
                 has kept that",
            )
        } else {
            (
                "the database is damaged",
                "stop the program, keep a copy of the file and its -wal, and restore a backup or \
                 recover what is left with the sqlite3 shell's .recover",
            )
        };
        write!(
            f,
            "{what}, the pool has stopped ({cause}; met by thread `{thread}`, with the connection \
             checked out at {place}); {remedy}"
        )
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

/// Whether a code of a checkpoint says that an fsync has failed.
pub(super) fn is_lost_write(code: i32) -> bool {
    code == ffi::SQLITE_IOERR_FSYNC
}
