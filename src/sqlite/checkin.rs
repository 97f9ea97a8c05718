//! What must be clean before the next borrower gets the connection.
//!
//! A pool that puts a connection back as it is passes on whatever its last holder left open: after a
//! raw `BEGIN` the next borrower's INSERT returns `Ok` and vanishes. So every check-in asks SQLite
//! whether a transaction is open or a snapshot held (two calls that read a field each). One that is,
//! is ended and counted; a connection on which that fails is closed.

use rusqlite::TransactionState;

use super::read_session::ReadSession;
use crate::metrics::Repair;

/// Puts the connection right. `false` = it cannot be lent again.
pub(super) fn inspect(session: &ReadSession) -> bool {
    let mut clean = !session.is_condemned();
    // Also on one that will be closed: a leaked statement keeps SQLite from closing it, and its locks
    // would stay.
    if !session.connection().is_autocommit() {
        repaired(session, Repair::OpenTransaction, "a transaction open; it was rolled back");
        clean &= session.roll_back().is_ok();
    }
    // With autocommit on, a statement that was forgotten in the middle of its rows keeps its
    // snapshot, which keeps the WAL from being reset.
    if pins_snapshot(session) {
        repaired(session, Repair::UnfinishedStatement, "a statement unfinished; it was reset");
        session.reset_statements();
        clean &= !pins_snapshot(session);
    }
    if !clean {
        session.metrics().repair(Repair::Discarded);
    }
    session.forget_last_insert();
    clean
}

fn repaired(session: &ReadSession, repair: Repair, what: &str) {
    session.metrics().repair(repair);
    let (pool, role) = (session.metrics().name(), session.role().name());
    tracing::warn!(pool, role, "a connection came back with {what}");
}

fn pins_snapshot(session: &ReadSession) -> bool {
    !matches!(session.connection().transaction_state(None::<&str>), Ok(TransactionState::None))
}
