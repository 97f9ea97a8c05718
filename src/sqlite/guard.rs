//! The guards: a checked-out connection, to read with or to write with.
//!
//! They wrap the checkout layer's guard, which pins them to their thread, and show of the connection
//! only what its role may do. There is no `DerefMut`: two guards could swap their connections through
//! it.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::panic::Location;

use super::manager::Manager;
use super::read_session::ReadSession;
use super::session::Session;
use super::snapshot::Snapshot;
use super::transaction::Transaction;
use crate::checkout;
use crate::error::BeginError;
use crate::metrics::TransactionKind;
use crate::who::Place;

/// A query-only connection, owned by the thread that checked it out. Dropping it is the check-in.
///
/// Made by [`Pool::read`](crate::Pool::read) and its relatives. It dereferences to [`ReadSession`].
///
/// ```
/// let pool = tenure::testing::temporary()?;
/// let reader = pool.read()?;
/// let one: i64 = reader.query_one("SELECT 1", [], |row| row.get(0))?;
/// assert_eq!(one, 1);
/// # Ok::<(), tenure::Error>(())
/// ```
#[must_use = "a guard that is dropped at once has held the connection for nothing"]
pub struct ReadGuard<'p> {
    guard: checkout::RoleGuard<'p, Manager>,
}

/// The writing connection, owned by the thread that checked it out. Dropping it is the check-in.
///
/// Made by [`Pool::write`](crate::Pool::write) and its relatives. It dereferences to [`Session`].
/// A statement run on the guard itself commits by itself.
///
/// ```
/// let pool = tenure::testing::temporary()?;
/// let mut writer = pool.write()?;
/// writer.execute("CREATE TABLE task (title TEXT)", [])?;
/// let tx = writer.transaction()?;
/// tx.execute("INSERT INTO task VALUES ('one')", [])?;
/// tx.commit()?;
/// # Ok::<(), tenure::Error>(())
/// ```
#[must_use = "a guard that is dropped at once has held the writer for nothing"]
pub struct WriteGuard<'p> {
    guard: checkout::RoleGuard<'p, Manager>,
}

impl<'p> ReadGuard<'p> {
    #[inline]
    pub(crate) fn new(guard: checkout::RoleGuard<'p, Manager>, place: Place) -> Self {
        guard.connection().lent_at(place);
        Self { guard }
    }

    /// Takes a consistent view of the database that lasts until it is dropped.
    ///
    /// # Errors
    ///
    /// [`BeginError`] when SQL text has begun a transaction on this guard, or SQLite cannot read.
    ///
    /// ```
    /// let pool = tenure::testing::temporary()?;
    /// let mut reader = pool.read()?;
    /// let snapshot = reader.snapshot()?;
    /// assert!(!snapshot.is_autocommit());
    /// # Ok::<(), tenure::Error>(())
    /// ```
    pub fn snapshot(&mut self) -> Result<Snapshot<'_>, BeginError> {
        Snapshot::begin(self.guard.connection())
    }

    /// Gives this hold a label that says what it is for. It is shown wherever the holder is named: in
    /// [`Pool::status`](crate::Pool::status), in errors of those who wait or close the pool, and in the
    /// log when a hold is long or a guard was leaked.
    ///
    /// Set it before a transaction begins, which borrows the guard. It ends with the hold, and goes with
    /// it through [`detach`](Self::detach). Another one replaces it, an empty one removes it; one of
    /// more than 80 bytes is cut. It costs a lock that only those who read the status take as well; a
    /// hold without one costs nothing. It is no place for secrets.
    ///
    /// ```
    /// let pool = tenure::testing::temporary()?;
    /// let reader = pool.read()?;
    /// reader.set_label("report of the month");
    /// assert_eq!(pool.status().read.held[0].label.as_deref(), Some("report of the month"));
    /// # Ok::<(), tenure::Error>(())
    /// ```
    pub fn set_label(&self, label: impl Into<Cow<'static, str>>) {
        self.guard.set_label(label.into());
    }

    /// Makes the connection ready to be moved to another thread.
    ///
    /// It stays checked out. What arrives can be [attached](Detached::attach), or dropped to give the
    /// connection back; nothing else.
    ///
    /// ```
    /// let pool = tenure::testing::temporary()?;
    /// let detached = pool.read()?.detach();
    /// std::thread::spawn(move || {
    ///     let reader = detached.attach();
    ///     reader.query_one("SELECT 1", [], |row| row.get::<_, i64>(0)).unwrap()
    /// });
    /// # Ok::<(), tenure::Error>(())
    /// ```
    pub fn detach(self) -> Detached<ReadGuard<'static>> {
        Detached { lease: self.guard.detach(), _guard: PhantomData }
    }
}

impl<'p> WriteGuard<'p> {
    #[inline]
    pub(crate) fn new(guard: checkout::RoleGuard<'p, Manager>, place: Place) -> Self {
        guard.connection().lent_at(place);
        Self { guard }
    }

    /// Begins a transaction that may write, at once: BEGIN IMMEDIATE.
    ///
    /// # Errors
    ///
    /// [`BeginError`]: busy when a connection outside the pool keeps the write lock for longer than
    /// `busy_timeout`.
    ///
    /// ```
    /// let pool = tenure::testing::temporary()?;
    /// let mut writer = pool.write()?;
    /// let tx = writer.transaction()?;
    /// tx.commit()?;
    /// # Ok::<(), tenure::Error>(())
    /// ```
    pub fn transaction(&mut self) -> Result<Transaction<'_>, BeginError> {
        Transaction::begin(self.guard.connection(), TransactionKind::Immediate)
    }

    pub(crate) fn begin(&mut self, kind: TransactionKind) -> Result<Transaction<'_>, BeginError> {
        Transaction::begin(self.guard.connection(), kind)
    }

    /// Begins a transaction that, outside WAL mode, keeps readers out as well: BEGIN EXCLUSIVE.
    /// In WAL mode it does what [`transaction`](Self::transaction) does.
    ///
    /// # Errors
    ///
    /// As [`transaction`](Self::transaction).
    ///
    /// ```
    /// let pool = tenure::testing::temporary()?;
    /// let mut writer = pool.write()?;
    /// writer.exclusive_transaction()?.commit()?;
    /// # Ok::<(), tenure::Error>(())
    /// ```
    pub fn exclusive_transaction(&mut self) -> Result<Transaction<'_>, BeginError> {
        Transaction::begin(self.guard.connection(), TransactionKind::Exclusive)
    }

    /// Gives this hold a label that says what it is for. See [`ReadGuard::set_label`].
    ///
    /// ```
    /// let pool = tenure::testing::temporary()?;
    /// let writer = pool.write()?;
    /// writer.set_label(format!("import of {} orders", 12));
    /// let error = pool.try_write().unwrap_err();
    /// assert!(error.to_string().contains("import of 12 orders"));
    /// # Ok::<(), tenure::Error>(())
    /// ```
    pub fn set_label(&self, label: impl Into<Cow<'static, str>>) {
        self.guard.set_label(label.into());
    }

    /// Makes the connection ready to be moved to another thread. See [`ReadGuard::detach`].
    ///
    /// ```
    /// let pool = tenure::testing::temporary()?;
    /// let detached = pool.write()?.detach();
    /// std::thread::spawn(move || {
    ///     let mut writer = detached.attach();
    ///     writer.transaction().unwrap().commit().unwrap();
    /// });
    /// # Ok::<(), tenure::Error>(())
    /// ```
    pub fn detach(self) -> Detached<WriteGuard<'static>> {
        Detached { lease: self.guard.detach(), _guard: PhantomData }
    }
}

impl Deref for ReadGuard<'_> {
    type Target = ReadSession;

    #[inline]
    fn deref(&self) -> &ReadSession {
        self.guard.connection()
    }
}

impl Deref for WriteGuard<'_> {
    type Target = Session;

    #[inline]
    fn deref(&self) -> &Session {
        self.guard.connection()
    }
}

impl fmt::Debug for ReadGuard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ReadGuard").field(&**self).finish()
    }
}

impl fmt::Debug for WriteGuard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WriteGuard").field(&**self).finish()
    }
}

/// A checked-out connection on its way to another thread. It can be sent, attached and dropped.
///
/// Made by [`ReadGuard::detach`] and [`WriteGuard::detach`]; `G` is the guard it becomes again.
/// Dropping it gives the connection back.
///
/// ```
/// use tenure::{Detached, WriteGuard};
///
/// fn finish(detached: Detached<WriteGuard<'static>>) -> Result<(), tenure::Error> {
///     let mut writer = detached.attach();
///     writer.transaction()?.commit()?;
///     Ok(())
/// }
/// let pool = tenure::testing::temporary()?;
/// let detached = pool.write()?.detach();
/// std::thread::spawn(move || finish(detached)).join().unwrap()?;
/// # Ok::<(), tenure::Error>(())
/// ```
#[must_use = "a detached connection is given back when it is dropped"]
pub struct Detached<G> {
    lease: checkout::RoleDetached<Manager>,
    /// What it becomes; it holds none, so the guard's marker does not pin it.
    _guard: PhantomData<fn() -> G>,
}

impl Detached<ReadGuard<'static>> {
    /// Makes the calling thread the owner.
    ///
    /// ```
    /// let pool = tenure::testing::temporary()?;
    /// let reader = pool.read()?.detach().attach();
    /// # Ok::<(), tenure::Error>(())
    /// ```
    #[track_caller]
    pub fn attach(self) -> ReadGuard<'static> {
        let place = Location::caller();
        ReadGuard::new(self.lease.attach(place), place)
    }
}

impl Detached<WriteGuard<'static>> {
    /// Makes the calling thread the owner.
    ///
    /// ```
    /// let pool = tenure::testing::temporary()?;
    /// let writer = pool.write()?.detach().attach();
    /// # Ok::<(), tenure::Error>(())
    /// ```
    #[track_caller]
    pub fn attach(self) -> WriteGuard<'static> {
        let place = Location::caller();
        WriteGuard::new(self.lease.attach(place), place)
    }
}

impl<G> fmt::Debug for Detached<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Detached").finish_non_exhaustive()
    }
}
