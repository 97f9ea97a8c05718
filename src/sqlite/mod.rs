//! WHAT a connection is: how it is opened, what may be done with it, and what must be clean before
//! the next borrower gets it.

mod baseline;
mod batch;
mod busy;
mod cached_statement;
mod check;
mod checkin;
mod checkpoint;
mod checkpoint_connection;
mod checkpointing;
mod copy;
mod damage;
mod extensions;
mod guard;
mod heap;
mod interrupt;
mod manager;
mod patience;
mod queries;
mod read_mark;
mod read_only;
mod read_session;
mod savepoint;
mod session;
mod snapshot;
mod sql_text;
mod suspicion;
mod transaction;
mod version;
mod views;
mod wal;

pub use guard::{Detached, ReadGuard, WriteGuard};
pub use interrupt::InterruptHandle;
pub use manager::Role;
pub use read_session::ReadSession;
pub use savepoint::Savepoint;
pub use session::Session;
pub use snapshot::Snapshot;
pub use transaction::{Transaction, TryCommitError};

pub(crate) use batch::{Batch, Panic, Part};
pub(crate) use checkpointing::{Checkpointing, PreparedCheckpoints};
pub(crate) use manager::{Leavings, Manager, OnConnect, Recipe};
pub(crate) use read_only::LeaveNoTrace;
pub(crate) use transaction::{Hook, run_hooks};
pub(crate) use version::check_wal_is_safe;
