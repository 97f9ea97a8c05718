//! What must be clean before the next borrower gets the connection.
//!
//! A pool that puts a connection back as it is passes on whatever its last holder left open: after a
//! raw `BEGIN` the next borrower's INSERT returns `Ok` and vanishes. So every check-in asks SQLite
//! whether a transaction is open (9 ns). One that is, is rolled back and counted; a connection on
//! which that fails is closed.

use rusqlite::TransactionState;

use super::session::ReadSession;
use crate::metrics::Repair;

/// Puts the connection right. `false` = it cannot be lent again.
pub(super) fn inspect(session: &ReadSession) -> bool {
    if session.is_condemned() {
        session.metrics().repair(Repair::Discarded);
        return false;
    }
    if session.connection().is_autocommit() && !pins_snapshot(session) {
        return true;
    }
    session.metrics().repair(Repair::OpenTransaction);
    tracing::warn!(
        pool = session.metrics().name(),
        role = session.role().name(),
        "a connection came back with a transaction open; it was rolled back",
    );
    // With autocommit on there is nothing to roll back: an unfinished statement keeps the snapshot,
    // and only closing the connection is sure to end it.
    let clean = session.roll_back().is_ok() && !pins_snapshot(session);
    if !clean {
        session.metrics().repair(Repair::Discarded);
    }
    clean
}

/// A statement that was forgotten in the middle of its rows keeps a read transaction open although
/// autocommit is on.
fn pins_snapshot(session: &ReadSession) -> bool {
    !matches!(session.connection().transaction_state(None::<&str>), Ok(TransactionState::None))
}
