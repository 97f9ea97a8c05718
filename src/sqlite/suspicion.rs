//! What is run on a connection, what it may leave behind, and what went wrong with it.
//!
//! Every statement of a holder's passes here on its way to SQLite, except those run through
//! [`ReadSession::rusqlite`] or a prepared statement. Before: is it one that check-in has to look for?
//! After a failure: was it a lock that stayed taken, one that was refused without waiting, or damage?

use rusqlite::fallible_iterator::FallibleIterator as _;
use rusqlite::{Batch, Connection, ffi};

use super::baseline::Baseline;
use super::busy::Stopped;
use super::damage::{Damage, shows_damage};
use super::heap;
use super::manager::Role;
use super::read_session::ReadSession;
use super::sql_text::{self, Effect};
use crate::config::AfterRaw;
use crate::fork::FORKED;
use crate::metrics::Repair;

/// How closely check-in has to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub(super) enum Suspicion {
    /// Queries and changes of rows only.
    None,
    /// Other SQL.
    Sql,
    /// The connection itself was handed out.
    Raw,
}

impl ReadSession {
    /// Whether a statement of the caller's may be run here and now.
    pub(super) fn begin_statement(&self) -> rusqlite::Result<()> {
        self.begin_use()?;
        if let Some(damage) = self.recipe.damage.get() {
            return Err(failure(damage.code(), &damage.to_string()));
        }
        if self.has_lost_transaction() {
            return Err(refused(
                "the transaction is over: SQLite rolled it back after an error (ON CONFLICT ROLLBACK, \
                 disk full, I/O error), or rusqlite() was used to end it; what is run now would be \
                 committed by itself",
            ));
        }
        Ok(())
    }

    /// Whether the transaction of this crate that is open is gone. After SQLite has rolled it back a
    /// statement that was prepared before may have begun another.
    pub(super) fn has_lost_transaction(&self) -> bool {
        self.in_transaction.get()
            && (self.connection.is_autocommit() || self.rolled_back_for.get() != 0)
    }

    /// Prepares a statement of the caller's, which will be run out of sight.
    pub(super) fn prepare_sql<'s, T>(
        &'s self,
        sql: &str,
        prepare: impl FnOnce(&'s Connection) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        self.begin_statement()?;
        let effect = sql_text::effect(sql);
        if effect.savepoint && self.in_transaction.get() {
            return Err(refused(
                "a savepoint is not prepared in a transaction: run after SQLite has rolled that back, it \
                 would begin another; use savepoint(), or execute() its SQL",
            ));
        }
        self.admit(effect)?;
        self.watched_use(prepare)
    }

    pub(super) fn admit(&self, effect: Effect) -> rusqlite::Result<()> {
        if effect == Effect::default() {
            return Ok(());
        }
        if effect.process {
            return Err(refused(
                "this PRAGMA would change the whole process, not this connection: set it where the \
                 process starts",
            ));
        }
        if effect.query_only && self.role == Role::Read {
            return Err(refused("a reader stays query-only: use write() for what writes"));
        }
        let mode = self.recipe.config.journal_mode.name();
        if effect.journal_mode.is_some_and(|other| other != mode) {
            return Err(refused(
                "the journal mode is the file's, and a setting of the pool: give it as `journal_mode` \
                 when the pool is opened",
            ));
        }
        if effect.transaction && self.in_transaction.get() {
            return Err(refused(
                "SQL text may not begin or end a transaction while one of tenure's is open: use its \
                 commit() or rollback(), or a savepoint",
            ));
        }
        if effect.savepoint {
            self.savepoint_set.set(true);
        }
        if effect.pending {
            self.pending.set(true);
        }
        if effect.session {
            self.suspect(Suspicion::Sql);
        }
        Ok(())
    }

    /// Runs several statements.
    pub(super) fn batch(&self, sql: &str) -> rusqlite::Result<()> {
        self.begin_statement()?;
        let effect = sql_text::batch_effect(sql);
        self.admit(Effect { transaction: false, ..effect })?;
        // After a statement that lost the transaction nothing must be run; and whether a keyword is
        // one of a transaction or of a trigger shows only in its statement.
        if !self.in_transaction.get() {
            return self.watched(|connection| connection.execute_batch(sql));
        }
        self.watched(|connection| {
            let mut batch = Batch::new(connection, sql);
            while let Some(mut statement) = batch.next()? {
                self.begin_statement()?;
                // Whatever all the words have said: of one statement the first word tells. Its text may be
                // longer than the limit of the connection.
                let text = statement.expanded_sql();
                self.admit(text.map_or(effect, |text| sql_text::effect(&text)))?;
                statement.raw_query().next()?;
            }
            Ok(())
        })
    }

    /// To be called before anything is done with the connection. It fails in a child of the process
    /// that opened it.
    pub(super) fn begin_use(&self) -> rusqlite::Result<()> {
        self.touched.set(true);
        if self.is_forked() {
            self.metrics().forked();
            return Err(failure(ffi::SQLITE_MISUSE, FORKED));
        }
        self.busy().forget_runs_unless(|| self.connection.is_running());
        Ok(())
    }

    /// Looks at what went wrong, if anything did.
    pub(super) fn watched<'s, T, E: From<rusqlite::Error>>(
        &'s self,
        work: impl FnOnce(&'s Connection) -> Result<T, E>,
    ) -> Result<T, E> {
        self.begin_use()?;
        self.watched_use(work)
    }

    /// As [`watched`](Self::watched), after [`begin_use`](Self::begin_use).
    pub(super) fn watched_use<'s, T, E>(
        &'s self,
        work: impl FnOnce(&'s Connection) -> Result<T, E>,
    ) -> Result<T, E> {
        self.notice_timeout();
        let result = work(&self.connection);
        if result.is_err() {
            let is_busy = self.connection.last_error() & 0xff == ffi::SQLITE_BUSY;
            if !self.notice_timeout() && is_busy {
                self.busy().refused();
            }
            self.notice_last_error();
            self.notice_rollback();
        }
        result
    }

    /// To be called before another statement, be it one that is reset, overwrites what was said last.
    pub(super) fn notice_rollback(&self) {
        if self.in_transaction.get() && self.connection.is_autocommit() {
            let code = self.connection.last_error();
            if self.rolled_back_for.get() == 0
                && !matches!(code, ffi::SQLITE_ROW | ffi::SQLITE_DONE)
            {
                self.rolled_back_for.set(code);
            }
        }
    }

    /// Writes down that a statement or a wait for a lock took too long, if one did.
    pub(super) fn notice_timeout(&self) -> bool {
        let Some(stopped) = self.busy().take_stopped() else {
            return false;
        };
        let (role, place) = (self.role.name(), self.place());
        let operation = self.busy().operation().name();
        match stopped {
            Stopped::Statement => {
                self.log().statement_timeout(role, place, self.busy().statement_limit());
            }
            Stopped::Interrupted => {}
            Stopped::Wait => self.log().busy_timeout(role, place, operation, self.busy().limit()),
        }
        true
    }

    /// Stops the pool if the last failure was for damage; after an input or output error the connection
    /// is not lent again. It sees what statements met that do not
    /// pass through here, if nothing was run since.
    pub(super) fn notice_last_error(&self) {
        let code = self.connection.last_error();
        if shows_damage(code) {
            self.found_damage(code);
        } else if code & 0xff == ffi::SQLITE_IOERR {
            // What the connection, or the system's cache, believes about the file may be wrong; after
            // a failed fsync it is. Another one reads it anew.
            self.condemn();
        }
    }

    #[cold]
    fn found_damage(&self, code: i32) {
        self.condemn();
        // The damage may be in another file: one that is attached, or was to be. Also, what is no
        // database at all may be something else that was opened. Then this one is looked at.
        let in_doubt = code & 0xff == ffi::SQLITE_NOTADB
            || self.suspicion.get() != Suspicion::None
            || self.connection.db_name(2).is_ok();
        let sound = || {
            let check = "PRAGMA main.quick_check(1)";
            self.connection.query_row(check, [], |row| row.get::<_, String>(0))
        };
        if in_doubt && sound().is_ok_and(|found| found == "ok") {
            return;
        }
        let thread = crate::who::thread_name(&std::thread::current());
        let place = self.place().map_or_else(|| "unknown".to_owned(), ToString::to_string);
        self.recipe.stop_for(Damage { cause: ffi::Error::new(code), thread, place });
    }

    /// Whether the database was found damaged.
    pub(super) fn met_damage(&self) -> bool {
        self.notice_last_error();
        self.recipe.damage.get().is_some()
    }

    /// Someone has put another busy handler in the place of the pool's.
    pub(super) fn put_busy_handler_back(&self) {
        self.connection.install_busy_handler();
        self.metrics().repair(Repair::BusyHandler);
        self.log().repair(self.role.name(), self.place(), Repair::BusyHandler.found());
    }

    /// Takes the baseline that check-in will compare with, before anything can be different.
    pub(super) fn suspect(&self, suspicion: Suspicion) {
        if self.suspicion.get() >= suspicion {
            return;
        }
        self.suspicion.set(suspicion);
        if suspicion == Suspicion::Raw && self.recipe.config.after_raw == AfterRaw::Discard {
            return;
        }
        self.connection.post_sentinel();
        if !self.heap_watched.replace(true) {
            heap::watch();
        }
        let mut baseline = self.baseline.borrow_mut();
        let taken = self.undisturbed(|| {
            let baseline = match &mut *baseline {
                Some(baseline) => baseline,
                none => none.insert(Baseline::of_sql(&self.connection)?),
            };
            if suspicion == Suspicion::Raw {
                baseline.add_raw(&self.connection)?;
            }
            Ok::<(), rusqlite::Error>(())
        });
        if let Err(error) = taken {
            tracing::debug!(%error, "no baseline could be taken; the connection will be closed");
            self.condemn();
        }
    }

    /// Looks at the connection without waiting for locks, and without a limit on time.
    pub(super) fn undisturbed<T>(&self, look: impl FnOnce() -> T) -> T {
        self.connection.set_progress_handler(false);
        let result = self.busy().without_waiting(look);
        self.connection.set_progress_handler(true);
        result
    }

    pub(super) fn suspicion(&self) -> Suspicion {
        self.suspicion.get()
    }

    /// What is different from the baseline.
    pub(super) fn differences(&self) -> rusqlite::Result<Vec<Repair>> {
        match &*self.baseline.borrow() {
            Some(baseline) => {
                baseline.differences(&self.connection, self.suspicion() == Suspicion::Raw)
            }
            None => Ok(Vec::new()),
        }
    }

    /// `true` when the limits on the process's memory had been changed.
    pub(super) fn put_heap_limits_back(&self) -> bool {
        self.heap_watched.replace(false) && heap::put_back()
    }
}

fn refused(message: &str) -> rusqlite::Error {
    failure(ffi::SQLITE_AUTH, message)
}

fn failure(code: i32, message: &str) -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(ffi::Error::new(code), Some(message.to_owned()))
}
