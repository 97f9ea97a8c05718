//! Why no connection could be had, and who has them.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::deadlock::DeadlockedHolder;
use crate::fork::FORKED;
use crate::metrics::CheckoutOutcome;
use crate::status::Holder;

/// Why no connection could be had.
///
/// The text says how many are held, by whom longest, and where that one was checked out.
///
/// ```
/// use tenure::CheckoutErrorKind;
///
/// let pool = tenure::testing::temporary()?;
/// let _writer = pool.write()?;
/// let error = pool.try_write().unwrap_err();
/// assert_eq!(error.kind(), CheckoutErrorKind::Unavailable);
/// println!("in the way: {:?}", error.longest_holder());
/// # Ok::<(), tenure::Error>(())
/// ```
#[derive(Debug)]
pub struct CheckoutError(Box<Refusal>);

/// What a [`CheckoutError`] says. Behind a pointer, so that a checkout that succeeds need not make
/// room for it.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) role: &'static str,
    pub(crate) kind: CheckoutErrorKind,
    pub(crate) waited: Duration,
    pub(crate) limit: usize,
    pub(crate) held: usize,
    pub(crate) waiting: usize,
    pub(crate) longest: Option<Holder>,
    /// Of a deadlock.
    pub(crate) holders: Vec<DeadlockedHolder>,
    pub(crate) cause: Option<Arc<dyn Error + Send + Sync>>,
}

/// The kinds of [`CheckoutError`].
///
/// ```
/// let pool = tenure::testing::temporary()?;
/// let _writer = pool.write()?;
/// match pool.try_write().map_err(|error| error.kind()) {
///     Err(tenure::CheckoutErrorKind::Unavailable) => println!("somebody else is writing"),
///     other => panic!("{other:?}"),
/// }
/// # Ok::<(), tenure::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CheckoutErrorKind {
    /// No turn came before the deadline.
    Timeout,
    /// To wait would be in vain: every connection that could come is held by a thread that waits
    /// itself, the asking one among them. Said at once by the checkout that would make it so, and to
    /// one that waits already when a resize to less makes it so. Never the answer to a `try_read` or
    /// `try_write`.
    WouldDeadlock,
    /// As many threads as `max_waiters` allows were waiting already.
    Overloaded,
    /// `try_read` or `try_write` found nothing idle.
    Unavailable,
    /// A connection had to be opened, and could not be before the deadline.
    Connect,
    /// SQLite has found the database damaged, or the disk did not keep what a checkpoint wrote into it; the
    /// pool lends no connection any more.
    Damaged,
    /// The pool was closed.
    Closed,
    /// The pool was opened with `access = "read-only"` and has no writer.
    ReadOnly,
    /// This process was forked from the one that opened the pool.
    Forked,
}

impl Refusal {
    /// Not by `From`: with a second one of those, `?` in a closure could not tell its error's type.
    pub(crate) fn into_error(self) -> CheckoutError {
        CheckoutError(Box::new(self))
    }

    /// Of a kind that has nothing to do with who holds connections and who waits.
    fn plain(role: &'static str, kind: CheckoutErrorKind) -> Self {
        Self {
            role,
            kind,
            waited: Duration::ZERO,
            limit: 0,
            held: 0,
            waiting: 0,
            longest: None,
            holders: Vec::new(),
            cause: None,
        }
    }
}

impl CheckoutError {
    pub(crate) fn read_only() -> Self {
        Refusal::plain("write", CheckoutErrorKind::ReadOnly).into_error()
    }

    pub(crate) fn forked(role: &'static str) -> Self {
        Refusal::plain(role, CheckoutErrorKind::Forked).into_error()
    }

    pub(crate) fn damaged(role: &'static str, damage: Arc<dyn Error + Send + Sync>) -> Self {
        let refusal = Refusal::plain(role, CheckoutErrorKind::Damaged);
        Refusal { cause: Some(damage), ..refusal }.into_error()
    }

    /// What went wrong, to match on.
    ///
    /// ```
    /// let pool = tenure::testing::temporary()?;
    /// let _writer = pool.write()?;
    /// let error = pool.try_write().unwrap_err();
    /// assert_eq!(error.kind(), tenure::CheckoutErrorKind::Unavailable);
    /// # Ok::<(), tenure::Error>(())
    /// ```
    pub fn kind(&self) -> CheckoutErrorKind {
        self.0.kind
    }

    /// How long the caller waited.
    ///
    /// ```
    /// use std::time::Duration;
    /// let pool = tenure::testing::temporary()?;
    /// let _writer = pool.write()?;
    /// let waiter = pool.clone();
    /// let wait = move || waiter.write_timeout(Duration::from_millis(3)).map(drop);
    /// let error = std::thread::spawn(wait).join().unwrap().unwrap_err();
    /// assert!(error.waited() >= Duration::from_millis(3));
    /// # Ok::<(), tenure::Error>(())
    /// ```
    pub fn waited(&self) -> Duration {
        self.0.waited
    }

    /// Who has held a connection of this role longest.
    ///
    /// ```
    /// let pool = tenure::testing::temporary()?;
    /// let _writer = pool.write()?;
    /// let error = pool.try_write().unwrap_err();
    /// assert!(error.longest_holder().is_some());
    /// # Ok::<(), tenure::Error>(())
    /// ```
    pub fn longest_holder(&self) -> Option<&Holder> {
        self.0.longest.as_ref()
    }

    /// Who holds and waits at the same time, one entry for each connection, when the kind is
    /// [`CheckoutErrorKind::WouldDeadlock`]; else empty.
    ///
    /// ```
    /// let pool = tenure::testing::temporary()?;
    /// let _writer = pool.write()?;
    /// let error = pool.write().unwrap_err();
    /// assert_eq!(error.kind(), tenure::CheckoutErrorKind::WouldDeadlock);
    /// let [holder] = error.holders() else { panic!("it is this thread alone") };
    /// println!("taken at {}, again at {}", holder.holds.place, holder.waits_for.place);
    /// # Ok::<(), tenure::Error>(())
    /// ```
    pub fn holders(&self) -> &[DeadlockedHolder] {
        &self.0.holders
    }

    pub(crate) fn outcome(&self) -> CheckoutOutcome {
        match self.0.kind {
            CheckoutErrorKind::Timeout => CheckoutOutcome::Timeout,
            CheckoutErrorKind::WouldDeadlock => CheckoutOutcome::Deadlock,
            CheckoutErrorKind::Overloaded => CheckoutOutcome::Overloaded,
            CheckoutErrorKind::Unavailable => CheckoutOutcome::Unavailable,
            CheckoutErrorKind::Connect => CheckoutOutcome::ConnectFailed,
            CheckoutErrorKind::Damaged => CheckoutOutcome::Damaged,
            // Only the first comes here: the others are refused before anybody asks.
            CheckoutErrorKind::Closed | CheckoutErrorKind::ReadOnly | CheckoutErrorKind::Forked => {
                CheckoutOutcome::Closed
            }
        }
    }
}

impl fmt::Display for CheckoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Refusal { role, waited, limit, held, waiting, .. } = &*self.0;
        match self.0.kind {
            CheckoutErrorKind::Timeout => {
                write!(f, "{role} checkout timed out after {waited:.1?}: {held} of {limit} connections held")?;
                self.write_longest(f)?;
                write!(f, "; give guards back sooner, ")?;
                f.write_str(match *role {
                    "read" => "raise `readers`, or wait for longer (`checkout_timeout`)",
                    "any" => "or raise the limit or the time-out",
                    _ => "keep slow work out of write transactions, or wait for longer (`checkout_timeout`)",
                })?;
                self.write_cause(f)
            }
            CheckoutErrorKind::WouldDeadlock => {
                write!(f, "{role} checkout refused: to wait would be in vain, {held} of {limit} connections held, each by a thread that waits itself")?;
                for (number, holder) in self.0.holders.iter().enumerate() {
                    write!(f, "{}{holder}", if number == 0 { ": " } else { "; " })?;
                }
                f.write_str("; give a guard back before you wait for another, or check them out in one order everywhere")
            }
            CheckoutErrorKind::Overloaded => {
                write!(f, "{role} checkout refused: {waiting} threads wait already (`max_waiters`), {held} of {limit} connections held")?;
                self.write_longest(f)?;
                f.write_str("; answer the client \"try again later\"")
            }
            CheckoutErrorKind::Unavailable => {
                write!(f, "no idle {role} connection: {held} of {limit} held, {waiting} waiting")?;
                self.write_longest(f)?;
                self.write_cause(f)
            }
            CheckoutErrorKind::Connect => {
                write!(f, "{role} checkout failed after {waited:.1?}: a connection could not be opened")?;
                match &self.0.cause {
                    Some(cause) => write!(f, ": {cause}"),
                    None => Ok(()),
                }
            }
            CheckoutErrorKind::Damaged => {
                write!(f, "{role} checkout refused: ")?;
                match &self.0.cause {
                    Some(cause) => write!(f, "{cause}"),
                    None => f.write_str("the pool has stopped"),
                }
            }
            CheckoutErrorKind::Closed => write!(f, "{role} checkout refused: the pool is closed"),
            CheckoutErrorKind::ReadOnly => f.write_str(
                "write checkout refused: the pool was opened with `access = \"read-only\"` and has no writer",
            ),
            CheckoutErrorKind::Forked => write!(f, "{role} checkout refused: {FORKED}"),
        }
    }
}

impl CheckoutError {
    fn write_cause(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.cause {
            Some(cause) => write!(f, "; a connection could not be opened: {cause}"),
            None => Ok(()),
        }
    }

    fn write_longest(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.longest {
            Some(holder) => {
                let (held, name, place) = (holder.held, holder.name(), &holder.place);
                write!(f, "; longest {held:.1?} by {name} at {place}")
            }
            None => Ok(()),
        }
    }
}

impl Error for CheckoutError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.cause.as_deref().map(|cause| cause as &(dyn Error + 'static))
    }
}
