//! Whole units of work: a connection checked out, a transaction begun, ended and given back.
//!
//! The plain forms have a fixed error type, [`Error`]. A form generic in its error could not be called
//! with `?` in its closure without saying the type each time, so it has a name of its own.

use std::thread;
use std::time::Duration;

use crate::error::{BeginError, CommitError, Error, is_busy};
use crate::pool::Pool;
use crate::sqlite::{Snapshot, Transaction, run_hooks};

/// How often [`Pool::transaction_with_retry`] runs its work at most.
const TRIES: u32 = 5;

/// The pause after the first try, on average; each is twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(5);

/// Whether everything was certainly undone, and only because somebody else held a lock.
fn may_repeat(error: &Error) -> bool {
    match error {
        Error::Begin(error) => matches!(error, BeginError::Busy { .. }),
        Error::Commit(error) => matches!(error, CommitError::Busy { .. }),
        Error::Sqlite(error) => is_busy(error),
        _ => false,
    }
}

/// Whole units of work.
impl Pool {
    /// Checks out the writer, begins a transaction, runs `work`, commits, and gives the writer back.
    ///
    /// If `work` returns an error the transaction is rolled back, and the error returned as it is,
    /// whatever becomes of the rollback. If it panics the transaction is rolled back and the
    /// connection given back before the panic goes on. Hooks of
    /// [`Transaction::on_commit`] run last, when nothing is held any more.
    ///
    /// # Errors
    ///
    /// What `work` returns; else [`Error::Checkout`], [`Error::Begin`] or [`Error::Commit`].
    ///
    /// # Panics
    ///
    /// When `work` or a hook does.
    ///
    /// ```
    /// let pool = tenure::testing::temporary()?;
    /// pool.write()?.execute_batch("CREATE TABLE task (id INTEGER PRIMARY KEY, title TEXT)")?;
    /// let id = pool.transaction(|tx| {
    ///     tx.execute("INSERT INTO task (title) VALUES (?1)", ["write"])?;
    ///     Ok(tx.last_insert_rowid())
    /// })?;
    /// assert_eq!(id, 1);
    /// # Ok::<(), tenure::Error>(())
    /// ```
    #[track_caller]
    pub fn transaction<T>(
        &self,
        work: impl FnOnce(&mut Transaction<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.transaction_with_error(work)
    }

    /// As [`transaction`](Self::transaction), with an error type of the caller's.
    ///
    /// The two are separate because one that is generic could not be called with `?` in its closure
    /// without saying the type each time.
    ///
    /// # Errors
    ///
    /// What `work` returns; else as [`transaction`](Self::transaction), converted.
    ///
    /// # Panics
    ///
    /// When `work` or a hook does.
    ///
    /// ```
    /// fn create(pool: &tenure::Pool) -> anyhow::Result<()> {
    ///     pool.transaction_with_error(|tx| {
    ///         tx.execute_batch("CREATE TABLE task (title TEXT)")?;
    ///         anyhow::ensure!(tx.table_exists(None, "task")?, "no table");
    ///         Ok(())
    ///     })
    /// }
    /// create(&tenure::testing::temporary()?)?;
    /// # Ok::<(), anyhow::Error>(())
    /// ```
    #[track_caller]
    pub fn transaction_with_error<T, E: From<Error>>(
        &self,
        work: impl FnOnce(&mut Transaction<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut writer = self.write().map_err(Error::from)?;
        let mut tx = writer.transaction().map_err(Error::from)?;
        // An error rolls back by dropping the transaction, which cannot replace that error.
        let value = work(&mut tx)?;
        let hooks = tx.commit_for_later_hooks().map_err(Error::from)?;
        drop(writer);
        run_hooks(hooks);
        Ok(value)
    }

    /// As [`transaction`](Self::transaction), for work that may be run again: when a lock outside the
    /// pool was in the way, everything is undone and tried anew, at most 5 times in all, after short
    /// and irregular pauses. The writer is given back in between. Each try may wait for `busy_timeout`, so
    /// that five take up to 15 s by default.
    ///
    /// Only what SQLite says is safe to repeat is repeated: BUSY at BEGIN, in a statement (also a lost
    /// snapshot) or at COMMIT. An error of yours is not, nor a commit whose outcome is unknown. `work`
    /// must have no effect outside the transaction; use
    /// [`on_commit`](crate::Transaction::on_commit) for those.
    ///
    /// # Errors
    ///
    /// As [`transaction`](Self::transaction), of the last try.
    ///
    /// # Panics
    ///
    /// When `work` or a hook does.
    ///
    /// ```
    /// let pool = tenure::testing::temporary()?;
    /// pool.write()?.execute_batch("CREATE TABLE counter (n); INSERT INTO counter VALUES (0)")?;
    /// let n: i64 = pool.transaction_with_retry(|tx| {
    ///     tx.execute("UPDATE counter SET n = n + 1", [])?;
    ///     Ok(tx.query_one("SELECT n FROM counter", [], |row| row.get(0))?)
    /// })?;
    /// assert_eq!(n, 1);
    /// # Ok::<(), tenure::Error>(())
    /// ```
    #[track_caller]
    pub fn transaction_with_retry<T>(
        &self,
        mut work: impl FnMut(&mut Transaction<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut pause = FIRST_PAUSE;
        for _ in 1..TRIES {
            match self.transaction(&mut work) {
                Err(error) if may_repeat(&error) => {
                    tracing::debug!(%error, ?pause, "a transaction is tried again");
                    thread::sleep(pause.mul_f64(0.5 + fastrand::f64()));
                    pause *= 2;
                }
                result => return result,
            }
        }
        self.transaction(work)
    }

    /// Checks out a reader and runs `work` on one consistent view of the database.
    ///
    /// # Errors
    ///
    /// What `work` returns; else [`Error::Checkout`] or [`Error::Begin`].
    ///
    /// # Panics
    ///
    /// When `work` does.
    ///
    /// ```
    /// let pool = tenure::testing::temporary()?;
    /// pool.write()?.execute_batch("CREATE TABLE task (done INTEGER)")?;
    /// let (all, done) = pool.snapshot(|snapshot| {
    ///     let count = |sql| snapshot.query_one(sql, [], |row| row.get::<_, i64>(0));
    ///     Ok((count("SELECT count(*) FROM task")?, count("SELECT count(*) FROM task WHERE done")?))
    /// })?;
    /// assert!(done <= all);
    /// # Ok::<(), tenure::Error>(())
    /// ```
    #[track_caller]
    pub fn snapshot<T>(
        &self,
        work: impl FnOnce(&Snapshot<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.snapshot_with_error(work)
    }

    /// As [`snapshot`](Self::snapshot), with an error type of the caller's.
    ///
    /// # Errors
    ///
    /// What `work` returns; else as [`snapshot`](Self::snapshot), converted.
    ///
    /// # Panics
    ///
    /// When `work` does.
    ///
    /// ```
    /// let pool = tenure::testing::temporary()?;
    /// let one = pool.snapshot_with_error(|snapshot| {
    ///     let one: i64 = snapshot.query_one("SELECT 1", [], |row| row.get(0))?;
    ///     Ok::<_, anyhow::Error>(one)
    /// })?;
    /// assert_eq!(one, 1);
    /// # Ok::<(), anyhow::Error>(())
    /// ```
    #[track_caller]
    pub fn snapshot_with_error<T, E: From<Error>>(
        &self,
        work: impl FnOnce(&Snapshot<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut reader = self.read().map_err(Error::from)?;
        let snapshot = reader.snapshot().map_err(Error::from)?;
        work(&snapshot)
    }
}
