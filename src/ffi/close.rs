//! Closing a connection on which statements were forgotten.
//!
//! A statement that was leaked, even before its first step, makes `sqlite3_close` refuse: the file
//! stays open for as long as the process runs. Nobody can use such a statement any more, so it may be
//! finalized. But from here it looks like the statements that virtual tables (FTS5, R-Tree) keep for
//! themselves, and finalizing one of those would have it freed twice. What tells them apart:
//!
//! * statements that belong to an open cursor go when all statements have been reset;
//! * `sqlite3_close` disconnects virtual tables before it looks for statements, so after it has
//!   refused, those of virtual tables that nothing refers to are gone;
//! * a virtual table that is still connected is referred to by a leaked statement. Those are found by
//!   their instructions, and go first. Then `sqlite3_close` disconnects the rest, and the statements
//!   of virtual tables go with them. What is left then was leaked.
//!
//! The last step relies on what SQLite's own modules do: the statements that they keep read and write
//! tables of their own, and no virtual table. That does not hold for one that indexes the content of
//! another (FTS with `content =`), nor where a trigger hangs on such a table, nor for modules of the
//! application's. Then nothing is finalized, and the file stays open.

use std::ffi::CStr;
use std::ptr;
use std::time::Instant;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ffi};

use crate::log::Rate;

static FORGOTTEN: Rate = Rate::new();
static STAYING_OPEN: Rate = Rate::new();

/// # Safety
///
/// The connection is open and no other thread uses it.
pub(super) unsafe fn reset_statements(connection: *mut ffi::sqlite3) {
    // SAFETY: each statement found belongs to the connection and is open: whoever finalizes one
    // removes it from the list. Resetting one leaves it valid for whoever owns it; it may finalize
    // others (those of its cursors), so the next is asked for afterwards.
    unsafe {
        let mut statement = ffi::sqlite3_next_stmt(connection, ptr::null_mut());
        while !statement.is_null() {
            if ffi::sqlite3_stmt_busy(statement) != 0 {
                ffi::sqlite3_reset(statement);
            }
            statement = ffi::sqlite3_next_stmt(connection, statement);
        }
    }
}

/// # Safety
///
/// Nobody has a statement of this connection any more, other than by having leaked it.
pub(super) unsafe fn close(connection: Connection) {
    let Err((connection, _)) = connection.close() else {
        return;
    };
    // SAFETY: the connection is open, for it could not be closed, and owned here.
    match unsafe { close_with_forgotten(connection) } {
        Ok(()) => {
            if let Some(left_out) = FORGOTTEN.admit(Instant::now()) {
                tracing::warn!(
                    left_out,
                    "statements had been forgotten on a connection; they were finalized when it was closed"
                );
            }
        }
        // Dropping the connection tries once more, and leaves it to itself.
        Err(_connection) => {
            if let Some(left_out) = STAYING_OPEN.admit(Instant::now()) {
                tracing::error!(
                    left_out,
                    "a connection cannot be closed, its files stay open: statements, a backup or a \
                     session were forgotten on it"
                );
            }
        }
    }
}

/// # Safety
///
/// As for [`close`]; the connection is open.
unsafe fn close_with_forgotten(connection: Connection) -> Result<(), Box<Connection>> {
    let looked = look_at_virtual_tables(&connection);
    if looked == VirtualTables::Entangled {
        return Err(Box::new(connection));
    }
    if looked == VirtualTables::Plain {
        // Else SQLite would not show the statements by which virtual tables write to their own.
        let _ = connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, false);
        // SAFETY: the connection is open. What is finalized was leaked, as the head of this module
        // explains.
        let known = unsafe { finalize_users_of_virtual_tables(connection.handle()) };
        if !known {
            return Err(Box::new(connection));
        }
    }
    // Disconnects the virtual tables, also those that were connected again by looking.
    let Err((connection, _)) = connection.close() else {
        return Ok(());
    };
    // SAFETY: as above; no virtual table is left.
    unsafe { finalize_all(connection.handle()) };
    connection.close().map_err(|(connection, _)| Box::new(connection))
}

/// What there is of virtual tables on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum VirtualTables {
    /// None, other than those that keep no statements.
    None,
    /// Their own statements use no virtual table.
    Plain,
    /// It cannot be said whose a statement is.
    Entangled,
}

fn look_at_virtual_tables(connection: &Connection) -> VirtualTables {
    let count = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
    let look = || -> rusqlite::Result<VirtualTables> {
        let plain = Connection::open_in_memory()?;
        let (own, pragmas) = (modules(&plain)?, column(&plain, "PRAGMA pragma_list", 0)?);
        // SQLite adds some when they are first asked for.
        let is_own = |name: &String| match name.strip_prefix("pragma_") {
            Some(pragma) => pragmas.iter().any(|own| own == pragma),
            None => LATE.contains(&name.as_str()) || own.contains(name),
        };
        if !modules(connection)?.iter().all(is_own) {
            return Ok(VirtualTables::Entangled);
        }
        let mut tables = 0;
        for schema in column(connection, "PRAGMA database_list", 1)? {
            let schema = format!("\"{}\".sqlite_schema", schema.replace('"', "\"\""));
            let of_virtual = "sql LIKE 'create virtual%'";
            tables += count(&format!("SELECT count(*) FROM {schema} WHERE {of_virtual}"))?;
            let unspaced = "replace(replace(replace(replace(sql, ' ', ''), char(9), ''), char(10), ''), \
                            char(13), '')";
            let entangled = format!(
                "SELECT (SELECT count(*) FROM {schema} WHERE {of_virtual} \
                         AND {unspaced} LIKE '%content=%') \
                 + (SELECT count(*) FROM {schema} AS t, {schema} AS v WHERE t.type = 'trigger' \
                    AND v.{of_virtual} AND t.tbl_name LIKE v.name || '_%')"
            );
            if count(&entangled)? > 0 {
                return Ok(VirtualTables::Entangled);
            }
        }
        Ok(if tables == 0 { VirtualTables::None } else { VirtualTables::Plain })
    };
    // A schema that cannot be read tells nothing.
    look().unwrap_or(VirtualTables::Entangled)
}

fn modules(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    column(connection, "PRAGMA module_list", 0)
}

fn column(connection: &Connection, sql: &str, at: usize) -> rusqlite::Result<Vec<String>> {
    connection.prepare(sql)?.query_map([], |row| row.get(at))?.collect()
}

/// Modules that come with SQLite but are not there from the start.
const LATE: &[&str] = &["json_each", "json_tree", "jsonb_each", "jsonb_tree"];

/// `false` when it was not certain what may be finalized.
///
/// # Safety
///
/// The connection is open, no other thread uses it, and there are only modules of SQLite's own.
unsafe fn finalize_users_of_virtual_tables(connection: *mut ffi::sqlite3) -> bool {
    // SAFETY: the callers' promise, and the reasoning at the head of this module.
    unsafe {
        reset_statements(connection);
        let mut statement = ffi::sqlite3_next_stmt(connection, ptr::null_mut());
        while !statement.is_null() {
            match uses_virtual_table(statement) {
                Some(false) => statement = ffi::sqlite3_next_stmt(connection, statement),
                Some(true) => {
                    ffi::sqlite3_finalize(statement);
                    // From the start: the list may have lost other members too.
                    statement = ffi::sqlite3_next_stmt(connection, ptr::null_mut());
                }
                None => return false,
            }
        }
        true
    }
}

/// # Safety
///
/// The connection is open, no other thread uses it, and every statement on it was leaked.
unsafe fn finalize_all(connection: *mut ffi::sqlite3) {
    // SAFETY: promised by the caller.
    unsafe {
        loop {
            let statement = ffi::sqlite3_next_stmt(connection, ptr::null_mut());
            if statement.is_null() {
                return;
            }
            ffi::sqlite3_finalize(statement);
        }
    }
}

/// Looks through the instructions of a statement that is not running; `None` = SQLite does not show
/// them.
///
/// # Safety
///
/// The statement is open and not running.
unsafe fn uses_virtual_table(statement: *mut ffi::sqlite3_stmt) -> Option<bool> {
    // SAFETY: promised by the caller. The text of a column is valid until the next step, and is only
    // looked at before.
    unsafe {
        if ffi::sqlite3_sql(statement).is_null() {
            // No text: it belongs to a BLOB handle, which opens no virtual table.
            return Some(false);
        }
        if ffi::sqlite3_stmt_explain(statement, 1) != ffi::SQLITE_OK {
            return None;
        }
        let mut uses = false;
        let mut code = ffi::sqlite3_step(statement);
        while code == ffi::SQLITE_ROW {
            let name = ffi::sqlite3_column_text(statement, 1);
            if name.is_null() {
                break;
            }
            let name = CStr::from_ptr(name.cast()).to_bytes();
            uses |= matches!(
                name,
                b"VBegin"
                    | b"VCheck"
                    | b"VColumn"
                    | b"VCreate"
                    | b"VDestroy"
                    | b"VFilter"
                    | b"VInitIn"
                    | b"VNext"
                    | b"VOpen"
                    | b"VRename"
                    | b"VUpdate"
            );
            code = ffi::sqlite3_step(statement);
        }
        ffi::sqlite3_reset(statement);
        (code == ffi::SQLITE_DONE).then_some(uses)
    }
}
