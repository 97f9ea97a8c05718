//! The pool for any manager of r2d2's.
//!
//! The same slots, queue and registry that lend SQLite connections, without anything about SQL. What a
//! connection must be like before it is lent again is the manager's to say, in `has_broken`, at every
//! check-in; `is_valid` is not asked, for a check at checkout comes too early to be relied on, and is
//! paid by everybody.

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;
use std::panic::Location;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;
use r2d2::ManageConnection;
use scheduled_thread_pool::ScheduledThreadPool;

use super::{RoleDetached, RoleGuard, RolePool, Settings, Wait};
use crate::config::PoolConfig;
use crate::error::{CheckoutError, CloseError, OpenError, ResizeError};
use crate::housekeeping::Housekeeping;
use crate::log::Log;
use crate::metrics::{PoolName, RoleMetrics};
use crate::status::RoleStatus;

const ROLE: &str = "any";

/// How a [`Pool`] is made. The defaults are those of [`PoolConfig`](crate::PoolConfig).
///
/// ```
/// let builder = tenure::checkout::Builder::default().limit(4).max_waiters(100);
/// ```
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing before build() is called"]
pub struct Builder {
    name: Option<String>,
    limit: usize,
    ceiling: usize,
    config: PoolConfig,
}

impl Default for Builder {
    fn default() -> Self {
        Self { name: None, limit: 10, ceiling: 0, config: PoolConfig::default() }
    }
}

impl Builder {
    /// The label `pool` in metrics, and the name in the log; `"any"` by default.
    ///
    /// ```
    /// let builder = tenure::checkout::Builder::default().name("ldap");
    /// ```
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// The most connections that may be open; 10 by default.
    ///
    /// ```
    /// let builder = tenure::checkout::Builder::default().limit(4);
    /// ```
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }

    /// What [`Pool::resize`] may raise the limit to; never less than the limit. Each connection that may
    /// be costs some 350 bytes, open or not.
    ///
    /// ```
    /// let builder = tenure::checkout::Builder::default().limit(4).ceiling(16);
    /// ```
    pub fn ceiling(mut self, ceiling: usize) -> Self {
        self.ceiling = ceiling;
        self
    }

    /// The longest wait of [`Pool::get`] for a connection.
    ///
    /// ```
    /// use std::time::Duration;
    /// let builder = tenure::checkout::Builder::default().checkout_timeout(Duration::from_secs(1));
    /// ```
    pub fn checkout_timeout(mut self, timeout: Duration) -> Self {
        self.config.checkout_timeout = timeout;
        self
    }

    /// How many threads may wait; one more is refused at once.
    ///
    /// ```
    /// let builder = tenure::checkout::Builder::default().max_waiters(64);
    /// ```
    pub fn max_waiters(mut self, waiters: usize) -> Self {
        self.config.max_waiters = waiters;
        self
    }

    /// For how long newcomers may overtake the first waiter, as long as connections come back often: on each
    /// core one in that time. Where there are as many connections as cores, or more, they may also overtake
    /// one that has waited for less than 25 times as long in all, and less than 2 ms. Zero = never.
    ///
    /// ```
    /// let builder = tenure::checkout::Builder::default().overtaking(std::time::Duration::ZERO);
    /// ```
    pub fn overtaking(mut self, overtaking: Duration) -> Self {
        self.config.overtaking = overtaking;
        self
    }

    /// Close connections that have been idle for so long, all but one; zero = never.
    ///
    /// ```
    /// use std::time::Duration;
    /// let builder = tenure::checkout::Builder::default().idle_limit(Duration::from_secs(60));
    /// ```
    pub fn idle_limit(mut self, limit: Duration) -> Self {
        self.config.idle_limit = limit;
        self
    }

    /// Close connections that have been open for so long, less up to a tenth of it that is another for
    /// each; zero = never.
    ///
    /// ```
    /// use std::time::Duration;
    /// let builder = tenure::checkout::Builder::default().max_lifetime(Duration::from_secs(3600));
    /// ```
    pub fn max_lifetime(mut self, limit: Duration) -> Self {
        self.config.max_lifetime = limit;
        self
    }

    /// Opens all connections.
    ///
    /// # Errors
    ///
    /// [`OpenError`] when a connection cannot be opened within five seconds, the name is another
    /// pool's, or the system has no thread left.
    ///
    /// # Panics
    ///
    /// When the limit is 0, or there is no memory for as many connections as the ceiling allows.
    ///
    /// ```
    /// # struct Numbers;
    /// # impl r2d2::ManageConnection for Numbers {
    /// #     type Connection = u32;
    /// #     type Error = std::io::Error;
    /// #     fn connect(&self) -> Result<u32, std::io::Error> { Ok(7) }
    /// #     fn is_valid(&self, _: &mut u32) -> Result<(), std::io::Error> { Ok(()) }
    /// #     fn has_broken(&self, _: &mut u32) -> bool { false }
    /// # }
    /// let pool = tenure::checkout::Builder::default().limit(2).build(Numbers)?;
    /// assert_eq!(pool.status().idle, 2);
    /// # Ok::<(), tenure::Error>(())
    /// ```
    pub fn build<M>(self, manager: M) -> Result<Pool<M>, OpenError>
    where
        M: ManageConnection<Error: Send + Sync>,
    {
        assert!(self.limit > 0, "a pool without connections would lend none");
        let Self { name, limit, ceiling, config } = self;
        let name = match name {
            Some(name) => PoolName::exactly(&name).ok_or(OpenError::NameTaken { name })?,
            None => PoolName::like(ROLE),
        };
        name.listen();
        let opener = ScheduledThreadPool::builder()
            .num_threads(1)
            .thread_name_pattern("tenure-opener")
            .build();
        let (refill, refilled) = bounded(1);
        let unless_zero = |duration: Duration| (!duration.is_zero()).then_some(duration);
        let settings = Settings {
            role: ROLE,
            limit,
            ceiling: ceiling.max(limit),
            max_waiters: config.max_waiters,
            checkout_timeout: config.checkout_timeout,
            overtaking: config.overtaking,
            idle_limit: unless_zero(config.idle_limit),
            max_lifetime: unless_zero(config.max_lifetime),
            slow_checkout_after: unless_zero(config.slow_checkout_after),
            long_held_after: unless_zero(config.long_held_after),
            log: Arc::new(Log::new(name.as_str().to_owned())),
            hold_sampling: config.hold_sampling,
            refusal: Box::new(|| None),
            metrics: RoleMetrics::alone(name.as_str(), ROLE),
            opener: Arc::new(opener),
            refill,
        };
        let role = RolePool::new(manager, settings);
        role.fill().inspect_err(|_| role.close()).map_err(|source| OpenError::Fill { source })?;
        let housekeeping = Housekeeping::start(vec![role.downgrade()], refilled, || ())
            .map_err(|source| OpenError::Thread { source })?;
        name.publish_with_all(role.publisher());
        let inner = Inner { role, _housekeeping: housekeeping, name };
        Ok(Pool { inner: Arc::new(inner) })
    }
}

/// Connections of any kind, each lent to one owner at a time.
///
/// A guard belongs to the thread that checked it out. It dereferences to the connection, never
/// mutably: two guards could exchange their connections. A connection whose methods take `&mut self`
/// goes into a `RefCell`, which costs nothing worth naming.
///
/// Threads that wait for each other's guards are told at once, see
/// [`WouldDeadlock`](crate::CheckoutErrorKind::WouldDeadlock), those of all pools of the process.
///
/// ```
/// use std::cell::RefCell;
/// use std::io::{self, Write};
///
/// /// One file for each connection.
/// struct Files(tempfile::TempDir);
///
/// impl r2d2::ManageConnection for Files {
///     type Connection = RefCell<std::fs::File>;
///     type Error = io::Error;
///
///     fn connect(&self) -> io::Result<RefCell<std::fs::File>> {
///         tempfile::tempfile_in(&self.0).map(RefCell::new)
///     }
///
///     fn is_valid(&self, _: &mut Self::Connection) -> io::Result<()> {
///         Ok(())
///     }
///
///     /// Asked at every check-in: may it be lent again?
///     fn has_broken(&self, file: &mut Self::Connection) -> bool {
///         file.get_mut().set_len(0).is_err()
///     }
/// }
///
/// let pool = tenure::checkout::Builder::default().limit(2).build(Files(tempfile::tempdir()?))?;
/// let file = pool.get()?;
/// file.borrow_mut().write_all(b"mine, until the guard is dropped")?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// ```compile_fail,E0277
/// # struct Numbers;
/// # impl r2d2::ManageConnection for Numbers {
/// #     type Connection = u32;
/// #     type Error = std::io::Error;
/// #     fn connect(&self) -> Result<u32, std::io::Error> { Ok(7) }
/// #     fn is_valid(&self, _: &mut u32) -> Result<(), std::io::Error> { Ok(()) }
/// #     fn has_broken(&self, _: &mut u32) -> bool { false }
/// # }
/// let pool = tenure::checkout::Builder::default().build(Numbers).unwrap();
/// let guard = pool.get_owned().unwrap();
/// std::thread::spawn(move || drop(guard)); // It belongs to the thread that checked it out.
/// ```
pub struct Pool<M: ManageConnection<Error: Send + Sync>> {
    inner: Arc<Inner<M>>,
}

struct Inner<M: ManageConnection<Error: Send + Sync>> {
    role: RolePool<M>,
    _housekeeping: Housekeeping,
    name: PoolName,
}

impl<M: ManageConnection<Error: Send + Sync>> Drop for Inner<M> {
    fn drop(&mut self) {
        self.role.close();
    }
}

impl<M: ManageConnection<Error: Send + Sync>> Drop for Pool<M> {
    /// In a forked child nothing of it is dropped, as of [`tenure::Pool`](crate::Pool).
    fn drop(&mut self) {
        if self.inner.role.is_forked() {
            std::mem::forget(Arc::clone(&self.inner));
        }
    }
}

/// The methods that lend note the place they are called from.
impl<M: ManageConnection<Error: Send + Sync>> Pool<M> {
    /// Checks a connection out, in turn, for at most `checkout_timeout`.
    ///
    /// # Errors
    ///
    /// [`CheckoutError`], as of [`tenure::Pool::read`](crate::Pool::read).
    #[track_caller]
    pub fn get(&self) -> Result<Guard<'_, M>, CheckoutError> {
        let guard = self.inner.role.check_out(Wait::Usual, Location::caller())?;
        Ok(Guard { guard })
    }

    /// As [`get`](Self::get), without waiting.
    ///
    /// # Errors
    ///
    /// [`CheckoutError`].
    #[track_caller]
    pub fn try_get(&self) -> Result<Guard<'_, M>, CheckoutError> {
        let guard = self.inner.role.check_out(Wait::Never, Location::caller())?;
        Ok(Guard { guard })
    }

    /// As [`get`](Self::get), for at most `timeout`.
    ///
    /// # Errors
    ///
    /// [`CheckoutError`].
    #[track_caller]
    pub fn get_timeout(&self, timeout: Duration) -> Result<Guard<'_, M>, CheckoutError> {
        let guard = self.inner.role.check_out(Wait::AtMost(timeout), Location::caller())?;
        Ok(Guard { guard })
    }

    /// As [`get`](Self::get); the guard keeps what it needs of the pool.
    ///
    /// # Errors
    ///
    /// [`CheckoutError`].
    #[track_caller]
    pub fn get_owned(&self) -> Result<Guard<'static, M>, CheckoutError> {
        let guard = self.inner.role.check_out_owned(Wait::Usual, Location::caller())?;
        Ok(Guard { guard })
    }

    /// Who holds and who waits, now.
    pub fn status(&self) -> RoleStatus {
        self.inner.role.status()
    }

    /// Hands what was counted since the last second to the metrics recorder.
    pub fn publish_metrics(&self) {
        self.inner.role.publish_metrics();
    }

    /// Changes the most connections that may be open, for every clone of the pool; at most to the
    /// [ceiling](Builder::ceiling). As [`tenure::Pool::resize`](crate::Pool::resize).
    ///
    /// # Errors
    ///
    /// [`ResizeError`]: `limit` is 0 or above the ceiling, or the pool is closed.
    pub fn resize(&self, limit: usize) -> Result<(), ResizeError> {
        let role = &self.inner.role;
        if role.is_forked() {
            role.count_forked();
            return Err(ResizeError::Forked);
        }
        let most = role.ceiling();
        if !(1..=most).contains(&limit) {
            return Err(ResizeError::OutOfRange { limit, most });
        }
        if role.resize(limit) { Ok(()) } else { Err(ResizeError::Closed) }
    }

    /// Lends no more connections, tells those who wait, and waits until all have come back and what
    /// is being opened is closed as well, at most for `deadline`. Closing again is fine.
    ///
    /// # Errors
    ///
    /// [`CloseError::StillOut`] with those who have one still when `deadline` has passed, in `any`.
    /// Their guards stay valid. [`CloseError::Forked`] in a child that was forked from the process
    /// that opened the pool; there nothing is done.
    pub fn close(&self, deadline: Duration) -> Result<(), CloseError> {
        let role = &self.inner.role;
        if role.is_forked() {
            role.count_forked();
            return Err(CloseError::Forked);
        }
        let began = Instant::now();
        role.close();
        role.wait_until_closed(began.checked_add(deadline)).map_err(|any| {
            let (read, write) = (Vec::new(), Vec::new());
            CloseError::StillOut { waited: began.elapsed(), read, write, any }
        })
    }
}

// A panic can interrupt a use of the pool, not a change of it.
impl<M: ManageConnection<Error: Send + Sync>> std::panic::UnwindSafe for Pool<M> {}
impl<M: ManageConnection<Error: Send + Sync>> std::panic::RefUnwindSafe for Pool<M> {}

impl<M: ManageConnection<Error: Send + Sync>> Clone for Pool<M> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<M: ManageConnection<Error: Send + Sync>> fmt::Debug for Pool<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("name", &self.inner.name.as_str()).finish_non_exhaustive()
    }
}

/// A checked-out connection, owned by the thread that checked it out. Dropping it is the check-in.
#[must_use = "a guard that is dropped at once has held the connection for nothing"]
pub struct Guard<'p, M: ManageConnection<Error: Send + Sync>> {
    guard: RoleGuard<'p, M>,
}

impl<M: ManageConnection<Error: Send + Sync>> Guard<'_, M> {
    /// Gives this hold a label that says what it is for, as
    /// [`ReadGuard::set_label`](crate::ReadGuard::set_label) does.
    pub fn set_label(&self, label: impl Into<Cow<'static, str>>) {
        self.guard.set_label(label.into());
    }

    /// Makes the connection ready to be moved to another thread. It stays checked out.
    pub fn detach(self) -> Detached<M> {
        Detached { detached: self.guard.detach() }
    }
}

impl<M: ManageConnection<Error: Send + Sync>> Deref for Guard<'_, M> {
    type Target = M::Connection;

    fn deref(&self) -> &M::Connection {
        self.guard.connection()
    }
}

/// Without the connection.
impl<M: ManageConnection<Error: Send + Sync>> fmt::Debug for Guard<'_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").finish_non_exhaustive()
    }
}

/// A checked-out connection on its way to another thread. Dropping it gives the connection back.
#[must_use = "a detached connection is given back when it is dropped"]
pub struct Detached<M: ManageConnection<Error: Send + Sync>> {
    detached: RoleDetached<M>,
}

impl<M: ManageConnection<Error: Send + Sync>> Detached<M> {
    /// Makes the calling thread the owner.
    #[track_caller]
    pub fn attach(self) -> Guard<'static, M> {
        Guard { guard: self.detached.attach(Location::caller()) }
    }
}

impl<M: ManageConnection<Error: Send + Sync>> fmt::Debug for Detached<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Detached").finish_non_exhaustive()
    }
}
