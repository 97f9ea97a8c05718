//! What must be clean before the next borrower gets the connection.
//!
//! A pool that puts a connection back as it is passes on whatever its last holder left: after a raw
//! `BEGIN` the next borrower's INSERT returns `Ok` and vanishes. So every check-in asks SQLite whether
//! a transaction is open or a snapshot held, which reads a field each. One that is, is ended. The rest
//! is looked at only after something that can leave it: a statement other than queries and changes of
//! rows, or the use of the connection itself. What is found then cannot be set back with certainty,
//! and the connection is closed; housekeeping opens another.

use super::read_session::ReadSession;
use super::suspicion::Suspicion;
use crate::config::AfterRaw;
use crate::ffi;
use crate::metrics::Repair;

/// Puts the connection right. `false` = it cannot be lent again.
#[inline]
pub(super) fn inspect(session: &ReadSession) -> bool {
    if session.was_touched() { put_right(session) } else { !session.is_condemned() }
}

#[inline(never)]
fn put_right(session: &ReadSession) -> bool {
    session.cut_interrupts();
    session.notice_timeout();
    session.notice_last_error();
    let mut clean = !session.is_condemned();
    if is_in_use(session) {
        clean &= end_what_is_open(session);
    }
    if session.suspicion() != Suspicion::None {
        // Some were perhaps prepared under settings that were set back since: many a PRAGMA acts on what
        // is prepared after it.
        session.handle().clear_kept();
        session.handle().flush_prepared_statement_cache();
        clean &= clean && session.undisturbed(|| nothing_left(session));
    }
    if !clean {
        session.metrics().repair(Repair::Discarded);
        session.log().discard(session.role().name(), session.place());
    }
    session.forget_what_was();
    session.count_reads();
    clean
}

/// Puts right what one part of a batch may have left to the next. `false` = there must be no next.
pub(super) fn between_parts(session: &ReadSession) -> bool {
    session.notice_timeout();
    session.notice_last_error();
    session.forget_part();
    !session.is_condemned() && session.suspicion() == Suspicion::None
}

/// Also on a connection that will be closed: its locks would stay for as long as it cannot be.
#[cold]
fn end_what_is_open(session: &ReadSession) -> bool {
    let mut ended = true;
    if !session.connection().is_autocommit() {
        repaired(session, Repair::OpenTransaction);
        ended = session.roll_back().is_ok();
    }
    // With autocommit on, a statement that was forgotten in the middle of its rows keeps its
    // snapshot, which keeps the WAL from being reset.
    if is_in_use(session) {
        repaired(session, Repair::UnfinishedStatement);
        session.handle().reset_statements();
    }
    ended && !is_in_use(session)
}

/// The closer look.
fn nothing_left(session: &ReadSession) -> bool {
    // The handlers are the pool's own: they can be put back with certainty. A time-out other than
    // zero shows that SQLite's own busy handler has replaced ours.
    let timeout =
        session.connection().pragma_query_value(None, "busy_timeout", |row| row.get::<_, i64>(0));
    if timeout.is_ok_and(|timeout| timeout != 0) {
        repaired(session, Repair::BusyHandler);
    }
    session.handle().install_busy_handler();
    session.handle().set_progress_handler(false);
    if session.put_heap_limits_back() {
        repaired(session, Repair::Pragma);
    }
    let found = match session.suspicion() {
        Suspicion::None => return true,
        Suspicion::Sql => differences(session),
        Suspicion::Raw => after_raw(session),
    };
    for repair in &found {
        repaired(session, *repair);
    }
    // `PRAGMA wal_autocheckpoint = 0` takes it away, and shows no other value.
    session.handle().watch_commits();
    found.is_empty()
}

/// `rusqlite()` was called: anything may have been done.
fn after_raw(session: &ReadSession) -> Vec<Repair> {
    if session.recipe().config.after_raw == AfterRaw::Discard {
        return vec![Repair::Raw];
    }
    let handle = session.handle();
    handle.set_prepared_statement_cache_capacity(session.recipe().config.statement_cache);
    // Whether a hook is set can only be learnt by taking it away. Where `on_connect` has set one,
    // whether it is still the same cannot be learnt at all; nor can anything about a hook of the
    // kind that few builds of SQLite have.
    let checkpoints = handle
        .pragma_query_value(None, "wal_autocheckpoint", |row| row.get::<_, i64>(0))
        .map_or(true, |pages| pages > 0);
    let usual = session.recipe().hooks(session.role());
    let hooks = handle.take_hooks(checkpoints);
    if usual.any() || ffi::has_preupdate_hooks() {
        return vec![Repair::Raw];
    }
    if hooks.any() {
        return vec![Repair::Hook];
    }
    let altered = handle.was_altered();
    let mut found = differences(session);
    if found.is_empty() && altered {
        found.push(Repair::Raw);
    }
    found
}

fn differences(session: &ReadSession) -> Vec<Repair> {
    match session.differences() {
        Ok(mut found) => {
            if session.pending.get() && !found.contains(&Repair::Pragma) {
                found.push(Repair::Pragma);
            }
            found
        }
        Err(error) => {
            let pool = session.log().pool();
            tracing::warn!(pool, %error, "cannot look at what a connection came back with");
            vec![Repair::Raw]
        }
    }
}

fn repaired(session: &ReadSession, repair: Repair) {
    session.metrics().repair(repair);
    session.log().repair(session.role().name(), session.place(), repair.found());
}

/// Whether anything is open or running. To ask every statement is only needed when the holder had one
/// in hand.
fn is_in_use(session: &ReadSession) -> bool {
    session.handle().is_in_use(session.was_statement_lent())
}
