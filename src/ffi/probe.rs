//! What has been changed on a connection, as far as only C functions can tell.

use std::ffi::{c_int, c_void};
use std::ptr;

use rusqlite::{Connection, ffi};

use super::handle::{Handle, Watch};

/// SQLite's limits (`sqlite3_limit`) and switches (`sqlite3_db_config`), all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Switches {
    limits: [c_int; 13],
    switches: [c_int; 22],
}

impl<W: Watch> Handle<W> {
    pub(crate) fn switches(&self) -> Switches {
        let limit = |id| {
            // SAFETY: the handle is open; a negative value asks and changes nothing. An id that this
            // SQLite does not know gives -1.
            unsafe { ffi::sqlite3_limit(self.raw(), id, -1) }
        };
        let switch = |at: c_int| {
            let mut value: c_int = -1;
            // SAFETY: the handle is open. These operations take an `int` and a pointer to one; a
            // negative value asks and changes nothing. An operation that this SQLite does not know
            // is refused before it reads its arguments.
            unsafe {
                let operation = ffi::SQLITE_DBCONFIG_ENABLE_FKEY + at;
                ffi::sqlite3_db_config(self.raw(), operation, -1 as c_int, &raw mut value);
            }
            value
        };
        Switches {
            limits: std::array::from_fn(|id| limit(id as c_int)),
            switches: std::array::from_fn(|at| switch(at as c_int)),
        }
    }
}

/// Which hooks are set on a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hooks {
    pub(crate) commit: bool,
    pub(crate) rollback: bool,
    pub(crate) update: bool,
    pub(crate) trace: bool,
    pub(crate) wal: bool,
}

impl Hooks {
    pub(crate) fn any(self) -> bool {
        self != Self::default()
    }
}

/// Takes the hooks away, which is the only way to learn of them. `checkpoints` says that the WAL hook
/// is SQLite's own, which is left alone; one whose argument is `own` does not count.
pub(super) fn take_hooks(connection: &Connection, checkpoints: bool, own: *const c_void) -> Hooks {
    // SAFETY: the handle is open while `connection` is borrowed, and no other thread uses it, for a
    // `Connection` is not `Sync`. Each call replaces a hook by none and returns the argument of the
    // one before, which is only compared with null. `rusqlite` keeps what its hooks own until it sets
    // another or closes.
    unsafe {
        let handle = connection.handle();
        Hooks {
            commit: !ffi::sqlite3_commit_hook(handle, None, ptr::null_mut()).is_null(),
            rollback: !ffi::sqlite3_rollback_hook(handle, None, ptr::null_mut()).is_null(),
            update: !ffi::sqlite3_update_hook(handle, None, ptr::null_mut()).is_null(),
            // Both, and this one first: the second takes both away and tells of one.
            trace: !ffi::sqlite3_profile(handle, None, ptr::null_mut()).is_null()
                | !ffi::sqlite3_trace(handle, None, ptr::null_mut()).is_null(),
            wal: !checkpoints && {
                let argument = ffi::sqlite3_wal_hook(handle, None, ptr::null_mut());
                !argument.is_null() && argument.cast_const() != own
            },
        }
    }
}

/// As `Handle::take_hooks`, of a connection that has none of the pool's yet.
pub(crate) fn learn_hooks(connection: &Connection, checkpoints: bool) -> Hooks {
    take_hooks(connection, checkpoints, ptr::null())
}

/// The limits on memory, which are the whole process's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HeapLimits {
    soft: i64,
    hard: i64,
}

pub(crate) fn heap_limits() -> HeapLimits {
    // SAFETY: both may be called at any time from any thread; a negative value asks.
    unsafe {
        HeapLimits {
            soft: ffi::sqlite3_soft_heap_limit64(-1),
            hard: ffi::sqlite3_hard_heap_limit64(-1),
        }
    }
}

pub(crate) fn set_heap_limits(limits: HeapLimits) {
    // SAFETY: both may be called at any time from any thread. The hard one first: it bounds the soft.
    unsafe {
        ffi::sqlite3_hard_heap_limit64(limits.hard);
        ffi::sqlite3_soft_heap_limit64(limits.soft);
    }
}

/// Whether all connections of the process take turns at one page cache.
pub(crate) fn shares_page_cache() -> bool {
    // SAFETY: may be called at any time; the text ends with NUL.
    unsafe { ffi::sqlite3_compileoption_used(c"ENABLE_MEMORY_MANAGEMENT".as_ptr()) != 0 }
}

/// Whether this build of SQLite calls hooks before a row is changed, which cannot be probed for.
pub(crate) fn has_preupdate_hooks() -> bool {
    // SAFETY: may be called at any time; the text ends with NUL.
    unsafe { ffi::sqlite3_compileoption_used(c"ENABLE_PREUPDATE_HOOK".as_ptr()) != 0 }
}
