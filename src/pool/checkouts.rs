//! Checkouts: the guards that [`Pool`] gives out, and why it gives none.
//!
//! Here the two roles get their names and their guards; whose turn it is is decided in
//! [`checkout`](crate::checkout). A pool whose database was found damaged refuses both to those who
//! come and to those who were waiting.

use std::panic::Location;
use std::time::{Duration, Instant};

use super::Pool;
use crate::checkout::{RolePool, Wait};
use crate::error::{CheckoutError, CheckoutErrorKind, Error};
use crate::sqlite::{Manager, ReadGuard, Role, WriteGuard};
use crate::who::Place;

/// Each waits in order of arrival, at most for `checkout_timeout` unless it says
/// otherwise.
impl Pool {
    /// Checks out a query-only connection.
    ///
    /// # Errors
    ///
    /// [`CheckoutError`] when none could be had in time.
    ///
    /// ```
    /// let pool = tenure::testing::temporary()?;
    /// let one: i64 = pool.read()?.query_one("SELECT 1", [], |row| row.get(0))?;
    /// # Ok::<(), tenure::Error>(())
    /// ```
    #[inline]
    #[track_caller]
    pub fn read(&self) -> Result<ReadGuard<'_>, CheckoutError> {
        self.read_within(Wait::Usual)
    }

    /// Checks out a query-only connection if one is idle and nobody waits; never waits.
    ///
    /// # Errors
    ///
    /// [`CheckoutError`] at once otherwise.
    ///
    /// ```
    /// let pool = tenure::testing::temporary()?;
    /// assert!(pool.try_read().is_ok());
    /// # Ok::<(), tenure::Error>(())
    /// ```
    #[track_caller]
    pub fn try_read(&self) -> Result<ReadGuard<'_>, CheckoutError> {
        self.read_within(Wait::Never)
    }

    /// As [`read`](Self::read), waiting at most for `timeout`.
    ///
    /// # Errors
    ///
    /// [`CheckoutError`] when none could be had in time.
    ///
    /// ```
    /// let pool = tenure::testing::temporary()?;
    /// let reader = pool.read_timeout(std::time::Duration::from_millis(100))?;
    /// # Ok::<(), tenure::Error>(())
    /// ```
    #[track_caller]
    pub fn read_timeout(&self, timeout: Duration) -> Result<ReadGuard<'_>, CheckoutError> {
        self.read_within(Wait::AtMost(timeout))
    }

    /// As [`read`](Self::read), with a guard that keeps the pool's connections instead of borrowing
    /// the pool.
    ///
    /// # Errors
    ///
    /// [`CheckoutError`] when none could be had in time.
    ///
    /// ```
    /// fn reader() -> Result<tenure::ReadGuard<'static>, tenure::Error> {
    ///     let pool = tenure::testing::temporary()?;
    ///     Ok(pool.read_owned()?)
    /// }
    /// let one: i64 = reader()?.query_one("SELECT 1", [], |row| row.get(0))?;
    /// # Ok::<(), tenure::Error>(())
    /// ```
    #[track_caller]
    pub fn read_owned(&self) -> Result<ReadGuard<'static>, CheckoutError> {
        let place = Location::caller();
        self.check_damage(Role::Read)?;
        let guard = self.inner.readers.check_out_owned(Wait::Usual, place)?;
        Ok(ReadGuard::new(guard, place))
    }

    /// Checks out the writing connection.
    ///
    /// # Errors
    ///
    /// [`CheckoutError`] when it could not be had in time, or the pool is read-only.
    ///
    /// ```
    /// let pool = tenure::testing::temporary()?;
    /// let writer = pool.write()?;
    /// writer.execute_batch("CREATE TABLE task (title TEXT)")?;
    /// # Ok::<(), tenure::Error>(())
    /// ```
    #[inline]
    #[track_caller]
    pub fn write(&self) -> Result<WriteGuard<'_>, CheckoutError> {
        self.write_within(Wait::Usual)
    }

    /// Checks out the writing connection if it is idle and nobody waits; never waits.
    ///
    /// # Errors
    ///
    /// [`CheckoutError`] at once otherwise.
    ///
    /// ```
    /// let pool = tenure::testing::temporary()?;
    /// let writer = pool.try_write()?;
    /// assert!(pool.try_write().is_err());
    /// # Ok::<(), tenure::Error>(())
    /// ```
    #[track_caller]
    pub fn try_write(&self) -> Result<WriteGuard<'_>, CheckoutError> {
        self.write_within(Wait::Never)
    }

    /// As [`write`](Self::write), waiting at most for `timeout`.
    ///
    /// # Errors
    ///
    /// [`CheckoutError`] when it could not be had in time, or the pool is read-only.
    ///
    /// ```
    /// let pool = tenure::testing::temporary()?;
    /// let writer = pool.write_timeout(std::time::Duration::from_millis(100))?;
    /// # Ok::<(), tenure::Error>(())
    /// ```
    #[track_caller]
    pub fn write_timeout(&self, timeout: Duration) -> Result<WriteGuard<'_>, CheckoutError> {
        self.write_within(Wait::AtMost(timeout))
    }

    /// As [`write`](Self::write), with a guard that keeps the pool's connections instead of
    /// borrowing the pool.
    ///
    /// # Errors
    ///
    /// [`CheckoutError`] when it could not be had in time, or the pool is read-only.
    ///
    /// ```
    /// let pool = tenure::testing::temporary()?;
    /// let writer: tenure::WriteGuard<'static> = pool.write_owned()?;
    /// # Ok::<(), tenure::Error>(())
    /// ```
    #[track_caller]
    pub fn write_owned(&self) -> Result<WriteGuard<'static>, CheckoutError> {
        let place = Location::caller();
        self.check_damage(Role::Write)?;
        let guard = self.writer()?.check_out_owned(Wait::Usual, place)?;
        Ok(WriteGuard::new(guard, place))
    }

    #[inline]
    #[track_caller]
    fn read_within(&self, wait: Wait) -> Result<ReadGuard<'_>, CheckoutError> {
        let place = Location::caller();
        self.check_damage(Role::Read)?;
        let guard = self.inner.readers.check_out(wait, place);
        guard.map(|guard| ReadGuard::new(guard, place))
    }

    #[inline]
    #[track_caller]
    fn write_within(&self, wait: Wait) -> Result<WriteGuard<'_>, CheckoutError> {
        let place = Location::caller();
        self.check_damage(Role::Write)?;
        let guard = self.writer()?.check_out(wait, place)?;
        Ok(WriteGuard::new(guard, place))
    }

    /// Refuses when SQLite has found the database damaged. Those who waited when it was found get
    /// their turn, and the same refusal instead of the connection.
    #[inline]
    fn check_damage(&self, role: Role) -> Result<(), CheckoutError> {
        match self.inner.recipe.damage.get() {
            None => Ok(()),
            Some(_) => self.refuse_damaged(role),
        }
    }

    #[cold]
    fn refuse_damaged(&self, role: Role) -> Result<(), CheckoutError> {
        // In a child that is the first thing to know, and said by the checkout.
        if self.is_forked() {
            return Ok(());
        }
        self.inner.recipe.metrics.checkout_refused_for_damage(role as usize);
        self.inner.recipe.refusal(role).map_or(Ok(()), Err)
    }

    fn writer(&self) -> Result<&RolePool<Manager>, CheckoutError> {
        self.inner.writer.as_ref().ok_or_else(|| {
            if self.is_forked() {
                self.inner.recipe.metrics.forked();
                return CheckoutError::forked(Role::Write.name());
            }
            CheckoutError::read_only()
        })
    }

    /// Whether this pool can write, now.
    pub(crate) fn check_writer(&self) -> Result<(), CheckoutError> {
        if self.is_forked() {
            self.inner.recipe.metrics.forked();
            return Err(CheckoutError::forked(Role::Write.name()));
        }
        self.check_damage(Role::Write)?;
        self.writer().map(drop)
    }

    /// The writing connection, for a caller that has waited already.
    pub(crate) fn write_until(
        &self,
        deadline: Option<Instant>,
        place: Place,
    ) -> Result<WriteGuard<'_>, CheckoutError> {
        let left =
            deadline.map_or(Duration::MAX, |at| at.saturating_duration_since(Instant::now()));
        self.check_damage(Role::Write)?;
        let guard = self.writer()?.check_out(Wait::AtMost(left), place)?;
        Ok(WriteGuard::new(guard, place))
    }

    /// Why a caller of `group_commit` did not come to share the writing connection, of so many who wait
    /// for that. Counted as a checkout, or load that is shed there would be seen nowhere.
    pub(crate) fn refuse_in_group(
        &self,
        kind: CheckoutErrorKind,
        started: Instant,
        waiting: usize,
    ) -> Error {
        match self.writer() {
            Ok(writer) => writer.refuse_and_count(kind, started, waiting).into(),
            Err(error) => error.into(),
        }
    }

    /// Why the writing connection cannot be had, said without asking for it.
    pub(crate) fn refuse_write(&self, kind: CheckoutErrorKind, started: Instant) -> Error {
        match self.writer() {
            Ok(writer) => writer.refuse(kind, started).into(),
            Err(error) => error.into(),
        }
    }
}
