//! Many callers, one COMMIT.
//!
//! A durable commit waits for the disk, and the writer with it: one caller after the other, the disk
//! sets the pace. Here those who come while a commit is being written are gathered into the next one.
//! Nobody waits for company: a caller that comes alone begins at once and commits for itself, on its
//! own thread.
//!
//! **What each caller may rely on.** Its closure runs once, in a savepoint of its own, alone on the
//! writing connection, after the closures before it and seeing what they have done. So closures are
//! serializable in the order in which they run. `Ok` comes after COMMIT and means what it means of
//! [`Transaction::commit`](crate::Transaction::commit). An error or a panic of a closure undoes that
//! closure alone. Answers come after the COMMIT too, errors of closures as well: an error may rest on
//! what another closure did, and if that is not kept, it says so instead ([`CommitError`]).
//!
//! Plain writers keep their turn: the caller that leads takes the writer in the same queue as they do,
//! for a batch that is bounded in number and time.

mod queue;
mod request;

use std::mem;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::Instant;

pub(crate) use self::queue::GroupQueue;
use self::queue::{Inside, Refused};
use self::request::{Ended, Job, Request, Told, not_committed};
use crate::error::{CheckoutErrorKind, CommitError, Error};
use crate::metrics::GroupOutcome;
use crate::pool::Pool;
use crate::sqlite::{Batch, Hook, Part, Savepoint, run_hooks};
use crate::who::Place;

impl Pool {
    /// Runs `work` in a write transaction that other callers may share, and returns when it is
    /// committed.
    ///
    /// It is for small writes from many threads: while one COMMIT waits for the disk, those who come
    /// are gathered, and share the next. Each closure runs in a savepoint of its own, one after the
    /// other, on the thread of one of the callers, within the caller's [`tracing::Span`]; it sees what
    /// the closures before it have done. A caller that comes alone waits for nobody.
    ///
    /// If `work` returns an error or panics, only its own part is undone; the error is returned, or
    /// the panic goes on, in its caller. Hooks of [`Savepoint::on_commit`] run after the COMMIT, on
    /// the thread that has run the closure.
    ///
    /// A batch takes at most `group_commit_max_size` closures and begins no more of them after
    /// `group_commit_max_time`. At most `max_waiters` callers may wait. A closure that is not begun
    /// within `checkout_timeout` never is; one that was begun is waited for.
    ///
    /// Do not hold a lock that other closures take while you call this: your closure may be behind
    /// them. A thread that holds a connection shares its transaction with nobody.
    ///
    /// # Errors
    ///
    /// What `work` returns; else [`Error::Checkout`]: not begun (time-out, overload, closed;
    /// `WouldDeadlock` inside of a closure or while the thread holds the writer), [`Error::Begin`], or
    /// [`Error::Commit`]. [`CommitError::AbortedWithBatch`] when another closure made SQLite roll back
    /// the whole transaction: certainly undone, and worth another try.
    ///
    /// # Panics
    ///
    /// When `work` or a hook does.
    ///
    /// ```
    /// let pool = tenure::testing::temporary()?;
    /// pool.write()?.execute_batch("CREATE TABLE task (id INTEGER PRIMARY KEY, title TEXT)")?;
    /// let callers: Vec<_> = (0..8)
    ///     .map(|n| {
    ///         let pool = pool.clone();
    ///         std::thread::spawn(move || {
    ///             pool.group_commit(move |tx| {
    ///                 tx.execute("INSERT INTO task (title) VALUES (?1)", [format!("task {n}")])?;
    ///                 Ok(tx.last_insert_rowid())
    ///             })
    ///         })
    ///     })
    ///     .collect();
    /// for caller in callers {
    ///     assert!((1..=8).contains(&caller.join().unwrap()?));
    /// }
    /// # Ok::<(), tenure::Error>(())
    /// ```
    #[track_caller]
    pub fn group_commit<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Savepoint<'_>) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.group_commit_with_error(work)
    }

    /// As [`group_commit`](Self::group_commit), with an error type of the caller's.
    ///
    /// # Errors
    ///
    /// What `work` returns; else as [`group_commit`](Self::group_commit), converted.
    ///
    /// # Panics
    ///
    /// When `work` or a hook does.
    ///
    /// ```
    /// let pool = tenure::testing::temporary()?;
    /// let one: i64 = pool.group_commit_with_error(|tx| {
    ///     Ok::<_, anyhow::Error>(tx.query_one("SELECT 1", [], |row| row.get(0))?)
    /// })?;
    /// assert_eq!(one, 1);
    /// # Ok::<(), anyhow::Error>(())
    /// ```
    #[track_caller]
    pub fn group_commit_with_error<T, E>(
        &self,
        work: impl FnOnce(&mut Savepoint<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        let started = Instant::now();
        let request = Arc::new(Request::new(work, Location::caller(), started));
        match self.in_group(&request, started) {
            Ok(Ok(result)) => result,
            Ok(Err(panic)) => resume_unwind(panic),
            Err(error) => Err(E::from(error)),
        }
    }

    /// `Err` = the work was not begun.
    fn in_group<F, T, E>(
        &self,
        request: &Arc<Request<F, T, E>>,
        started: Instant,
    ) -> Result<std::thread::Result<Result<T, E>>, Error>
    where
        F: FnOnce(&mut Savepoint<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        let deadline = started.checked_add(self.config().checkout_timeout);
        let _inside = self.enter_group(started)?;
        // Others might wait for what this thread holds, and it for them. On its own its wait is one
        // for the writer, which the search for deadlocks knows.
        let alone = crate::checkout::holds_any();
        let mut leads = match alone {
            true => true,
            false => {
                let joined = self.group().join(Arc::clone(request) as _);
                joined.map_err(|refused| self.not_let_in(&refused, started))?
            }
        };
        let mut first: Option<Arc<dyn Job>> = alone.then(|| Arc::clone(request) as _);
        loop {
            if mem::take(&mut leads) {
                let mut lead = Lead { pool: self, handed_on: alone };
                // Given up before the lead is handed on: else it may be handed to this request, with
                // nobody behind it.
                if let Err(error) = self.lead(&mut lead, request.place(), first.take(), deadline)
                    && request.give_up()
                {
                    self.group_metrics().ended(GroupOutcome::NotBegun);
                    return Err(error);
                }
            }
            match request.wait(deadline) {
                Told::Lead => {
                    leads = true;
                    first = Some(Arc::clone(request) as _);
                }
                Told::Answer(answer) => return Ok(answer),
                Told::TooLate => {
                    self.group_metrics().ended(GroupOutcome::NotBegun);
                    return Err(self.refuse_write(CheckoutErrorKind::Timeout, started));
                }
            }
        }
    }

    fn enter_group(&self, started: Instant) -> Result<Inside<'_>, Error> {
        self.check_writer()?;
        self.group().enter().map_err(|refused| self.not_let_in(&refused, started))
    }

    #[cold]
    fn not_let_in(&self, refused: &Refused, started: Instant) -> Error {
        self.group_metrics().ended(GroupOutcome::NotBegun);
        let kind = match refused {
            Refused::Full => CheckoutErrorKind::Overloaded,
            Refused::Closed => CheckoutErrorKind::Closed,
        };
        self.refuse_write(kind, started)
    }

    /// One batch, from checkout to check-in, and everybody's answers.
    fn lead(
        &self,
        lead: &mut Lead<'_>,
        place: Place,
        first: Option<Arc<dyn Job>>,
        deadline: Option<Instant>,
    ) -> Result<(), Error> {
        let alone = lead.handed_on;
        let mut writer = self.write_until(deadline, place)?;
        let mut batch = Batch::begin(&mut writer)?;
        let began = Instant::now();
        let (most, longest) =
            (self.config().group_commit_max_size, self.config().group_commit_max_time);
        let mut members = Members { all: Vec::new() };
        let mut next = first.or_else(|| self.group().next());
        while let Some(job) = next {
            if job.choose() {
                if members.all.is_empty() {
                    self.group_metrics().waited(began.saturating_duration_since(job.since()));
                }
                members.run(&mut batch, job);
            }
            let full = alone
                || batch.is_full()
                || members.all.len() >= most
                || (began.elapsed() >= longest && !members.all.is_empty());
            next = if full { None } else { self.group().next_soon(members.all.len(), began) };
        }
        lead.hand_on();
        if members.all.is_empty() {
            return Ok(());
        }
        self.group_metrics().size(members.all.len());
        let fate = batch.commit();
        drop(writer);
        members.answer(fate, |outcome| self.group_metrics().ended(outcome));
        Ok(())
    }
}

/// The lead, handed on when this is dropped at the latest.
struct Lead<'p> {
    pool: &'p Pool,
    handed_on: bool,
}

impl Lead<'_> {
    fn hand_on(&mut self) {
        if !mem::replace(&mut self.handed_on, true) {
            self.pool.group().hand_on();
        }
    }
}

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        self.hand_on();
    }
}

/// How a closure's part stands before COMMIT.
enum Standing {
    Kept(Vec<Hook>),
    Undone,
    Panicked,
    /// It has its answer: that there was no transaction, or that COMMIT would refuse.
    Failed,
    /// It was running when the transaction was lost.
    Ended,
}

struct Member {
    job: Arc<dyn Job>,
    standing: Standing,
}

/// The callers whose work was begun. They are answered whatever happens.
struct Members {
    all: Vec<Member>,
}

impl Members {
    fn run(&mut self, batch: &mut Batch<'_>, job: Arc<dyn Job>) {
        self.all.push(Member { job: Arc::clone(&job), standing: Standing::Ended });
        let mut ended = Ended::WithPanic;
        let part = batch.run(job.place(), |savepoint| {
            ended = job.run(savepoint);
            ended == Ended::Well
        });
        let standing = match part {
            Part::Kept(hooks) => Standing::Kept(hooks),
            Part::Undone if ended == Ended::WithPanic => Standing::Panicked,
            Part::Undone => Standing::Undone,
            Part::Refused(error) => {
                job.fail(Error::Commit(error));
                Standing::Failed
            }
            Part::NotBegun(error) => {
                job.fail(Error::Savepoint(error));
                Standing::Failed
            }
            Part::Lost => {
                if ended == Ended::Well {
                    job.fail(Error::Commit(CommitError::NotOpen));
                }
                Standing::Ended
            }
        };
        if let Some(member) = self.all.last_mut() {
            member.standing = standing;
        }
    }

    /// After COMMIT, or what came instead of it, and after check-in.
    fn answer(mut self, fate: Result<(), CommitError>, mut count: impl FnMut(GroupOutcome)) {
        self.all.reverse();
        while let Some(Member { job, standing }) = self.all.pop() {
            let answer = AnswerAtLast(&*job);
            count(match (&fate, standing) {
                (Ok(()), Standing::Kept(hooks)) => {
                    if !hooks.is_empty()
                        && let Err(panic) = catch_unwind(AssertUnwindSafe(|| run_hooks(hooks)))
                    {
                        job.panicked(panic);
                    }
                    GroupOutcome::Commit
                }
                (_, Standing::Panicked) => GroupOutcome::Panic,
                (Ok(()), Standing::Undone) => GroupOutcome::Rollback,
                (_, Standing::Failed | Standing::Ended) => GroupOutcome::Error,
                (Err(error), Standing::Kept(_) | Standing::Undone) => {
                    job.fail(not_committed(error));
                    match error.is_undone() {
                        true => GroupOutcome::Aborted,
                        false => GroupOutcome::Error,
                    }
                }
            });
            drop(answer);
        }
    }
}

struct AnswerAtLast<'j>(&'j dyn Job);

impl Drop for AnswerAtLast<'_> {
    fn drop(&mut self) {
        self.0.answer();
    }
}

impl Drop for Members {
    /// Only after a panic of this crate's own, or of the metrics recorder's.
    fn drop(&mut self) {
        for Member { job, standing } in &self.all {
            if !matches!(standing, Standing::Panicked) {
                job.fail(Error::Commit(CommitError::NotOpen));
            }
            job.answer();
        }
    }
}
