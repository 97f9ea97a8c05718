//! Asking SQLite whether the database is sound.

use super::read_session::ReadSession;
use crate::check::{CheckReport, ForeignKeyViolation};

impl ReadSession {
    /// However long it takes.
    pub(crate) fn check(&self) -> rusqlite::Result<CheckReport> {
        self.undisturbed(|| {
            self.watched(|connection| {
                let mut problems = connection.prepare("PRAGMA main.integrity_check")?;
                let problems = problems.query_map([], |row| row.get::<_, String>(0))?;
                let mut problems = problems.collect::<rusqlite::Result<Vec<_>>>()?;
                problems.retain(|problem| problem != "ok");
                if !problems.is_empty() {
                    return Ok(CheckReport { problems, ..CheckReport::default() });
                }
                let mut violations = connection.prepare("PRAGMA main.foreign_key_check")?;
                let violations = violations.query_map([], |row| {
                    Ok(ForeignKeyViolation {
                        table: row.get(0)?,
                        rowid: row.get(1)?,
                        parent: row.get(2)?,
                        key: row.get(3)?,
                    })
                })?;
                Ok(CheckReport { problems, foreign_keys: violations.collect::<Result<_, _>>()? })
            })
        })
    }
}
