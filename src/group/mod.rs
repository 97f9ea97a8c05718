//! Many callers, one COMMIT.
//!
//! A durable commit waits for the disk, and the writer with it: one caller after the other, the disk
//! sets the pace. Here those who come while a commit is being written are gathered into the next one.
//! Nobody waits for company: a caller that comes alone begins at once and commits for itself, on its
//! own thread.
//!
//! Each closure runs in a savepoint of its own, or is the first of its transaction: an error or a panic
//! undoes that one alone. Answers come
//! after the COMMIT, those of closures that failed too: an error may rest on what another closure did,
//! and if that is not kept, the caller is told so instead. What a caller may rely on is said at
//! [`Pool::group_commit`].
//!
//! A closure runs on another caller's thread. So whatever it does to end, whatever its values do when
//! they are dropped, and its hooks, concern its own request only: every such step is caught and told
//! to its caller. Callers that have hooks are answered last, since a hook may take its time.
//!
//! Plain writers keep their turn: the caller that leads takes the writer in the same queue as they do,
//! for a batch that is bounded in number and time.

mod queue;
mod request;
mod seen;
mod yielding;

use std::mem;
use std::panic::{Location, resume_unwind};
use std::sync::Arc;
use std::time::Instant;

use self::queue::{Place, Refused};
use self::request::{Ended, Job, Request, Told};
pub(crate) use self::seen::Group;
use crate::checkout::{holds_any, sync};
use crate::error::{CheckoutErrorKind, CommitError, Error};
use crate::metrics::GroupOutcome;
use crate::pool::Pool;
use crate::sqlite::{Batch, Hook, Part, Savepoint};

/// The most often that a caller yields before it sleeps; more did not help 64 callers.
const MOST_YIELDS: usize = 32;

impl Pool {
    /// Runs `work` in a write transaction that other callers may share, and returns when it is
    /// committed.
    ///
    /// It is for small writes from many threads: while one COMMIT waits for the disk, those who come
    /// are gathered, and share the next. Each closure runs once, on the thread of one of the callers,
    /// within its own caller's [`tracing::Span`]. A caller that comes alone waits for nobody, and its
    /// closure runs on its own thread. Those who wait yield up to 32 times (`sched_yield`)
    /// before they sleep, unless other threads keep the cores busy: then they sleep at once.
    ///
    /// **Isolation.** One BEGIN IMMEDIATE, and in it the closures one after the other, in order of
    /// arrival, each in a savepoint of its own. A closure sees what those before it have done and not
    /// undone; nobody else sees anything before COMMIT. So it is as if each had a transaction of its own,
    /// in that order. Nothing else passes from one to the next: neither rowids and change counts, nor
    /// PRAGMAs, TEMP tables, attached databases, rows left unread or interrupts.
    ///
    /// **Durability.** Nobody is answered before COMMIT. `Ok` means what it means of
    /// [`Transaction::commit`](crate::Transaction::commit): with `synchronous = "full"`, on the disk.
    ///
    /// **If one fails.** When `work` returns an error or panics, only its own part is undone (the first
    /// one's transaction, and those who wait share another); the error is returned, or the panic goes on,
    /// in its caller. So it is when it violates a deferred foreign
    /// key ([`CommitError::Refused`]). But SQLite itself rolls the whole transaction back at ON CONFLICT
    /// ROLLBACK, RAISE(ROLLBACK), some errors of the disk, and when a statement that changes rows is
    /// interrupted or meets `statement_timeout`. Then those who ran before it in the same transaction
    /// get [`CommitError::AbortedWithBatch`], and the closures that were not begun run in the next one.
    /// When COMMIT fails, everybody gets its error.
    ///
    /// Hooks of [`Savepoint::on_commit`] run after the COMMIT, with the writer free, on the thread that
    /// has run the closure, those of one caller after those of another. If one panics, the panic goes on
    /// in its caller, and the commit stands.
    ///
    /// A transaction takes at most `group_commit_max_size` closures and begins no more of them after
    /// `group_commit_max_time`. At most `max_waiters` callers may wait. A closure that is not begun
    /// within `checkout_timeout` never is, and is dropped on its caller's thread; one that was begun is
    /// waited for. If a connection outside the pool holds the write lock, the caller that leads waits
    /// for it, for `busy_timeout` at most, as in a transaction of its own.
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
        let job: Arc<dyn Job> = Arc::clone(request) as _;
        let inside = self.enter_group(&job, started).inspect_err(|_| self.not_begun())?;
        if let Place::Queue { others } = inside.place {
            let yields = others.min(MOST_YIELDS);
            self.group().yielding().wait(yields, deadline, || request.is_told());
            match request.wait(deadline) {
                Told::Lead => {}
                Told::Answer(answer) => return Ok(answer),
                Told::TooLate(work) => {
                    self.group().give_up(&job);
                    self.not_begun();
                    drop(work);
                    return Err(self.refuse_in_group(CheckoutErrorKind::Timeout, started, 0));
                }
            }
        }
        let lead = Lead { pool: self, handed_on: inside.place == Place::Alone };
        if let Err(error) = self.lead(lead, job, inside.place, deadline) {
            self.not_begun();
            request.give_up();
            return Err(match error {
                // Its wait began before it was told to lead.
                Error::Checkout(late) if late.kind() == CheckoutErrorKind::Timeout => {
                    self.refuse_write(CheckoutErrorKind::Timeout, started)
                }
                other => other,
            });
        }
        match request.wait(None) {
            Told::Answer(answer) => Ok(answer),
            Told::Lead | Told::TooLate(_) => unreachable!("a leader's own work is in its batch"),
        }
    }

    fn enter_group(&self, job: &Arc<dyn Job>, started: Instant) -> Result<Inside<'_>, Error> {
        self.check_writer()?;
        // Others might wait for what this thread holds, and it for them. On its own its wait is one
        // for the writer, which the search for deadlocks knows.
        let place = match holds_any() {
            true => self.group().enter_alone(),
            false => self.group().join(Arc::clone(job)),
        };
        let place = place.map_err(|refused| {
            let (kind, waiting) = match refused {
                Refused::Full(waiting) => (CheckoutErrorKind::Overloaded, waiting),
                Refused::Closed => (CheckoutErrorKind::Closed, 0),
            };
            self.refuse_in_group(kind, started, waiting)
        })?;
        Ok(Inside { pool: self, place })
    }

    fn not_begun(&self) {
        self.group_metrics().ended(GroupOutcome::NotBegun);
    }

    /// One batch, from checkout to check-in, and everybody's answers. `Err` = it was not begun.
    fn lead(
        &self,
        mut lead: Lead<'_>,
        own: Arc<dyn Job>,
        place: Place,
        deadline: Option<Instant>,
    ) -> Result<(), Error> {
        let mut writer = self.write_until(deadline, own.caller().place)?;
        let mut batch = Batch::begin(&mut writer)?;
        let began = Instant::now();
        let waited = began.saturating_duration_since(own.caller().since);
        let (most, longest) =
            (self.config().group_commit_max_size, self.config().group_commit_max_time);
        let mut members = Members { all: Vec::new(), fate: None };
        let mut next = Some(own);
        while let Some(job) = next {
            if job.choose() {
                members.run(&mut batch, job);
            }
            let full = place == Place::Alone
                || batch.is_full()
                || members.all.len() >= most
                || began.elapsed() >= longest;
            next = if full { None } else { self.group().next_soon(members.all.len(), began) };
        }
        lead.hand_on();
        members.leave_to_parent(self);
        self.group_metrics().waited(waited);
        self.group_metrics().size(members.all.len());
        let fate = batch.commit();
        drop(writer);
        members.answer(fate, |outcome| self.group_metrics().ended(outcome));
        Ok(())
    }
}

/// A caller between its arrival and its return.
struct Inside<'p> {
    pool: &'p Pool,
    place: Place,
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        // In a child the queue is the parent's, and may have been locked when it was forked.
        if !self.pool.is_forked() {
            self.pool.group().left(self.place);
        }
    }
}

/// The lead, handed on when this is dropped at the latest.
struct Lead<'p> {
    pool: &'p Pool,
    handed_on: bool,
}

impl Lead<'_> {
    fn hand_on(&mut self) {
        if !mem::replace(&mut self.handed_on, true) && !self.pool.is_forked() {
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
    /// It has its answer: that there was no transaction, that COMMIT would refuse, or what it
    /// returned when the transaction was lost under it.
    Failed,
}

struct Member {
    job: Arc<dyn Job>,
    standing: Standing,
}

/// The callers whose work was begun. They are answered whatever happens.
struct Members {
    all: Vec<Member>,
    /// What COMMIT said, once it has.
    fate: Option<Result<(), CommitError>>,
}

impl Members {
    fn run(&mut self, batch: &mut Batch<'_>, job: Arc<dyn Job>) {
        self.all.push(Member { job: Arc::clone(&job), standing: Standing::Failed });
        let mut ended = Ended::WithPanic;
        let part = batch.run(job.caller().place, |savepoint| {
            ended = job.run(savepoint);
            ended == Ended::Well
        });
        let standing = match part {
            Part::Kept(hooks) => Standing::Kept(hooks),
            Part::Undone if ended == Ended::WithPanic => Standing::Panicked,
            Part::Undone => Standing::Undone,
            Part::UndoneWithPanic(panic) => {
                job.panicked(panic);
                Standing::Panicked
            }
            Part::Refused(error) => {
                job.fail(Error::Commit(error));
                Standing::Failed
            }
            Part::NotBegun(error) => {
                job.fail(Error::Savepoint(error));
                Standing::Failed
            }
            Part::Lost(panic) => {
                if ended == Ended::Well {
                    job.fail(Error::Commit(batch.lost_by()));
                }
                let panicked = panic.is_some() || ended == Ended::WithPanic;
                panic.into_iter().for_each(|panic| job.panicked(panic));
                if panicked { Standing::Panicked } else { Standing::Failed }
            }
        };
        if let Some(member) = self.all.last_mut() {
            member.standing = standing;
        }
    }

    /// In a child that a closure has forked, the other callers and their work are its parent's.
    fn leave_to_parent(&mut self, pool: &Pool) {
        if pool.is_forked() {
            self.all.drain(1..).for_each(mem::forget);
        }
    }

    /// After COMMIT, or what came instead of it, and after check-in.
    fn answer(mut self, fate: Result<(), CommitError>, mut count: impl FnMut(GroupOutcome)) {
        let fate = self.fate.insert(fate);
        // Those who have hooks are answered after them, and they may take their time.
        self.all.sort_by_key(|member| match &member.standing {
            Standing::Kept(hooks) => !hooks.is_empty(),
            _ => false,
        });
        self.all.reverse();
        while let Some(Member { job, standing }) = self.all.pop() {
            let answer = AnswerAtLast(&*job);
            let outcome = match (&*fate, standing) {
                (Ok(()), Standing::Kept(hooks)) => {
                    job.committed(hooks);
                    GroupOutcome::Commit
                }
                (_, Standing::Panicked) => GroupOutcome::Panic,
                (Ok(()), Standing::Undone) => GroupOutcome::Rollback,
                (_, Standing::Failed) => GroupOutcome::Error,
                (Err(error), standing) => {
                    job.fail(Error::Commit(error.again()));
                    if let Standing::Kept(hooks) = standing {
                        job.not_committed(hooks);
                    }
                    match error.is_undone() {
                        true => GroupOutcome::Aborted,
                        false => GroupOutcome::Error,
                    }
                }
            };
            count(outcome);
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
        for Member { job, standing } in self.all.drain(..) {
            match &self.fate {
                None => job.fail(Error::Commit(CommitError::NotOpen)),
                Some(Ok(())) => {}
                Some(Err(error)) => job.fail(Error::Commit(error.again())),
            }
            if let Standing::Kept(hooks) = standing {
                job.not_committed(hooks);
            }
            job.answer();
        }
    }
}
