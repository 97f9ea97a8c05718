//! The connection that makes checkpoints.
//!
//! Each is timed and counted here, and what fails is logged, so that the [thread](super::checkpoint)
//! that says when has only to decide what follows. The connection is opened when it is first needed, has
//! no busy handler, for no checkpoint may wait, and makes none by itself. After an error it is closed,
//! and another is opened for the next: nothing that it believes is trusted then.

use std::panic::Location;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::{Connection, Transaction, TransactionBehavior, ffi};

use super::checkpointing::Running;
use super::damage::{Damage, is_lost_write, shows_damage};
use super::manager::{Manager, Recipe, Role};
use super::wal::Wal;
use crate::config::Synchronous;
use crate::error::is_busy;
use crate::ffi::sync_database;
use crate::metrics::{CheckpointMode, CheckpointOutcome, Operation};

const MAIN: Option<&str> = Some("main");

/// What a checkpoint has found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    /// In the WAL when it began.
    pub(super) frames: u32,
    /// Of those, in the database.
    pub(super) backfilled: u32,
}

impl Found {
    pub(super) fn is_complete(self) -> bool {
        self.backfilled >= self.frames
    }
}

/// Why a checkpoint could not be made.
pub(super) enum Failed {
    /// Another process, or a connection outside the pool, makes one, or the writer's turn did not
    /// come.
    Busy,
    /// It was logged and counted.
    Error,
}

pub(super) struct CheckpointConnection {
    recipe: Arc<Recipe>,
    wal: Arc<Wal>,
    running: Arc<Running>,
    connection: Option<Connection>,
    /// Something was copied that may not be on the disk.
    unsynced: bool,
}

impl CheckpointConnection {
    pub(super) fn new(recipe: &Arc<Recipe>, wal: &Arc<Wal>, running: &Arc<Running>) -> Self {
        Self {
            recipe: Arc::clone(recipe),
            wal: Arc::clone(wal),
            running: Arc::clone(running),
            connection: None,
            unsynced: false,
        }
    }

    /// Opens it if it is not. That it cannot be opened counts as a checkpoint that failed: without it
    /// there is none.
    pub(super) fn get(&mut self) -> Result<&Connection, Failed> {
        if self.connection.is_none() {
            let began = Instant::now();
            let opened = self.open().inspect_err(|_| {
                let (mode, outcome) = (CheckpointMode::Passive, CheckpointOutcome::Error);
                self.recipe.metrics.checkpoint(mode, outcome, began);
            })?;
            *self.running.lock() = Some(opened.get_interrupt_handle());
            self.connection = Some(opened);
        }
        self.connection.as_ref().ok_or(Failed::Error)
    }

    fn open(&mut self) -> Result<Connection, Failed> {
        let opened = Manager::new(Arc::clone(&self.recipe), Role::Checkpoint).open();
        let opened = opened.map_err(|error| {
            self.recipe.log.checkpoint_failed(&error);
            Failed::Error
        })?;
        let quiet = opened
            .busy_timeout(Duration::ZERO)
            .and_then(|()| opened.pragma_update(None, "wal_autocheckpoint", 0))
            .and_then(|()| match self.recipe.config.synchronous {
                Synchronous::Off => Ok(()),
                // Checkpoints are as safe by it, and what is committed here need not be.
                _ => opened.pragma_update(MAIN, "synchronous", "normal"),
            });
        quiet.map_err(|error| self.failed(&error))?;
        Ok(opened)
    }

    pub(super) fn if_open(&self) -> Option<&Connection> {
        self.connection.as_ref()
    }

    /// Unless the pool has stopped: then it is closed last (see [`failed`](Self::failed)).
    pub(super) fn close(&mut self) {
        if self.recipe.damage.get().is_some() {
            return;
        }
        *self.running.lock() = None;
        self.connection = None;
    }

    /// Nobody interrupts it any more: for whoever closes it last.
    pub(super) fn end(self) -> Option<Connection> {
        *self.running.lock() = None;
        self.recipe.leave_wal_if_stopped(self.connection.as_ref());
        // A statement takes back an interrupt, which would end the checkpoint of the last to close.
        self.connection.filter(|connection| connection.execute_batch("SELECT 1").is_ok())
    }

    /// As far as readers allow.
    pub(super) fn checkpoint(&mut self, mode: CheckpointMode) -> Result<Found, Failed> {
        self.get()?;
        let Some(connection) = &self.connection else { return Err(Failed::Error) };
        let (before, commits) = (self.wal.backfilled(), self.wal.commits());
        let began = Instant::now();
        let result = pragma(connection, "PRAGMA main.wal_checkpoint(PASSIVE)");
        let metrics = &self.recipe.metrics;
        let (outcome, result) = match result {
            Ok((true, _)) => {
                metrics.busy_refusal(Operation::Checkpoint);
                (CheckpointOutcome::Busy, Err(Failed::Busy))
            }
            Ok((false, found)) => {
                self.wal.found(before, found.backfilled);
                let complete = found.is_complete();
                self.unsynced |= found.backfilled != before.frames;
                // Then SQLite has done it.
                self.unsynced &= !complete || self.wal.commits() != commits;
                let outcome =
                    if complete { CheckpointOutcome::Complete } else { CheckpointOutcome::Partial };
                (outcome, Ok(found))
            }
            Err(error) => (CheckpointOutcome::Error, Err(self.failed(&error))),
        };
        self.recipe.metrics.checkpoint(mode, outcome, began);
        result
    }

    /// Brings to the disk what was copied, if anything was. SQLite does so only where nobody has
    /// committed meanwhile: in the second step, where everybody waits for it.
    pub(super) fn sync(&mut self) -> Result<(), Failed> {
        if !self.unsynced || self.recipe.config.synchronous == Synchronous::Off {
            return Ok(());
        }
        let began = Instant::now();
        sync_database(self.get()?).map_err(|error| {
            let (mode, outcome) = (CheckpointMode::Passive, CheckpointOutcome::Error);
            self.recipe.metrics.checkpoint(mode, outcome, began);
            self.failed(&error)
        })?;
        self.unsynced = false;
        Ok(())
    }

    /// Whether the next writer will start the WAL over, all of which is in the database: whether
    /// nobody reads from it any more.
    pub(super) fn has_no_readers(&mut self) -> Result<bool, Failed> {
        // There is no busy handler: it waits for nobody.
        self.was_alone("PRAGMA main.wal_checkpoint(RESTART)")
    }

    /// Makes the file of the WAL as small as can be; `false` = somebody is in the way.
    pub(super) fn truncate(&mut self) -> Result<bool, Failed> {
        self.was_alone("PRAGMA main.wal_checkpoint(TRUNCATE)")
    }

    /// Writes a number of the database's header as it is. To be called with the writer's turn. That it
    /// fails is nobody's loss, and what is wrong is told to who reads or writes next.
    pub(super) fn commit_nothing(&mut self) -> Result<(), Failed> {
        let Some(connection) = &self.connection else { return Err(Failed::Error) };
        let written = || -> rusqlite::Result<()> {
            // Not immediate, which locks what `on_connect` has attached.
            let deferred = TransactionBehavior::Deferred;
            let transaction = Transaction::new_unchecked(connection, deferred)?;
            let version: i32 =
                transaction.pragma_query_value(MAIN, "user_version", |row| row.get(0))?;
            transaction.pragma_update(MAIN, "user_version", version)?;
            transaction.commit()
        };
        match written() {
            Ok(()) => {
                self.wal.committed(1, || false);
                Ok(())
            }
            Err(error) if is_busy(&error) && connection.is_autocommit() => Err(Failed::Busy),
            Err(_) => {
                self.close();
                Err(Failed::Error)
            }
        }
    }

    fn was_alone(&mut self, sql: &str) -> Result<bool, Failed> {
        match pragma(self.get()?, sql) {
            Ok((busy, _)) => Ok(!busy),
            Err(error) => Err(self.failed(&error)),
        }
    }

    fn failed(&mut self, error: &rusqlite::Error) -> Failed {
        let code = error.sqlite_error().map_or(0, |error| error.extended_code);
        if code & 0xff == ffi::SQLITE_INTERRUPT {
            // The pool ends.
            return Failed::Error;
        }
        if shows_damage(code) || is_lost_write(code) {
            let thread = crate::who::thread_name(&thread::current());
            let place = Location::caller().to_string();
            self.recipe.stop_for(Damage { cause: ffi::Error::new(code), thread, place });
            // Open, it keeps whoever closes at this moment from being the last, who would checkpoint.
            self.recipe.leave_wal_if_stopped(self.connection.as_ref());
            return Failed::Error;
        }
        self.recipe.log.checkpoint_failed(error);
        self.close();
        Failed::Error
    }
}

/// Runs a checkpoint; `true` = another connection was in the way.
fn pragma(connection: &Connection, sql: &str) -> rusqlite::Result<(bool, Found)> {
    connection.prepare_cached(sql)?.query_row([], |row| {
        // Negative when the database is not in WAL mode any more: then there is nothing to do.
        let number = |at| row.get::<_, i64>(at).map(|value| u32::try_from(value).unwrap_or(0));
        Ok((row.get(0)?, Found { frames: number(1)?, backfilled: number(2)? }))
    })
}
