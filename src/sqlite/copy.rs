//! Copying the pages that a session sees into another database.

use std::thread;
use std::time::{Duration, Instant};

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, ffi};

use super::read_session::ReadSession;
use crate::backup::BackupProgress;

/// So many at a time: a mebibyte, with pages of the usual size.
const PAGES: i32 = 256;

/// Between two tries when a lock is taken, which nobody else should know of.
const RETRY: Duration = Duration::from_millis(1);

impl ReadSession {
    /// To be called in a snapshot: else the copying starts anew when somebody writes.
    pub(crate) fn copy_into(
        &self,
        target: &mut Connection,
        progress: &mut dyn FnMut(BackupProgress),
    ) -> rusqlite::Result<()> {
        self.watched(|connection| {
            let backup = Backup::new(connection, target)?;
            let began = Instant::now();
            loop {
                let step = backup.step(PAGES)?;
                if matches!(step, StepResult::Busy | StepResult::Locked) {
                    if began.elapsed() >= self.busy().limit() {
                        let code = ffi::Error::new(ffi::SQLITE_BUSY);
                        return Err(rusqlite::Error::SqliteFailure(code, None));
                    }
                    thread::sleep(RETRY);
                    continue;
                }
                let now = backup.progress();
                let total = u32::try_from(now.pagecount).unwrap_or(0);
                let left = u32::try_from(now.remaining).unwrap_or(0);
                progress(BackupProgress { copied: total.saturating_sub(left), total });
                if step == StepResult::Done {
                    return Ok(());
                }
            }
        })
    }
}
