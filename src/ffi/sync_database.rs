//! Bringing to the disk what checkpoints have written into the database.
//!
//! SQLite does so only in a checkpoint at whose end nobody has committed meanwhile, and then all at once.
//! To open the file and sync it would do for the kernel, but closing that file would take SQLite's locks
//! from all of the process.

use std::ffi::c_int;
use std::ptr;

use rusqlite::{Connection, ffi};

/// Syncs the main database of a connection. It takes as long as the disk does.
pub(crate) fn sync_database(connection: &Connection) -> rusqlite::Result<()> {
    let mut file: *mut ffi::sqlite3_file = ptr::null_mut();
    // SAFETY: the handle is open as long as the connection is borrowed, and this operation stores one
    // pointer where it is told to.
    let code = unsafe {
        ffi::sqlite3_file_control(
            connection.handle(),
            c"main".as_ptr(),
            ffi::SQLITE_FCNTL_FILE_POINTER,
            (&raw mut file).cast(),
        )
    };
    as_result(code)?;
    // SAFETY: SQLite's own file object, which lives as long as the connection is open. A file that is
    // open has methods, each of the first version is there, and this thread alone uses the connection.
    let code = unsafe {
        let methods = file.as_ref().and_then(|file| file.pMethods.as_ref());
        match methods.and_then(|methods| methods.xSync) {
            Some(sync) => sync(file, ffi::SQLITE_SYNC_NORMAL),
            // Nothing is on a disk.
            None => ffi::SQLITE_OK,
        }
    };
    as_result(code)
}

fn as_result(code: c_int) -> rusqlite::Result<()> {
    match code {
        ffi::SQLITE_OK => Ok(()),
        code => Err(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None)),
    }
}
