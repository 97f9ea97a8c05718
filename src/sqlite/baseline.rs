//! What a connection was like before somebody did what may change it.
//!
//! Taken when it is first needed: right before the first statement of a kind that may leave something
//! behind, or before the connection itself is handed out. Until then only `on_connect` and the
//! settings have changed it, so what `on_connect` set up is part of the baseline and never taken for
//! something left over. Check-in takes the same picture again and compares. What differs is not set
//! back value by value: closing the connection and opening another is certain, costs about as much
//! (some 50 us), and is done off the caller's path.

use rusqlite::types::Value;
use rusqlite::{Connection, Result};

use super::busy::Busy;
use crate::ffi::{Handle, Switches};
use crate::metrics::Repair;

/// PRAGMAs that show a state of the connection, asked for `main` and, where it has its own, `temp`.
const PRAGMAS: &[&str] = &[
    "PRAGMA analysis_limit",
    "PRAGMA automatic_index",
    "PRAGMA main.cache_size",
    "PRAGMA main.cache_spill",
    "PRAGMA cell_size_check",
    "PRAGMA checkpoint_fullfsync",
    "PRAGMA count_changes",
    "PRAGMA defer_foreign_keys",
    "PRAGMA empty_result_callbacks",
    "PRAGMA foreign_keys",
    "PRAGMA full_column_names",
    "PRAGMA fullfsync",
    "PRAGMA ignore_check_constraints",
    "PRAGMA main.journal_mode",
    "PRAGMA main.journal_size_limit",
    "PRAGMA legacy_alter_table",
    // Of databases that are attached later.
    "PRAGMA locking_mode",
    "PRAGMA main.locking_mode",
    "PRAGMA main.max_page_count",
    "PRAGMA main.mmap_size",
    "PRAGMA query_only",
    "PRAGMA read_uncommitted",
    "PRAGMA recursive_triggers",
    "PRAGMA reverse_unordered_selects",
    "PRAGMA main.secure_delete",
    "PRAGMA short_column_names",
    "PRAGMA main.synchronous",
    "PRAGMA temp_store",
    "PRAGMA threads",
    "PRAGMA trusted_schema",
    "PRAGMA wal_autocheckpoint",
    "PRAGMA writable_schema",
    "PRAGMA temp.application_id",
    "PRAGMA temp.auto_vacuum",
    TEMP_CACHE_SIZE,
    "PRAGMA temp.cache_spill",
    "PRAGMA temp.journal_mode",
    "PRAGMA temp.journal_size_limit",
    "PRAGMA temp.max_page_count",
    "PRAGMA temp.page_size",
    "PRAGMA temp.secure_delete",
    "PRAGMA temp.user_version",
    // Case_sensitive_like cannot be asked for; this shows it.
    "SELECT 'a' LIKE 'A'",
];

const TEMP_CACHE_SIZE: &str = "PRAGMA temp.cache_size";
/// In SQLite's own terms, of builds that choose no other.
const DEFAULT_CACHE_SIZE: i64 = -2000;

/// PRAGMAs that every attached database has its own of.
const ATTACHED: &[&str] = &[
    "cache_size",
    "cache_spill",
    "journal_mode",
    "journal_size_limit",
    "locking_mode",
    "max_page_count",
    "mmap_size",
    "secure_delete",
    "synchronous",
];

/// What SQL can change.
#[derive(Debug, PartialEq)]
struct SqlState {
    attached: Vec<Value>,
    /// The settings of those.
    attached_pragmas: Vec<Value>,
    temporary: Vec<Value>,
    pragmas: Vec<Value>,
    functions: Vec<Value>,
}

/// What only functions of the interface can change.
#[derive(Debug, PartialEq)]
struct RawState {
    switches: Switches,
    /// Collations and modules.
    counts: Vec<Value>,
}

#[derive(Debug)]
pub(super) struct Baseline {
    sql: SqlState,
    raw: Option<RawState>,
}

impl Baseline {
    pub(super) fn of_sql(connection: &Handle<Busy>) -> Result<Self> {
        Ok(Self { sql: SqlState::of(connection)?, raw: None })
    }

    /// Adds what only functions of the interface can change.
    pub(super) fn add_raw(&mut self, connection: &Handle<Busy>) -> Result<()> {
        if self.raw.is_none() {
            self.raw = Some(RawState::of(connection)?);
        }
        Ok(())
    }

    /// What is different now.
    pub(super) fn differences(&self, connection: &Handle<Busy>, raw: bool) -> Result<Vec<Repair>> {
        let now = SqlState::of(connection)?;
        let mut found = Vec::new();
        let mut check = |same: bool, repair| {
            if !same {
                found.push(repair);
            }
        };
        check(now.attached == self.sql.attached, Repair::AttachedDatabase);
        check(now.temporary == self.sql.temporary, Repair::TemporaryObject);
        let same_of_attached =
            now.attached != self.sql.attached || now.attached_pragmas == self.sql.attached_pragmas;
        check(now.pragmas == self.sql.pragmas && same_of_attached, Repair::Pragma);
        // How many there are; replacing one is seen otherwise.
        check(now.functions == self.sql.functions, Repair::Function);
        if let (Some(then), true) = (&self.raw, raw) {
            let now = RawState::of(connection)?;
            check(now.switches == then.switches, Repair::Limit);
            check(now.counts == then.counts, Repair::Function);
        }
        Ok(found)
    }
}

impl SqlState {
    fn of(connection: &Connection) -> Result<Self> {
        let mut pragmas = Vec::with_capacity(PRAGMAS.len());
        for sql in PRAGMAS {
            // Not every build of SQLite has every one.
            let value = all(connection, sql)?.pop().unwrap_or(Value::Null);
            pragmas.push(match value {
                // The schema of TEMP has none until it is read, and that may be any time.
                Value::Integer(0) if *sql == TEMP_CACHE_SIZE => Value::Integer(DEFAULT_CACHE_SIZE),
                value => value,
            });
        }
        let mut attached_pragmas = Vec::new();
        let names = "SELECT name FROM pragma_database_list WHERE name NOT IN ('main', 'temp')";
        for name in all(connection, names)? {
            let Value::Text(name) = name else { continue };
            attached_pragmas.push(i64::from(connection.is_readonly(name.as_str())?).into());
            let name = name.replace('"', "\"\"");
            for pragma in ATTACHED {
                attached_pragmas.extend(all(connection, &format!("PRAGMA \"{name}\".{pragma}"))?);
            }
        }
        let attached = "SELECT name || char(0) || coalesce(file, '') FROM pragma_database_list \
                        WHERE name <> 'temp'";
        let temporary = "SELECT type || ' ' || name || ' ' || coalesce(sql, '') \
                         FROM sqlite_temp_schema";
        Ok(Self {
            attached: all(connection, attached)?,
            attached_pragmas,
            temporary: all(connection, temporary)?,
            pragmas,
            functions: all(connection, "SELECT count(*) FROM pragma_function_list")?,
        })
    }
}

impl RawState {
    fn of(connection: &Handle<Busy>) -> Result<Self> {
        let counts = [
            "SELECT count(*) FROM pragma_collation_list",
            // Without those that SQLite adds when they are first asked for.
            "SELECT count(*) FROM pragma_module_list \
             WHERE name NOT IN ('json_each', 'json_tree', 'jsonb_each', 'jsonb_tree') \
             AND (name NOT GLOB 'pragma_*' \
                  OR substr(name, 8) NOT IN (SELECT name FROM pragma_pragma_list))",
        ];
        let counts: Result<Vec<_>> = counts.iter().map(|sql| all(connection, sql)).collect();
        Ok(Self {
            switches: connection.switches(),
            counts: counts?.into_iter().flatten().collect(),
        })
    }
}

/// The first column of all rows. The order is SQLite's, which is the same each time.
fn all(connection: &Connection, sql: &str) -> Result<Vec<Value>> {
    connection.prepare(sql)?.query_map([], |row| row.get(0))?.collect()
}
