//! The front door: a pool with two roles, named after the methods of [`std::sync::RwLock`].
//!
//! SQLite in WAL mode has that shape, but better: readers and the writer run at the same time. There
//! is one writing connection because SQLite lets one write at a time anyway: a second could only wait
//! inside SQLite, where nobody is served in order, and would empty the first one's page cache with
//! every commit.

mod checkouts;

use std::fmt;
use std::mem;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::builder::Builder;
use crate::checkout;
use crate::config::PoolConfig;
use crate::error::{CloseError, OpenError, ResizeError};
use crate::fork::Birthplace;
use crate::group::Group;
use crate::housekeeping::Housekeeping;
use crate::metrics::{GroupMetrics, PoolName, Publish as _};
use crate::sqlite::{Checkpointing, Leavings, Manager, Recipe};
use crate::status::{PoolState, PoolStatus};

/// A pool of connections to one SQLite database file.
///
/// Cloning is cheap and shares the pool. It ends when the last clone is dropped: idle connections are
/// closed at once, those that [`read_owned`](Self::read_owned) guards and detached connections hold
/// when they come back.
///
/// ```
/// # fn main() -> Result<(), tenure::Error> {
/// let directory = tempfile::tempdir().map_err(tenure::Error::other)?;
/// let pool = tenure::Pool::open(directory.path().join("app.db"))?;
///
/// pool.transaction(|tx| {
///     tx.execute_batch("CREATE TABLE task (id INTEGER PRIMARY KEY, title TEXT)")?;
///     tx.execute("INSERT INTO task (title) VALUES (?1)", ["write"])?;
///     Ok(())
/// })?;
///
/// let title: String = pool.read()?.query_one("SELECT title FROM task", [], |row| row.get(0))?;
/// assert_eq!(title, "write");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Pool {
    inner: Arc<Inner>,
}

struct Inner {
    readers: checkout::RolePool<Manager>,
    /// `None` with `access = "read-only"`.
    writer: Option<checkout::RolePool<Manager>>,
    group: Arc<Group>,
    recipe: Arc<Recipe>,
    _housekeeping: Housekeeping,
    /// `None` when SQLite checkpoints by itself, or nothing is to be checkpointed.
    checkpointing: Option<Checkpointing>,
    /// Free for another pool when this one ends.
    _name: PoolName,
    birthplace: Birthplace,
    /// Last, when the connections are closed.
    _leavings: Arc<Leavings>,
}

impl Drop for Pool {
    /// In a forked child nothing of it is dropped: not the connections, not the threads' channels, and
    /// no temporary directory.
    fn drop(&mut self) {
        if self.is_forked() {
            mem::forget(Arc::clone(&self.inner));
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.close();
        // It is interrupted; its connection ends with it, before what is removed last.
        self.checkpoints_ended(None);
    }
}

impl Inner {
    /// No more checkouts.
    fn close(&self) {
        if let Some(checkpointing) = &self.checkpointing {
            checkpointing.stop();
        }
        self.readers.close();
        if let Some(writer) = &self.writer {
            writer.close();
        }
    }

    fn checkpoints_ended(&self, deadline: Option<Instant>) -> bool {
        self.checkpointing.as_ref().is_none_or(|one| one.wait_until_ended(deadline))
    }
}

/// Opening.
impl Pool {
    #[expect(clippy::too_many_arguments, reason = "one for each field")]
    pub(crate) fn new(
        readers: checkout::RolePool<Manager>,
        writer: Option<checkout::RolePool<Manager>>,
        group: Arc<Group>,
        recipe: Arc<Recipe>,
        housekeeping: Housekeeping,
        checkpointing: Option<Checkpointing>,
        name: PoolName,
        leavings: Arc<Leavings>,
    ) -> Self {
        let inner = Inner {
            readers,
            writer,
            group,
            recipe,
            _housekeeping: housekeeping,
            checkpointing,
            _name: name,
            birthplace: Birthplace::here(),
            _leavings: leavings,
        };
        Self { inner: Arc::new(inner) }
    }

    /// Opens a pool with default settings; the file is created when it is missing.
    ///
    /// # Errors
    ///
    /// [`OpenError`], as [`Builder::open`].
    ///
    /// ```
    /// let directory = tempfile::tempdir()?;
    /// let pool = tenure::Pool::open(directory.path().join("app.db"))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn open(database: impl AsRef<Path>) -> Result<Self, OpenError> {
        Self::builder().database(database).open()
    }

    /// Settings and closures before opening.
    ///
    /// ```
    /// let builder = tenure::Pool::builder().database("app.db").readers(4);
    /// ```
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Opens a pool as a TOML file says; see [`PoolConfig`] for the keys. To add closures, use
    /// [`Builder::config`] with [`PoolConfig::from_file`].
    ///
    /// # Errors
    ///
    /// [`OpenError`]: [`OpenError::Config`] when the file is wrong, else as [`Builder::open`].
    ///
    /// ```
    /// let directory = tempfile::tempdir()?;
    /// let file = directory.path().join("pool.toml");
    /// std::fs::write(&file, "database = 'app.db'\nreaders = 2")?;
    /// let pool = tenure::Pool::from_config_file(&file)?;
    /// assert_eq!(pool.status().read.limit, 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn from_config_file(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        Self::builder().config(PoolConfig::from_file(path)?).open()
    }
}

/// For the layer itself.
impl Pool {
    pub(crate) fn group(&self) -> &Group {
        &self.inner.group
    }

    pub(crate) fn group_metrics(&self) -> &GroupMetrics {
        self.inner.recipe.metrics.group()
    }

    pub(crate) fn is_forked(&self) -> bool {
        self.inner.birthplace.is_elsewhere()
    }
}

/// Changing it.
impl Pool {
    /// Changes the most query-only connections that may be open, for every clone of the pool.
    ///
    /// More room goes to those who wait first; what nobody has asked for is opened in the background.
    /// Of fewer, idle connections are closed at once and the others as they come back: nobody is
    /// interrupted, and until then [`status`](Self::status) shows more open than the limit. Threads
    /// that have to wait for each other because there are fewer are told so, as many as it takes
    /// ([`WouldDeadlock`](crate::CheckoutErrorKind::WouldDeadlock)). There is one writer, always.
    ///
    /// [`config`](Self::config) goes on to say what the pool was opened with.
    ///
    /// # Errors
    ///
    /// [`ResizeError`]: `readers` must be 1 at least, and 64 or what the pool was opened with at most,
    /// whichever is more.
    ///
    /// ```
    /// let pool = tenure::testing::temporary()?;
    /// pool.resize(24)?;
    /// assert_eq!(pool.status().read.limit, 24);
    /// # Ok::<(), tenure::Error>(())
    /// ```
    pub fn resize(&self, readers: usize) -> Result<(), ResizeError> {
        if self.is_forked() {
            self.inner.recipe.metrics.forked();
            return Err(ResizeError::Forked);
        }
        let most = self.inner.readers.ceiling();
        if !(1..=most).contains(&readers) {
            return Err(ResizeError::OutOfRange { limit: readers, most });
        }
        if self.inner.readers.resize(readers) { Ok(()) } else { Err(ResizeError::Closed) }
    }
}

/// Ending it.
impl Pool {
    /// Closes the pool: from now on no connection is lent, whoever waits for one is told so at once,
    /// and idle connections are closed. Then it waits until those that are held have come back and
    /// are closed, and those that are being opened as well, at most for `deadline`; the last one
    /// wakes it. After `Ok` no connection of the pool is open, but for those of which a guard or a
    /// statement was leaked.
    ///
    /// Callers of [`group_commit`](Self::group_commit) that were let in are served first, and writers that
    /// come meanwhile with them.
    ///
    /// It concerns every clone of the pool. Closing again is fine, and waits again for those still
    /// out. A pool need not be closed before it is dropped; what this adds is the certainty that
    /// nothing of it is at work any more, before a program ends or its file is moved.
    ///
    /// # Errors
    ///
    /// [`CloseError::StillOut`] with the holders when the deadline comes first. What they hold stays
    /// valid, and is closed when it comes back. A guard that the caller itself holds is among them:
    /// drop it before.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tenure::CheckoutErrorKind;
    ///
    /// let pool = tenure::testing::temporary()?;
    /// pool.close(Duration::from_secs(5))?;
    /// assert_eq!(pool.read().unwrap_err().kind(), CheckoutErrorKind::Closed);
    /// # Ok::<(), tenure::Error>(())
    /// ```
    pub fn close(&self, deadline: Duration) -> Result<(), CloseError> {
        if self.is_forked() {
            self.inner.recipe.metrics.forked();
            return Err(CloseError::Forked);
        }
        let began = Instant::now();
        // One too far away to be represented is none.
        let deadline = began.checked_add(deadline);
        self.inner.readers.close();
        self.inner.group.close(deadline);
        self.inner.close();
        let held = |role: &checkout::RolePool<Manager>| role.wait_until_closed(deadline);
        let write = self.inner.writer.as_ref().map_or(Ok(()), held);
        let read = held(&self.inner.readers);
        let checkpoints_ended = self.inner.checkpoints_ended(deadline);
        self.inner.group.publish();
        self.inner.recipe.publish_metrics();
        if write.is_ok() && read.is_ok() && checkpoints_ended {
            return Ok(());
        }
        let still_out = |role: Result<(), _>| role.err().unwrap_or_default();
        let (read, write) = (still_out(read), still_out(write));
        Err(CloseError::StillOut { waited: began.elapsed(), read, write, any: Vec::new() })
    }
}

/// Looking at it.
impl Pool {
    /// Hands everything counted so far to the metrics recorder; what it shows is exact afterwards.
    ///
    /// Checkouts and hold times are counted where no thread waits for another, and published once a
    /// second. Call this before a last scrape, or in a test. It takes some microseconds, and no
    /// checkout waits for it.
    ///
    /// ```
    /// let pool = tenure::testing::temporary()?;
    /// drop(pool.read()?);
    /// pool.publish_metrics();
    /// # Ok::<(), tenure::Error>(())
    /// ```
    pub fn publish_metrics(&self) {
        self.inner.readers.publish_metrics();
        if let Some(writer) = &self.inner.writer {
            writer.publish_metrics();
        }
        self.inner.group.publish();
        if !self.is_forked() {
            self.inner.recipe.publish_metrics();
        }
    }

    /// Who holds and who waits, now. A checkout that has to wait waits for this at most as long as a
    /// copy of the queue takes; one that has not does not wait for it. The start of a hold is known to
    /// 10 ms, unless it had to wait or is timed.
    ///
    /// ```
    /// let pool = tenure::testing::temporary()?;
    /// println!("{}", pool.status());
    /// # Ok::<(), tenure::Error>(())
    /// ```
    pub fn status(&self) -> PoolStatus {
        let damage = self.inner.recipe.damage.get().map(ToString::to_string);
        let state = match () {
            () if self.is_forked() => PoolState::Forked,
            () if damage.is_some() => PoolState::Damaged,
            () if self.inner.readers.is_closed() => PoolState::Closed,
            () => PoolState::Open,
        };
        PoolStatus {
            name: self.name().to_owned(),
            state,
            damage,
            read: self.inner.readers.status(),
            write: self.inner.writer.as_ref().map(checkout::RolePool::status),
            group_commit: self.inner.group.status(),
        }
    }

    /// The label `pool` in metrics.
    ///
    /// ```
    /// let pool = tenure::testing::temporary_with(tenure::Pool::builder().name("orders"))?;
    /// assert_eq!(pool.name(), "orders");
    /// # Ok::<(), tenure::Error>(())
    /// ```
    pub fn name(&self) -> &str {
        self.inner.recipe.metrics.name()
    }

    /// The settings that the pool was opened with.
    ///
    /// ```
    /// let pool = tenure::testing::temporary()?;
    /// assert!(pool.config().foreign_keys);
    /// # Ok::<(), tenure::Error>(())
    /// ```
    #[inline]
    pub fn config(&self) -> &PoolConfig {
        &self.inner.recipe.config
    }
}

/// A panic cannot leave a pool half changed: what it holds was given back before the panic goes on.
impl UnwindSafe for Pool {}
impl RefUnwindSafe for Pool {}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("name", &self.name()).finish_non_exhaustive()
    }
}
