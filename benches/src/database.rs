//! The database files: made once for each number of rows, and copied for each variant.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use harness::sql::{BODY, INSERT_ITEM, SCHEMA};
use rusqlite::Connection;
use tempfile::TempDir;

#[derive(Debug)]
pub(crate) struct Databases {
    directory: TempDir,
    /// By number of rows. Closed, hence without a WAL, and safe to copy.
    templates: BTreeMap<i64, PathBuf>,
}

impl Databases {
    pub(crate) fn within(directory: &Path) -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new()
            .prefix("databases-")
            .tempdir_in(directory)
            .with_context(|| format!("cannot make a directory in {}", directory.display()))?;
        Ok(Self { directory, templates: BTreeMap::new() })
    }

    /// A database of its own with `items` rows to read.
    pub(crate) fn make(&mut self, name: &str, items: i64) -> anyhow::Result<PathBuf> {
        let template = match self.templates.get(&items) {
            Some(template) => template,
            None => {
                let path = self.directory.path().join(format!("template-{items}.db"));
                fill(&path, items)?;
                self.templates.entry(items).or_insert(path)
            }
        };
        let path = self.directory.path().join(format!("{name}.db"));
        fs::copy(template, &path)?;
        Ok(path)
    }
}

fn fill(path: &Path, items: i64) -> anyhow::Result<()> {
    let mut connection = Connection::open(path)?;
    connection.execute_batch(SCHEMA)?;
    let transaction = connection.transaction()?;
    {
        let mut insert = transaction.prepare(INSERT_ITEM)?;
        for id in 1..=items {
            insert.execute((id, BODY))?;
        }
    }
    transaction.commit()?;
    connection.close().map_err(|(_, error)| error)?;
    Ok(())
}

/// How many rows were written, as a connection of its own sees it.
pub(crate) fn notes(path: &Path) -> anyhow::Result<u64> {
    let connection = Connection::open(path)?;
    let ok: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
    anyhow::ensure!(ok == "ok", "the database is damaged: {ok}");
    let notes: i64 = connection.query_row("SELECT count(*) FROM note", [], |row| row.get(0))?;
    Ok(u64::try_from(notes)?)
}
