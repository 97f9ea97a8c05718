//! Stopping from outside what a holder's connection is doing.
//!
//! SQLite's own function reaches a connection for as long as it is open, whoever has it. This reaches
//! a checkout: at check-in the way to the connection is cut, under the lock that an interrupt takes,
//! so that it can never hit the next holder's work.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::fork::Birthplace;

/// The way to the connection, for as long as the checkout lasts.
type Way = Arc<Mutex<Option<rusqlite::InterruptHandle>>>;

/// Stops what runs on a checked-out connection, from any thread.
///
/// Made by [`ReadSession::interrupt_handle`](crate::ReadSession::interrupt_handle).
///
/// ```
/// use tenure::rusqlite::ErrorCode;
///
/// let pool = tenure::testing::temporary()?;
/// let reader = pool.read()?;
/// let handle = reader.interrupt_handle();
/// let endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";
/// std::thread::scope(|scope| {
///     let (done, is_done) = std::sync::mpsc::channel::<()>();
///     // Again and again: an interrupt that comes before the statement runs has no effect.
///     scope.spawn(move || while is_done.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
///         handle.interrupt();
///     });
///     let stopped = reader.query_one(endless, [], |row| row.get::<_, i64>(0)).unwrap_err();
///     assert_eq!(stopped.sqlite_error_code(), Some(ErrorCode::OperationInterrupted));
///     drop(done);
/// });
/// # Ok::<(), tenure::Error>(())
/// ```
#[derive(Clone)]
pub struct InterruptHandle {
    way: Way,
    birthplace: Birthplace,
}

impl InterruptHandle {
    /// Stops the statements that are running on the connection now; `false` when it has been given
    /// back, and nothing was done.
    ///
    /// A running statement fails with
    /// [`OperationInterrupted`](rusqlite::ErrorCode::OperationInterrupted), and one that changed rows
    /// is undone. One that waits for a lock of another connection gives up within two milliseconds
    /// with [`DatabaseBusy`](rusqlite::ErrorCode::DatabaseBusy), and a transaction that waits to begin
    /// with [`BeginError::Interrupted`](crate::BeginError::Interrupted). When nothing is running,
    /// nothing happens; but an open BLOB counts as running, and so does one that an R-Tree keeps open in a
    /// transaction: then the next statement fails. A thread that waits for a *connection* is not reached.
    ///
    /// In a child that was forked from the process that opened the pool it does nothing.
    pub fn interrupt(&self) -> bool {
        if self.birthplace.is_elsewhere() {
            return false;
        }
        let way = self.way.lock();
        way.as_ref().map(rusqlite::InterruptHandle::interrupt).is_some()
    }
}

impl fmt::Debug for InterruptHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let checked_out = !self.birthplace.is_elsewhere() && self.way.lock().is_some();
        f.debug_struct("InterruptHandle").field("checked_out", &checked_out).finish()
    }
}

/// The handles that were given out during one checkout.
#[derive(Default)]
pub(super) struct Interrupts(std::cell::RefCell<Option<Way>>);

impl Interrupts {
    pub(super) fn handle(&self, connection: &rusqlite::Connection) -> InterruptHandle {
        let mut way = self.0.borrow_mut();
        let open = || Arc::new(Mutex::new(Some(connection.get_interrupt_handle())));
        let way = Arc::clone(way.get_or_insert_with(open));
        InterruptHandle { way, birthplace: Birthplace::here() }
    }

    /// The checkout is over. An interrupt under way is waited for.
    pub(super) fn cut(&self) {
        if let Some(way) = self.0.take() {
            *way.lock() = None;
        }
    }
}
