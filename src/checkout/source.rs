//! Where connections come from: r2d2, given a manager that cannot hurt it.
//!
//! Two faults of r2d2 are kept away here. A panic inside `connect` or its error hook would lose that
//! connection's place for ever, so it becomes an error, or is kept from r2d2. And r2d2 reports a failed
//! connect as text, to one waiter only, so its error hook keeps the typed cause for whoever asks.

use std::error::Error;
use std::fmt;
use std::mem;
use std::sync::Arc;
use std::time::Instant;

use metrics::Histogram;
use parking_lot::Mutex;
use r2d2::ManageConnection;

use super::openings::{Opening, Openings};
use crate::error::{caught, quietly};
use crate::log::Log;

/// A manager whose errors may be handed to the threads that wait.
pub(crate) trait Manage: ManageConnection<Error: Send + Sync> {}

impl<M: ManageConnection<Error: Send + Sync>> Manage for M {}

/// The latest failure to open a connection, shared by all who wait for one.
pub(crate) type ConnectFailure = Arc<dyn Error + Send + Sync>;

/// A connection and what this layer notes about it.
pub(crate) struct Tracked<C> {
    pub(super) connection: C,
    /// Set when the connection must be closed instead of lent again.
    pub(super) discard: bool,
    /// Until a slot has it. Below the connection, for it ends when that is closed.
    pub(super) opening: Option<Opening>,
}

/// The manager that r2d2 sees.
pub(crate) struct Source<M> {
    manager: Arc<M>,
    last_failure: Arc<LastFailure>,
    openings: Arc<Openings>,
    seconds: Histogram,
}

impl<M> Source<M> {
    pub(super) fn new(
        manager: Arc<M>,
        last_failure: Arc<LastFailure>,
        openings: Arc<Openings>,
        seconds: Histogram,
    ) -> Self {
        Self { manager, last_failure, openings, seconds }
    }
}

impl<M: Manage> ManageConnection for Source<M> {
    type Connection = Tracked<M::Connection>;
    type Error = Failure<M::Error>;

    fn connect(&self) -> Result<Self::Connection, Self::Error> {
        let Some(opening) = self.openings.begin() else {
            return Err(Failure::PoolClosed);
        };
        // r2d2 asks for the error's text before it has put its books in order, so that is tried here.
        let text = |error: &M::Error| error.to_string();
        let attempt = || self.manager.connect().inspect_err(|error| drop(text(error)));
        let began = Instant::now();
        match caught(attempt) {
            Ok(Ok(connection)) => {
                self.seconds.record(began.elapsed());
                self.last_failure.set(None);
                Ok(Tracked { connection, discard: false, opening: Some(opening) })
            }
            Ok(Err(error)) => Err(Failure::Connect(error)),
            Err(message) => Err(Failure::Panicked(message)),
        }
    }

    fn is_valid(&self, connection: &mut Self::Connection) -> Result<(), Self::Error> {
        self.manager.is_valid(&mut connection.connection).map_err(Failure::Connect)
    }

    /// Asked by r2d2 only when the pool has already decided; the real inspection runs at check-in.
    fn has_broken(&self, connection: &mut Self::Connection) -> bool {
        connection.discard
    }
}

/// Why a connection could not be opened.
#[derive(Debug)]
pub(crate) enum Failure<E> {
    Connect(E),
    Panicked(String),
    /// Nobody waits for it.
    PoolClosed,
}

impl<E: fmt::Display> fmt::Display for Failure<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(error) => error.fmt(f),
            Self::Panicked(message) => write!(f, "opening a connection panicked: {message}"),
            Self::PoolClosed => f.write_str("the pool is closed"),
        }
    }
}

impl<E: Error + 'static> Error for Failure<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Connect(error) => error.source(),
            Self::Panicked(_) | Self::PoolClosed => None,
        }
    }
}

/// r2d2's error hook: remembers the latest cause, and says it in the log.
pub(crate) struct LastFailure {
    role: &'static str,
    log: Arc<Log>,
    cause: Mutex<Option<ConnectFailure>>,
}

impl LastFailure {
    pub(super) fn new(role: &'static str, log: Arc<Log>) -> Self {
        Self { role, log, cause: Mutex::new(None) }
    }

    fn set(&self, cause: Option<ConnectFailure>) {
        let before = mem::replace(&mut *self.cause.lock(), cause);
        // An error of the caller's, whose drop may panic. Not under the lock.
        quietly(|| drop(before));
    }

    pub(super) fn get(&self) -> Option<ConnectFailure> {
        self.cause.lock().clone()
    }
}

/// The half of [`LastFailure`] that r2d2 owns.
pub(crate) struct Notes(pub(super) Arc<LastFailure>);

impl fmt::Debug for Notes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Notes")
    }
}

impl<E: Error + Send + Sync + 'static> r2d2::HandleError<Failure<E>> for Notes {
    fn handle_error(&self, error: Failure<E>) {
        if matches!(error, Failure::PoolClosed) {
            return;
        }
        let LastFailure { role, log, .. } = &*self.0;
        let say = || tracing::warn!(pool = log.pool(), role, %error, "a connection could not be opened; trying again");
        quietly(say);
        self.0.set(Some(Arc::new(error)));
    }
}
