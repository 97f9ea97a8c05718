//! A write transaction: begun IMMEDIATE, ended once.
//!
//! It borrows its guard mutably, so the guard cannot be used behind it; `commit` and `rollback` take
//! it by value, so it cannot be used after its end; dropping it rolls back. IMMEDIATE, because a
//! transaction that reads first and writes later is refused by SQLite, at once and whatever the
//! time-out, when another writer got there in between.
//!
//! `commit` does not give the transaction back on failure: an error that borrows the guard cannot
//! pass through `?` into `Box<dyn Error>`. It tries BUSY again by itself instead, and
//! [`Transaction::try_commit`] is there for those who want the transaction back.

use std::cell::RefCell;
use std::error::Error;
use std::fmt;
use std::marker::PhantomData;
use std::mem;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::{ErrorCode, ffi};

use super::savepoint::Savepoint;
use super::session::Session;
use super::suspicion::Suspicion;
use crate::checkout::Pinned;
use crate::error::{BeginError, CommitError, RollbackError, SavepointError, is_busy};
use crate::ffi::OwnStatement;
use crate::metrics::{Operation, TransactionKind, TransactionOutcome};

/// Between two tries of a COMMIT for which SQLite did not call the busy handler.
const COMMIT_RETRY: Duration = Duration::from_millis(1);

/// A field of this type keeps a lifetime from being shortened, or lengthened, to fit another.
///
/// A closure is lent `&mut Transaction<'_>`. Without this it could put a transaction of another pool,
/// begun on a leaked guard and so living longer, in the place of the one it was lent: the pool would
/// commit the wrong one and report work as done that was undone.
pub(super) type Exactly<'g> = PhantomData<fn(&'g ()) -> &'g ()>;

/// Runs after COMMIT.
pub(crate) type Hook = Box<dyn FnOnce()>;

/// The hooks of a transaction and of the savepoints released into it.
pub(super) type Hooks = RefCell<Vec<Hook>>;

/// A write transaction. Dropping it rolls back.
///
/// Made by [`WriteGuard::transaction`](crate::WriteGuard::transaction), or by
/// [`Pool::transaction`](crate::Pool::transaction), which also ends it. It dereferences to
/// [`Session`].
///
/// ```
/// let pool = tenure::testing::temporary()?;
/// let mut writer = pool.write()?;
/// let tx = writer.transaction()?;
/// tx.execute_batch("CREATE TABLE task (title TEXT)")?;
/// tx.execute("INSERT INTO task VALUES (?1)", ["write"])?;
/// tx.commit()?;
/// # Ok::<(), tenure::Error>(())
/// ```
#[must_use = "dropping a transaction rolls it back"]
pub struct Transaction<'g> {
    session: &'g Session,
    kind: TransactionKind,
    begun: Instant,
    hooks: Hooks,
    /// Set once its end is decided.
    ended: bool,
    _pinned: Pinned,
    _exactly: Exactly<'g>,
}

impl<'g> Transaction<'g> {
    pub(super) fn begin(session: &'g Session, kind: TransactionKind) -> Result<Self, BeginError> {
        let statement = match kind {
            TransactionKind::Exclusive => OwnStatement::BeginExclusive,
            _ => OwnStatement::BeginImmediate,
        };
        begin(session, kind, statement)?;
        Ok(Self {
            session,
            kind,
            begun: Instant::now(),
            hooks: Hooks::default(),
            ended: false,
            _pinned: PhantomData,
            _exactly: PhantomData,
        })
    }

    /// Sets a savepoint. The transaction cannot be used before the savepoint has ended.
    ///
    /// # Errors
    ///
    /// When SQL text, or SQLite itself, has ended the transaction.
    ///
    /// ```
    /// let pool = tenure::testing::temporary()?;
    /// pool.write()?.execute_batch("CREATE TABLE task (title TEXT)")?;
    /// pool.transaction(|tx| {
    ///     tx.execute("INSERT INTO task VALUES ('kept')", [])?;
    ///     let savepoint = tx.savepoint()?;
    ///     savepoint.execute("INSERT INTO task VALUES ('not kept')", [])?;
    ///     savepoint.rollback()?;
    ///     Ok(())
    /// })?;
    /// let count: i64 = pool.read()?.query_one("SELECT count(*) FROM task", [], |row| row.get(0))?;
    /// assert_eq!(count, 1);
    /// # Ok::<(), tenure::Error>(())
    /// ```
    pub fn savepoint(&mut self) -> Result<Savepoint<'_>, SavepointError> {
        Savepoint::set(self.session, &self.hooks, 1)
    }

    /// Has `hook` run after this transaction was committed; it never runs after a rollback.
    ///
    /// Hooks run in order, on this thread: in [`commit`](Self::commit) while the guard is still
    /// held, so a hook must not ask for the writer there; with
    /// [`Pool::transaction`](crate::Pool::transaction) after the writer was given back. If one
    /// panics, the others still run, then the panic goes on. The commit stands.
    ///
    /// ```
    /// use std::sync::mpsc;
    /// let (sender, receiver) = mpsc::channel();
    /// let pool = tenure::testing::temporary()?;
    /// pool.transaction(|tx| {
    ///     let sender = sender.clone();
    ///     tx.on_commit(move || sender.send("committed").unwrap());
    ///     assert!(receiver.try_recv().is_err());
    ///     Ok(())
    /// })?;
    /// assert_eq!(receiver.try_recv(), Ok("committed"));
    /// # Ok::<(), tenure::Error>(())
    /// ```
    pub fn on_commit(&self, hook: impl FnOnce() + 'static) {
        self.hooks.borrow_mut().push(Box::new(hook));
    }

    /// Commits. `Ok` means durable, as far as `synchronous` says.
    ///
    /// # Errors
    ///
    /// [`CommitError`]; [`CommitError::is_undone`] says whether the work is certainly undone. BUSY is
    /// tried again until `busy_timeout` has passed.
    ///
    /// # Panics
    ///
    /// When a hook does, after the commit.
    ///
    /// ```
    /// let pool = tenure::testing::temporary()?;
    /// let mut writer = pool.write()?;
    /// let tx = writer.transaction()?;
    /// tx.execute_batch("CREATE TABLE task (title TEXT)")?;
    /// tx.commit()?;
    /// assert!(writer.table_exists(None, "task")?);
    /// # Ok::<(), tenure::Error>(())
    /// ```
    pub fn commit(self) -> Result<(), CommitError> {
        run_hooks(self.commit_for_later_hooks()?);
        Ok(())
    }

    /// Commits, and gives the transaction back if that fails, to mend it or to try again.
    ///
    /// # Errors
    ///
    /// As [`commit`](Self::commit), with the transaction.
    ///
    /// # Panics
    ///
    /// As [`commit`](Self::commit).
    ///
    /// ```
    /// let pool = tenure::testing::temporary()?;
    /// let mut writer = pool.write()?;
    /// writer.execute_batch(
    ///     "CREATE TABLE team (id INTEGER PRIMARY KEY);
    ///      CREATE TABLE member (team REFERENCES team DEFERRABLE INITIALLY DEFERRED);",
    /// )?;
    /// let tx = writer.transaction()?;
    /// tx.execute("INSERT INTO member VALUES (1)", [])?;
    /// let tx = match tx.try_commit() {
    ///     Ok(()) => unreachable!("there is no team 1"),
    ///     Err(refused) => refused.into_transaction(),
    /// };
    /// tx.execute("INSERT INTO team VALUES (1)", [])?;
    /// tx.commit()?;
    /// # Ok::<(), tenure::Error>(())
    /// ```
    pub fn try_commit(mut self) -> Result<(), TryCommitError<'g>> {
        match self.commit_in_place() {
            Ok(hooks) => {
                drop(self);
                run_hooks(hooks);
                Ok(())
            }
            Err(error) => Err(TryCommitError { transaction: self, error: Box::new(error) }),
        }
    }

    /// Undoes everything.
    ///
    /// # Errors
    ///
    /// [`RollbackError`] when SQLite fails to; the connection is then closed at check-in, which
    /// undoes the work as well.
    ///
    /// ```
    /// let pool = tenure::testing::temporary()?;
    /// let mut writer = pool.write()?;
    /// let tx = writer.transaction()?;
    /// tx.execute_batch("CREATE TABLE task (title TEXT)")?;
    /// tx.rollback()?;
    /// assert!(!writer.table_exists(None, "task")?);
    /// # Ok::<(), tenure::Error>(())
    /// ```
    pub fn rollback(mut self) -> Result<(), RollbackError> {
        self.end(TransactionOutcome::Rollback);
        self.session.roll_back().map_err(|source| RollbackError { source })
    }

    /// Commits and returns the hooks, for the caller to run once it holds nothing any more.
    pub(crate) fn commit_for_later_hooks(mut self) -> Result<Vec<Hook>, CommitError> {
        self.commit_in_place().inspect_err(|error| {
            self.end(match error {
                CommitError::Busy { .. } => TransactionOutcome::Busy,
                _ => TransactionOutcome::Error,
            });
            // A failure condemns the connection by itself.
            let _ = self.session.roll_back();
        })
    }

    /// As a savepoint set before anything was done, but free of cost; undoing it ends the transaction.
    pub(super) fn whole(&mut self) -> Savepoint<'_> {
        Savepoint::whole(self.session, &self.hooks)
    }

    /// The hooks so far, which do not run at the commit then.
    pub(super) fn take_hooks(&self) -> Vec<Hook> {
        mem::take(&mut *self.hooks.borrow_mut())
    }

    fn commit_in_place(&mut self) -> Result<Vec<Hook>, CommitError> {
        if self.session.is_forked() {
            self.session.metrics().forked();
            return Err(CommitError::Forked);
        }
        let limit = self.session.busy().limit();
        let began = Instant::now();
        // COMMIT would wait for them in vain.
        self.session.reset_forgotten_statements();
        // It was meant for what ran then.
        self.session.handle().forget_interrupt();
        let may_be_kept = self.may_be_kept_though_it_failed();
        let has_other_hooks = self.may_have_other_hooks();
        loop {
            if self.session.has_lost_transaction() || self.session.is_autocommit() {
                self.is_over();
                return Err(CommitError::NotOpen);
            }
            if self.session.met_damage() {
                return Err(CommitError::Damaged);
            }
            let Err(source) = self.session.run_own(Operation::Commit, OwnStatement::Commit) else {
                self.session.set_in_transaction(false);
                self.end(TransactionOutcome::Commit);
                return Ok(mem::take(&mut *self.hooks.borrow_mut()));
            };
            let waited = began.elapsed();
            let code = source.sqlite_error().map_or(0, |error| error.extended_code);
            match source.sqlite_error_code() {
                // A commit hook that says no does so before anything is written.
                Some(ErrorCode::ConstraintViolation)
                    if code == ffi::SQLITE_CONSTRAINT_COMMITHOOK && !has_other_hooks =>
                {
                    return Err(CommitError::Refused { source });
                }
                Some(
                    ErrorCode::DatabaseBusy | ErrorCode::DiskFull | ErrorCode::ConstraintViolation,
                ) if may_be_kept && self.session.is_autocommit() => {
                    self.is_over();
                    return Err(CommitError::Unknown { source });
                }
                Some(ErrorCode::DatabaseBusy) if self.session.busy().was_interrupted() => {
                    return Err(CommitError::Interrupted { waited, source });
                }
                Some(ErrorCode::DatabaseBusy) if waited < limit => thread::sleep(COMMIT_RETRY),
                Some(ErrorCode::DatabaseBusy) => {
                    return Err(CommitError::Busy { waited, limit, source });
                }
                Some(ErrorCode::SystemIoFailure) => {
                    // What the connection believes about the file cannot be trusted any more.
                    self.session.condemn();
                    self.is_over();
                    return Err(CommitError::Unknown { source });
                }
                Some(ErrorCode::DiskFull) => return Err(CommitError::Full { source }),
                Some(ErrorCode::ConstraintViolation) => {
                    return Err(CommitError::Refused { source });
                }
                // SQLite says no although the transaction is over: what ran after the commit (a WAL
                // hook) may have failed, or the commit itself.
                _ if self.session.is_autocommit() => {
                    self.is_over();
                    return Err(CommitError::Unknown { source });
                }
                _ => return Err(CommitError::Refused { source }),
            }
        }
    }

    /// Whether what COMMIT says may be said of something else: of a hook, or of the second of several
    /// files, which are committed one after the other.
    fn may_be_kept_though_it_failed(&self) -> bool {
        self.may_have_other_hooks() || self.session.handle().writes_to_attached()
    }

    /// Whether a WAL hook that is not the pool's may run after COMMIT.
    fn may_have_other_hooks(&self) -> bool {
        self.session.recipe().has_wal_hook() || self.session.suspicion() == Suspicion::Raw
    }

    /// It has ended, and until it is dropped nothing more is run in it.
    fn is_over(&mut self) {
        self.end(TransactionOutcome::Error);
        let _ = self.session.roll_back();
        self.session.set_in_transaction(true);
    }

    pub(super) fn end(&mut self, outcome: TransactionOutcome) {
        if !mem::replace(&mut self.ended, true) {
            self.session.metrics().transaction(self.kind, outcome, Some(self.begun));
        }
    }
}

/// Runs the statement that begins a transaction, and says what its failure means. Returns when it began
/// to.
pub(super) fn begin(
    session: &Session,
    kind: TransactionKind,
    statement: OwnStatement,
) -> Result<Instant, BeginError> {
    if session.is_forked() {
        session.metrics().forked();
        return Err(BeginError::Forked);
    }
    session.begin_statement().map_err(|source| BeginError::Sqlite { source })?;
    if !session.is_autocommit() {
        session.metrics().transaction(kind, TransactionOutcome::Error, None);
        return Err(BeginError::AlreadyOpen);
    }
    let began = Instant::now();
    let calls = session.busy().calls();
    let mut begun = session.run_own(Operation::Begin, statement);
    // SQLite asks the handler whenever the lock for writing is taken. BUSY without that shows that
    // the pool's handler is not there any more.
    let unasked = begun.as_ref().is_err_and(is_busy) && session.busy().calls() == calls;
    if unasked && kind != TransactionKind::Snapshot {
        session.put_busy_handler_back();
        begun = session.run_own(Operation::Begin, statement);
    }
    begun.map_err(|source| not_begun(session, kind, began, source))?;
    session.rolled_back_for.set(0);
    session.set_in_transaction(true);
    Ok(began)
}

/// Counts what could not be begun, and says why.
pub(super) fn not_begun(
    session: &Session,
    kind: TransactionKind,
    began: Instant,
    source: rusqlite::Error,
) -> BeginError {
    let busy = is_busy(&source);
    let outcome = if busy { TransactionOutcome::Busy } else { TransactionOutcome::Error };
    session.metrics().transaction(kind, outcome, None);
    let (waited, limit) = (began.elapsed(), session.busy().limit());
    // Before SQLite has met the lock, or while it waited. A statement whose time is over is stopped in
    // the same way.
    let interrupted = match source.sqlite_error_code() {
        Some(ErrorCode::OperationInterrupted) => !session.busy().was_stopped(),
        _ => busy && session.busy().was_interrupted(),
    };
    match (interrupted, busy) {
        (true, _) => BeginError::Interrupted { waited, source },
        (false, true) => BeginError::Busy { waited, limit, source },
        (false, false) => BeginError::Sqlite { source },
    }
}

/// All of them, even if one panics; then that panic goes on.
pub(crate) fn run_hooks(hooks: Vec<Hook>) {
    let mut first_panic = None;
    for hook in hooks {
        match catch_unwind(AssertUnwindSafe(hook)) {
            Ok(()) => {}
            Err(panic) if first_panic.is_none() => first_panic = Some(panic),
            // To drop what it carries may panic again.
            Err(later) => mem::forget(later),
        }
    }
    if let Some(panic) = first_panic {
        resume_unwind(panic);
    }
}

impl Deref for Transaction<'_> {
    type Target = Session;

    fn deref(&self) -> &Session {
        self.session
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        if self.session.is_forked() {
            return;
        }
        if self.ended {
            self.session.set_in_transaction(false);
            return;
        }
        // Of a batch each closure that panics is undone by itself.
        let outcome = if thread::panicking() && self.kind != TransactionKind::Group {
            TransactionOutcome::Panic
        } else {
            TransactionOutcome::Rollback
        };
        self.end(outcome);
        if let Err(error) = self.session.roll_back() {
            let pool = self.session.log().pool();
            tracing::error!(pool, %error, "cannot roll back; the connection will be closed instead");
        }
    }
}

impl fmt::Debug for Transaction<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transaction")
            .field("kind", &self.kind)
            .field("age", &self.begun.elapsed())
            .finish_non_exhaustive()
    }
}

/// A commit that failed, and its transaction. Returned by [`Transaction::try_commit`].
///
/// ```
/// let pool = tenure::testing::temporary()?;
/// let mut writer = pool.write()?;
/// let tx = writer.transaction()?;
/// tx.rusqlite().execute_batch("ROLLBACK")?;
/// let refused: tenure::TryCommitError<'_> = tx.try_commit().unwrap_err();
/// assert!(matches!(refused.error(), tenure::CommitError::NotOpen));
/// # Ok::<(), tenure::Error>(())
/// ```
#[derive(Debug)]
pub struct TryCommitError<'g> {
    transaction: Transaction<'g>,
    error: Box<CommitError>,
}

impl<'g> TryCommitError<'g> {
    /// Why the commit failed.
    ///
    /// ```
    /// fn is_busy(refused: &tenure::TryCommitError<'_>) -> bool {
    ///     matches!(refused.error(), tenure::CommitError::Busy { .. })
    /// }
    /// ```
    pub fn error(&self) -> &CommitError {
        &self.error
    }

    /// The transaction, still open unless SQLite has ended it.
    ///
    /// ```
    /// fn again<'g>(refused: tenure::TryCommitError<'g>) -> tenure::Transaction<'g> {
    ///     refused.into_transaction()
    /// }
    /// ```
    pub fn into_transaction(self) -> Transaction<'g> {
        self.transaction
    }

    /// The error alone; the transaction is rolled back.
    ///
    /// ```
    /// fn give_up(refused: tenure::TryCommitError<'_>) -> tenure::CommitError {
    ///     refused.into_error()
    /// }
    /// ```
    pub fn into_error(self) -> CommitError {
        *self.error
    }
}

impl fmt::Display for TryCommitError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "commit failed, the transaction is given back: {}", self.error)
    }
}

impl Error for TryCommitError<'_> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.error.source()
    }
}
