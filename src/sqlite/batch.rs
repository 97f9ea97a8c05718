//! Several callers' work in one write transaction, each part undone by itself if need be.
//!
//! Every part runs in a savepoint of its own, but for the first, which has the transaction to itself so
//! far: a caller that comes alone, as most do where the disk is fast, pays for no savepoint. If the
//! first part is undone, the transaction ends with it, and those who wait get another. If it has set a
//! savepoint in SQL, which no other around it will release, the batch takes no more.
//!
//! What one part leaves on the connection must not reach the next, as nothing may reach the next
//! borrower: rowid and change counts are forgotten and a statement left in the middle of its rows is
//! reset between two parts; after a part that ran SQL of the kind check-in has to look for, or used the
//! connection itself, the batch takes no more.
//!
//! SQLite itself can end a transaction in the middle of a part (ON CONFLICT ROLLBACK, disk full, I/O
//! error). Then all parts before it are undone too, and nothing more may run: what did would be
//! committed by itself. So the batch looks after every part whether its transaction and the part's
//! savepoint are still there.
//!
//! A foreign key that is checked at COMMIT would refuse the whole batch for one part's fault. SQLite
//! knows after each part whether there is such a violation, so that part is undone alone.

use std::any::Any;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};

use rusqlite::{Error, ffi};

use super::checkin;
use super::guard::WriteGuard;
use super::savepoint::Savepoint;
use super::suspicion::Suspicion;
use super::transaction::{Hook, Transaction};
use crate::error::{BeginError, CommitError, SavepointError};
use crate::metrics::{TransactionKind, TransactionOutcome};
use crate::who::Place;

/// What became of a part.
pub(crate) enum Part {
    /// It goes into the file with the batch; these hooks run then.
    Kept(Vec<Hook>),
    /// It was undone because it wanted to be.
    Undone,
    /// As it wanted, but what one of its hooks owned panicked when it was dropped.
    UndoneWithPanic(Panic),
    /// It was undone because the commit would have been refused.
    Refused(CommitError),
    /// It could not be begun: there is no transaction any more.
    NotBegun(SavepointError),
    /// The whole transaction is gone, and all parts before it with it. One of its hooks may have
    /// panicked when it was dropped.
    Lost(Option<Panic>),
}

/// What a panic was raised with.
pub(crate) type Panic = Box<dyn Any + Send>;

/// A write transaction of several parts. Dropping it rolls back.
pub(crate) struct Batch<'g> {
    transaction: Transaction<'g>,
    /// Nothing was done in it yet.
    fresh: bool,
    /// It takes no more parts.
    full: bool,
    /// Its only part was undone, and it with that.
    undone: bool,
    lost: Option<CommitError>,
}

impl<'g> Batch<'g> {
    pub(crate) fn begin(writer: &'g mut WriteGuard<'_>) -> Result<Self, BeginError> {
        let transaction = writer.begin(TransactionKind::Group)?;
        Ok(Self { transaction, fresh: true, full: false, undone: false, lost: None })
    }

    pub(crate) fn is_full(&self) -> bool {
        self.full
    }

    /// Runs a part; `work` says whether it is to be kept.
    pub(crate) fn run(
        &mut self,
        place: Place,
        work: impl FnOnce(&mut Savepoint<'_>) -> bool,
    ) -> Part {
        self.transaction.lent_at(place);
        let fresh = mem::replace(&mut self.fresh, false);
        match run_part(&mut self.transaction, fresh, work) {
            Ok(part) => {
                // A savepoint of the first's own is not released with one around it, and could be
                // rolled back to by the next.
                let left_savepoint = fresh && self.transaction.savepoint_set.get();
                self.full = !checkin::between_parts(&self.transaction) || left_savepoint;
                if fresh && part.is_some() {
                    self.transaction.end(TransactionOutcome::Rollback);
                    self.full = true;
                    self.undone = true;
                }
                part.unwrap_or_else(|| Part::Kept(self.transaction.take_hooks()))
            }
            Err(part) => {
                self.lose();
                part
            }
        }
    }

    fn lose(&mut self) {
        self.full = true;
        let transaction = &self.transaction;
        let cause = match transaction.rolled_back_for.get() {
            0 if transaction.is_autocommit() => None,
            // It is open, and will be rolled back: its savepoint could not be ended.
            0 => Some(transaction.handle().last_error()),
            code => Some(code),
        };
        let error = match cause {
            _ if transaction.is_forked() => CommitError::Forked,
            // Who has the connection itself can have committed instead. And what SQLite rolls back by
            // itself it does because something has failed.
            Some(code) if transaction.suspicion() != Suspicion::Raw => {
                let source = Error::SqliteFailure(ffi::Error::new(code), None);
                CommitError::AbortedWithBatch { source }
            }
            _ => CommitError::NotOpen,
        };
        self.lost.get_or_insert(error);
    }

    /// What the part is told that was the last one, if it says that all is well.
    pub(crate) fn lost_by(&self) -> CommitError {
        match self.lost {
            Some(CommitError::Forked) => CommitError::Forked,
            _ => CommitError::NotOpen,
        }
    }

    /// Commits what was kept; `Err` = nothing was, or it is not known.
    pub(crate) fn commit(self) -> Result<(), CommitError> {
        match self.lost {
            Some(error) => Err(error),
            None if self.undone => Ok(()),
            None => self.transaction.commit_for_later_hooks().map(drop),
        }
    }
}

/// `Ok(None)` = it is kept; `Err` = the transaction is gone.
fn run_part(
    transaction: &mut Transaction<'_>,
    fresh: bool,
    work: impl FnOnce(&mut Savepoint<'_>) -> bool,
) -> Result<Option<Part>, Part> {
    let mut savepoint = match fresh {
        true => transaction.whole(),
        false => transaction.savepoint().map_err(Part::NotBegun)?,
    };
    let keep = work(&mut savepoint);
    savepoint.notice_rollback();
    // What the part has kept must not hit the end of its savepoint, nor the next part.
    savepoint.cut_interrupts();
    savepoint.handle().forget_interrupt();
    savepoint.reset_forgotten_statements();
    let is_gone = savepoint.has_lost_transaction() || savepoint.is_autocommit();
    let refusal = if keep { deferred_violation(&savepoint) } else { None };
    let keep = keep && refusal.is_none();
    let ended = catch_unwind(AssertUnwindSafe(|| match keep {
        true => savepoint.commit().is_ok(),
        false => savepoint.rollback().is_ok(),
    }));
    let (ended, panic) = match ended {
        Ok(ended) => (ended, None),
        // Hooks are dropped after the rollback, which has told whether it failed.
        Err(panic) => (!keep && !transaction.is_condemned(), Some(panic)),
    };
    if is_gone || !ended {
        return Err(Part::Lost(panic));
    }
    Ok(match (refusal, panic) {
        (_, Some(panic)) => Some(Part::UndoneWithPanic(panic)),
        (Some(source), None) => Some(Part::Refused(CommitError::Refused { source })),
        (None, None) => (!keep).then_some(Part::Undone),
    })
}

/// What COMMIT would say.
fn deferred_violation(savepoint: &Savepoint<'_>) -> Option<Error> {
    let source = ffi::Error::new(ffi::SQLITE_CONSTRAINT_FOREIGNKEY);
    let message = "FOREIGN KEY constraint failed".to_owned();
    let violated = !savepoint.is_autocommit() && savepoint.handle().has_deferred_violations();
    violated.then(|| Error::SqliteFailure(source, Some(message)))
}
