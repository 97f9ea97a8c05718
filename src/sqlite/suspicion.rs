//! What is run on a connection, what it may leave behind, and what went wrong with it.
//!
//! Every statement of a holder's passes here on its way to SQLite, except those run through
//! [`ReadSession::rusqlite`] or a prepared statement. Before: is it one that check-in has to look for?
//! After a failure: was it a lock that stayed taken, one that was refused without waiting, or damage?

use rusqlite::fallible_iterator::FallibleIterator as _;
use rusqlite::{Batch, Connection, ffi};

use super::baseline::Baseline;
use super::damage::{Damage, shows_damage};
use super::read_session::ReadSession;
use super::sql_text::{self, Effect};
use crate::config::AfterRaw;
use crate::ffi::{heap_limits, set_heap_limits};
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
    /// Runs a statement of the caller's.
    pub(super) fn sql<'s, T, E: From<rusqlite::Error>>(
        &'s self,
        sql: &str,
        work: impl FnOnce(&'s Connection) -> Result<T, E>,
    ) -> Result<T, E> {
        self.begin_use()?;
        self.admit(sql_text::effect(sql))?;
        self.watched(work)
    }

    pub(super) fn admit(&self, effect: Effect) -> rusqlite::Result<()> {
        match effect {
            Effect::None => Ok(()),
            Effect::Transaction if self.in_transaction.get() => Err(refused(
                "SQL text may not begin or end a transaction while one of tenure's is open: use its \
                 commit() or rollback(), or a savepoint",
            )),
            Effect::Transaction => Ok(()),
            Effect::Session => {
                self.suspect(Suspicion::Sql);
                Ok(())
            }
            Effect::Process => Err(refused(
                "this PRAGMA would change the whole process, not this connection: set it where the \
                 process starts",
            )),
        }
    }

    /// Runs several statements.
    pub(super) fn batch(&self, sql: &str) -> rusqlite::Result<()> {
        self.begin_use()?;
        let effect = sql_text::batch_effect(sql);
        if effect.process {
            self.admit(Effect::Process)?;
        }
        if effect.session {
            self.suspect(Suspicion::Sql);
        }
        let one_by_one = effect.transaction && self.in_transaction.get();
        self.watched(|connection| {
            if !one_by_one {
                return connection.execute_batch(sql);
            }
            let mut batch = Batch::new(connection, sql);
            while let Some(mut statement) = batch.next()? {
                let text = statement.expanded_sql().unwrap_or_default();
                self.admit(sql_text::effect(&text))?;
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
            let code = ffi::Error::new(ffi::SQLITE_MISUSE);
            return Err(rusqlite::Error::SqliteFailure(code, Some(FORKED.to_owned())));
        }
        Ok(())
    }

    /// Looks at what went wrong, if anything did.
    pub(super) fn watched<'s, T, E: From<rusqlite::Error>>(
        &'s self,
        work: impl FnOnce(&'s Connection) -> Result<T, E>,
    ) -> Result<T, E> {
        self.begin_use()?;
        self.notice_busy_timeout();
        let result = work(&self.connection);
        if result.is_err() {
            let is_busy = self.connection.last_error() & 0xff == ffi::SQLITE_BUSY;
            if !self.notice_busy_timeout() && is_busy {
                self.busy().refused();
            }
            self.notice_last_error();
        }
        result
    }

    /// Writes down that the busy handler gave up, if it did.
    pub(super) fn notice_busy_timeout(&self) -> bool {
        let gave_up = self.busy().take_gave_up();
        if gave_up && !self.busy().was_interrupted() {
            let operation = self.busy().operation().name();
            self.log().busy_timeout(
                self.role.name(),
                self.place(),
                operation,
                self.busy().timeout(),
            );
        }
        gave_up
    }

    /// Stops the pool if the last failure was for damage. It sees what statements met that do not
    /// pass through here, if nothing was run since.
    pub(super) fn notice_last_error(&self) {
        let code = self.connection.last_error();
        if shows_damage(code) {
            self.found_damage(code);
        }
    }

    #[cold]
    fn found_damage(&self, code: i32) {
        self.condemn();
        // The damage may be in another file: in one that is attached, or was to be.
        if self.connection.db_name(2).is_ok() {
            return;
        }
        let reads = "SELECT 1 FROM sqlite_schema LIMIT 1";
        if code & 0xff == ffi::SQLITE_NOTADB
            && self.connection.query_row(reads, [], |_| Ok(())).is_ok()
        {
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
        self.connection.install();
        self.metrics().repair(Repair::BusyHandler);
        self.log().repair(self.role.name(), self.place(), Repair::BusyHandler.found());
    }

    /// Takes the baseline that check-in will compare with, before anything can be different.
    pub(super) fn suspect(&self, suspicion: Suspicion) {
        if self.suspicion.get() >= suspicion {
            return;
        }
        self.suspicion.set(suspicion);
        if suspicion == Suspicion::Raw {
            if self.recipe.config.after_raw == AfterRaw::Discard {
                return;
            }
            self.connection.post_sentinel();
            self.heap_limits.set(Some(heap_limits()));
        }
        let mut baseline = self.baseline.borrow_mut();
        let taken = (|| {
            let baseline = match &mut *baseline {
                Some(baseline) => baseline,
                none => none.insert(Baseline::of_sql(&self.connection)?),
            };
            if suspicion == Suspicion::Raw {
                baseline.add_raw(&self.connection)?;
            }
            Ok::<(), rusqlite::Error>(())
        })();
        if let Err(error) = taken {
            tracing::debug!(%error, "no baseline could be taken; the connection will be closed");
            self.condemn();
        }
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

    /// `true` when they had been changed.
    pub(super) fn restore_heap_limits(&self) -> bool {
        match self.heap_limits.get() {
            Some(before) if before != heap_limits() => {
                set_heap_limits(before);
                true
            }
            _ => false,
        }
    }
}

fn refused(message: &str) -> rusqlite::Error {
    let code = ffi::Error::new(ffi::SQLITE_AUTH);
    rusqlite::Error::SqliteFailure(code, Some(message.to_owned()))
}
