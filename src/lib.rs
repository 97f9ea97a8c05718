//! stub

mod builder;
mod checkout;
mod config;
mod error;
mod ffi;
mod file;
mod housekeeping;
pub mod metrics;
mod pool;
mod sqlite;
pub mod status;
pub mod testing;

pub use builder::Builder;
pub use config::{Access, JournalMode, PoolConfig, Synchronous};
pub use error::{
    BeginError, BoxError, CheckoutError, CheckoutErrorKind, CommitError, ConfigError, ConnectError,
    Error, OpenError, RollbackError, SavepointError,
};
pub use pool::Pool;
pub use rusqlite;
pub use sqlite::{
    Detached, ReadGuard, ReadSession, Role, Savepoint, Session, Snapshot, Transaction,
    TryCommitError, WriteGuard,
};
