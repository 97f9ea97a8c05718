//! A connection together with the handlers that SQLite calls for it.
//!
//! How does a busy handler learn whose wait it is serving? Alternatives that lost:
//!
//! * a thread-local: one thread may use connections of two pools, and raw statements of both would
//!   be counted in whichever was noted last;
//! * a table of `const`-generic functions, one per live connection: exact, but it bounds the number
//!   of connections of a whole process at compile time.
//!
//! SQLite's own functions carry a context pointer, so [`Handle`] binds a connection to the state its
//! handlers read, and owns both for as long as either lives.

use std::cell::Cell;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::Arc;

use rusqlite::{Connection, PrepFlags, ffi};

use super::close;
use super::own_statements::{OwnStatement, OwnStatements};
use super::probe::{self, Hooks};
use super::statement_cache::{CachedStatement, StatementCache};
use crate::fork::Birthplace;

/// One run of a statement: the same statement run again is another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    statement: usize,
    count: c_int,
}

/// What SQLite asks while it works.
pub(crate) trait Watch: Send + Sync + 'static {
    /// Asked when a lock is taken. `attempt` is 0 at the first call for one lock; `interrupted` says
    /// whether the connection was told to stop. `true` = slept, try again; `false` = give up.
    fn busy(&self, attempt: u32, interrupted: bool) -> bool;

    /// Asked every [`instructions`](Self::instructions), with what is running. `false` = stop.
    fn go_on(&self, running: &mut dyn Iterator<Item = Run>) -> bool;

    /// Told after a commit that the WAL of the main database has so many frames, and not of attached
    /// ones. `reads` = the connection has a read of it open.
    fn committed(&self, frames: u32, reads: impl FnOnce() -> bool);

    /// Whether [`committed`](Self::committed) is to be called, in the place of SQLite's own
    /// checkpoints.
    fn wants_commits(&self) -> bool;

    /// How often to ask [`go_on`](Self::go_on), in instructions of SQLite's virtual machine;
    /// `None` = never.
    fn instructions(&self) -> Option<c_int>;
}

/// A WAL of so many frames is checkpointed by who commits, unless SQLite is told otherwise.
const SQLITES_LIMIT: c_int = 1000;

/// What the handlers get to see.
struct Context<W> {
    watch: Arc<W>,
    connection: *mut ffi::sqlite3,
}

/// A connection together with the handlers that SQLite calls for it.
///
/// There is no way to a `&mut Connection` from here: exchanging two connections would part one from
/// the handlers it points to.
pub(crate) struct Handle<W: Watch> {
    /// From `Box::into_raw`, so that the statements which are kept find it where it was, wherever the
    /// handle goes. Closed by `drop`.
    connection: *mut Connection,
    /// From `Box::into_raw`; given back by `drop`. SQLite keeps a copy of the pointer, which a `Box`
    /// held here would invalidate each time it is moved.
    context: *mut Context<W>,
    /// A statement that goes stale when functions, collations or the authorizer are replaced.
    sentinel: Cell<*mut ffi::sqlite3_stmt>,
    own_statements: OwnStatements,
    /// Dropped by `drop`, before the connection.
    statements: ManuallyDrop<StatementCache>,
    birthplace: Birthplace,
}

// SAFETY: `context`, `sentinel`, `own_statements` and `statements` belong to the connection, which is
// owned by the handle alone and may be sent; `W` is `Send + Sync`. Who has a statement of the cache, and
// so shares a counter with it, borrows the handle, or has forgotten the statement.
unsafe impl<W: Watch> Send for Handle<W> {}

impl<W: Watch> Handle<W> {
    /// It keeps so many statements prepared.
    pub(crate) fn new(connection: Connection, watch: Arc<W>, statements: usize) -> Self {
        // SAFETY: only the pointer is taken; the connection stays open for the life of the handle.
        let pointer = unsafe { connection.handle() };
        let context = Box::into_raw(Box::new(Context { watch, connection: pointer }));
        let connection = Box::into_raw(Box::new(connection));
        let sentinel = Cell::new(ptr::null_mut());
        let own_statements = OwnStatements::default();
        let statements = ManuallyDrop::new(StatementCache::new(statements));
        let birthplace = Birthplace::here();
        let handle = Self { connection, context, sentinel, own_statements, statements, birthplace };
        handle.install();
        handle
    }

    pub(crate) fn watch(&self) -> &W {
        // SAFETY: made by `new`, released by `drop`, and only ever shared in between.
        unsafe { &(*self.context).watch }
    }

    /// Whether this process is a child of the one that opened the connection.
    pub(crate) fn is_forked(&self) -> bool {
        self.birthplace.is_elsewhere()
    }

    /// Puts the handlers in place.
    fn install(&self) {
        self.install_busy_handler();
        self.set_progress_handler(true);
        self.watch_commits();
    }

    /// Puts the busy handler (back) in place.
    pub(crate) fn install_busy_handler(&self) {
        let context = self.context.cast::<c_void>();
        // SAFETY: the connection is open for the life of `self`. `context` lives until `drop`, which
        // takes the handler away before it releases it. The callback reads it as a shared
        // `Context<W>`, on the thread that uses the connection.
        let code = unsafe { ffi::sqlite3_busy_handler(self.raw(), Some(busy::<W>), context) };
        debug_assert_eq!(code, ffi::SQLITE_OK, "sqlite3_busy_handler documents no failure");
    }

    /// Puts the hook (back) in place that is called after a commit, if it is wanted.
    pub(crate) fn watch_commits(&self) {
        if self.watch().wants_commits() {
            let context = self.context.cast::<c_void>();
            // SAFETY: as in `install`. It takes the place of the hook that SQLite checkpoints by.
            unsafe { ffi::sqlite3_wal_hook(self.raw(), Some(committed::<W>), context) };
        }
    }

    /// Puts the progress handler in place, if there is anything to ask, or takes it away.
    pub(crate) fn set_progress_handler(&self, wanted: bool) {
        let context = self.context.cast::<c_void>();
        let (every, progress) = match self.watch().instructions().filter(|_| wanted) {
            Some(every) => (every, Some(progress::<W> as unsafe extern "C" fn(_) -> _)),
            None => (0, None),
        };
        // SAFETY: as in `install`.
        unsafe { ffi::sqlite3_progress_handler(self.raw(), every, progress, context) }
    }

    /// Resets every statement that is in the middle of its rows, so that none pins a snapshot.
    ///
    /// Called when the connection comes back. Statements borrow the guard, so one that is still
    /// running then was leaked (`mem::forget`).
    ///
    /// They are reset and not finalized: [`close`](super::close) says why.
    pub(crate) fn reset_statements(&self) {
        // SAFETY: the handle is open, and no other thread uses it: `self` is not `Sync`.
        unsafe { close::reset_statements(self.raw()) }
    }

    /// Whether a transaction or a snapshot is open, or, if `statements`, a statement is running. It
    /// reads some fields; to ask `rusqlite` for each costs several times as much.
    pub(crate) fn is_in_use(&self, statements: bool) -> bool {
        // SAFETY: the handle is open, and no other thread uses it: `self` is not `Sync`. Null asks for
        // all databases of the connection, and for the first statement.
        unsafe {
            let raw = self.raw();
            if ffi::sqlite3_get_autocommit(raw) == 0
                || ffi::sqlite3_txn_state(raw, ptr::null()) != ffi::SQLITE_TXN_NONE
            {
                return true;
            }
            statements
                && Running { connection: raw, at: ptr::null_mut(), which: Which::All }
                    .next()
                    .is_some()
        }
    }

    /// Whether a statement that was made from SQL is in the middle of its rows.
    pub(crate) fn is_running(&self) -> bool {
        let (connection, at) = (self.raw(), ptr::null_mut());
        Running { connection, at, which: Which::WithText }.next().is_some()
    }

    /// Whether a statement is in the middle of its rows that would keep a transaction from its end.
    pub(crate) fn is_held_up(&self) -> bool {
        let (connection, at) = (self.raw(), ptr::null_mut());
        Running { connection, at, which: Which::InTheWay }.next().is_some()
    }

    /// Whether the transaction has written to an attached database.
    pub(crate) fn writes_to_attached(&self) -> bool {
        // SAFETY: the handle is open, and no other thread uses it. A name is valid until its database is
        // detached, which nobody does meanwhile, and null after the last. Before come "main" and "temp".
        unsafe {
            (2..)
                .map(|number| ffi::sqlite3_db_name(self.raw(), number))
                .take_while(|name| !name.is_null())
                .any(|name| ffi::sqlite3_txn_state(self.raw(), name) == ffi::SQLITE_TXN_WRITE)
        }
    }

    /// Lets those who were interrupted while nothing ran go on. SQLite forgets an interrupt when no
    /// statement is active, and a BLOB handle that an R-Tree keeps open in a transaction is one.
    pub(crate) fn forget_interrupt(&self) {
        // SAFETY: the handle is open, and no other thread uses it.
        if unsafe { ffi::sqlite3_is_interrupted(self.raw()) } != 0 {
            self.reset_statements();
        }
    }

    /// Finalizes all kept statements that nobody has.
    pub(crate) fn clear_kept(&self) {
        self.statements.clear();
    }

    /// Whether a constraint that is checked at COMMIT is violated now.
    pub(crate) fn has_deferred_violations(&self) -> bool {
        let (mut current, mut highest) = (0, 0);
        // SAFETY: the handle is valid for the life of `self`; the call writes two numbers to where it
        // is told.
        unsafe {
            ffi::sqlite3_db_status(
                self.raw(),
                ffi::SQLITE_DBSTATUS_DEFERRED_FKS,
                &raw mut current,
                &raw mut highest,
                0,
            );
        }
        current != 0
    }

    /// The statement that is kept for this text, if there is one that is not in use.
    #[inline]
    pub(crate) fn cached(&self, sql: &str) -> Option<CachedStatement<'_>> {
        self.statements.take(sql)
    }

    /// As [`cached`](Self::cached), if it was kept as one that only reads and changes rows.
    #[inline]
    pub(crate) fn cached_only_rows(&self, sql: &str) -> Option<CachedStatement<'_>> {
        self.statements.take_only_rows(sql)
    }

    /// Whether a statement of the cache is in use, or was forgotten.
    #[inline]
    pub(crate) fn has_cached_out(&self) -> bool {
        self.statements.out() > 0
    }

    /// Those were forgotten, and nobody has to look for them again.
    #[inline]
    pub(crate) fn write_cached_off(&self) {
        self.statements.write_off();
    }

    /// Prepares a statement that is kept for this text when it is dropped. `only_rows` is what the caller
    /// knows of it, for [`cached_only_rows`](Self::cached_only_rows).
    ///
    /// # Errors
    ///
    /// When the SQL is wrong.
    #[cold]
    pub(crate) fn prepare_to_keep(
        &self,
        sql: &str,
        only_rows: bool,
    ) -> rusqlite::Result<CachedStatement<'_>> {
        let statement = self.prepare_with_flags(sql, PrepFlags::SQLITE_PREPARE_PERSISTENT)?;
        // A text without a statement (a comment) has nothing to keep. That it has no text again is the
        // one way to learn it from `rusqlite`.
        if statement.expanded_sql().is_none() {
            return Ok(self.statements.do_not_keep(statement));
        }
        // SAFETY: it was prepared by the connection that has the cache, from this text, and is one.
        Ok(unsafe { self.statements.keep(sql, only_rows, statement) })
    }

    /// Runs one of the pool's own statements.
    pub(crate) fn run(&self, which: OwnStatement) -> rusqlite::Result<()> {
        // SAFETY: the handle is valid for the life of `self`, which is not `Sync`; `drop` finalizes
        // before it closes.
        unsafe { self.own_statements.run(self.raw(), which) }
    }

    /// Forgets which row was inserted last.
    pub(crate) fn forget_last_insert(&self) {
        // SAFETY: the handle is valid for the life of `self`; the call sets one number in it.
        unsafe { ffi::sqlite3_set_last_insert_rowid(self.raw(), 0) }
    }

    /// The extended code of what failed last; `SQLITE_OK`, `ROW` or `DONE` after a success.
    pub(crate) fn last_error(&self) -> c_int {
        // SAFETY: the handle is valid for the life of `self`; the call reads a number in it.
        unsafe { ffi::sqlite3_extended_errcode(self.raw()) }
    }

    /// From now on [`was_altered`](Self::was_altered) notices.
    pub(crate) fn post_sentinel(&self) {
        if !self.was_altered() {
            return;
        }
        let mut statement = ptr::null_mut();
        // SAFETY: the handle is open, the text ends with NUL, and the statement that comes back is
        // finalized by `was_altered` or `drop`. On failure it is null.
        unsafe {
            let text = c"SELECT 1".as_ptr();
            ffi::sqlite3_prepare_v2(self.raw(), text, -1, &raw mut statement, ptr::null_mut());
        }
        self.sentinel.set(statement);
    }

    /// Whether a function, a collation or the authorizer was replaced since the sentinel was posted:
    /// SQLite then expires all statements. So do a PRAGMA that sets a switch and CREATE INDEX.
    pub(crate) fn was_altered(&self) -> bool {
        let sentinel = self.sentinel.get();
        // SAFETY: a statement of this connection, prepared by `post_sentinel` and finalized only here
        // and in `drop`, which both forget it.
        if sentinel.is_null() || unsafe { ffi::sqlite3_expired(sentinel) } == 0 {
            return sentinel.is_null();
        }
        self.sentinel.set(ptr::null_mut());
        // SAFETY: as above; nobody else has the pointer.
        unsafe { ffi::sqlite3_finalize(sentinel) };
        true
    }

    /// Takes the hooks of others away, which is the only way to learn of them.
    pub(crate) fn take_hooks(&self, checkpoints: bool) -> Hooks {
        let hooks = probe::take_hooks(self, checkpoints, self.context.cast());
        self.watch_commits();
        hooks
    }

    pub(super) fn raw(&self) -> *mut ffi::sqlite3 {
        // SAFETY: made by `new`, released by `drop`, and only ever shared in between.
        unsafe { (*self.context).connection }
    }
}

impl<W: Watch> Deref for Handle<W> {
    type Target = Connection;

    #[inline]
    fn deref(&self) -> &Connection {
        // SAFETY: made by `new`, released by `drop`, and only ever shared in between.
        unsafe { &*self.connection }
    }
}

impl<W: Watch> Drop for Handle<W> {
    fn drop(&mut self) {
        if self.birthplace.is_elsewhere() {
            // The parent's: everything is left as it is.
            return;
        }
        // SAFETY: the connection is still open here. Should it outlive this (SQLite refuses to close
        // it), it holds no pointer to the context any more. The statements are this handle's own;
        // those of the cache refer to the connection, and are dropped first. What was lent of them
        // borrowed `self`, so it is back or was forgotten. The connection and the context came from
        // `Box::into_raw`, and nobody has the pointers any more.
        unsafe {
            ffi::sqlite3_busy_handler(self.raw(), None, ptr::null_mut());
            if self.watch().wants_commits() {
                ffi::sqlite3_wal_hook(self.raw(), None, ptr::null_mut());
            }
            ffi::sqlite3_progress_handler(self.raw(), 0, None, ptr::null_mut());
            ffi::sqlite3_finalize(self.sentinel.get());
            self.own_statements.finalize();
            ManuallyDrop::drop(&mut self.statements);
            close::close(*Box::from_raw(self.connection));
            drop(Box::from_raw(self.context));
        }
    }
}

/// # Safety
///
/// `context` is the pointer that [`Handle::install`] gave.
unsafe extern "C" fn busy<W: Watch>(context: *mut c_void, attempt: c_int) -> c_int {
    // SAFETY: promised by the caller; SQLite passes back what was installed, and the connection is
    // open: it is the one that asks.
    let (context, interrupted) = unsafe {
        let context = &*context.cast::<Context<W>>();
        (context, ffi::sqlite3_is_interrupted(context.connection) != 0)
    };
    let attempt = u32::try_from(attempt).unwrap_or(0);
    // Unwinding into C is not allowed: a panic gives up, and SQLite answers BUSY.
    let again = catch_unwind(AssertUnwindSafe(|| context.watch.busy(attempt, interrupted)));
    c_int::from(again.unwrap_or(false))
}

/// # Safety
///
/// `context` is the pointer that [`Handle::install`] gave.
unsafe extern "C" fn progress<W: Watch>(context: *mut c_void) -> c_int {
    // SAFETY: promised by the caller; SQLite passes back what was installed.
    let context = unsafe { &*context.cast::<Context<W>>() };
    let mut running =
        Running { connection: context.connection, at: ptr::null_mut(), which: Which::WithText };
    let go_on = catch_unwind(AssertUnwindSafe(|| context.watch.go_on(&mut running)));
    c_int::from(!go_on.unwrap_or(false))
}

/// # Safety
///
/// `context` is the pointer that [`Handle::install`] gave; `database` is a text that ends with NUL.
unsafe extern "C" fn committed<W: Watch>(
    context: *mut c_void,
    connection: *mut ffi::sqlite3,
    database: *const c_char,
    frames: c_int,
) -> c_int {
    // SAFETY: promised by the caller; SQLite passes back what was installed.
    let (context, database) = unsafe { (&*context.cast::<Context<W>>(), CStr::from_ptr(database)) };
    if database == c"main" {
        let frames = u32::try_from(frames).unwrap_or(0);
        let reads = || {
            // SAFETY: SQLite's own connection, whose hook this is.
            unsafe { ffi::sqlite3_txn_state(connection, database.as_ptr()) != ffi::SQLITE_TXN_NONE }
        };
        // The commit stands, whatever happens here.
        let _ = catch_unwind(AssertUnwindSafe(|| context.watch.committed(frames, reads)));
    } else if frames >= SQLITES_LIMIT {
        // What SQLite's own hook does, which ignores a failure as well: the next commit tries again.
        // SAFETY: the connection is open, and in its hook; the text is valid as long as this runs. Null
        // is allowed where the numbers of frames would go.
        unsafe {
            let (mode, none) = (ffi::SQLITE_CHECKPOINT_PASSIVE, ptr::null_mut());
            ffi::sqlite3_wal_checkpoint_v2(connection, database.as_ptr(), mode, none, none);
        }
    }
    ffi::SQLITE_OK
}

/// The statements of a connection that are running.
struct Running {
    connection: *mut ffi::sqlite3,
    at: *mut ffi::sqlite3_stmt,
    which: Which,
}

/// Statements of BLOB handles, which have no text, stay active between uses. R-Tree and FTS5 keep some for
/// themselves in a transaction, to read by.
#[derive(Clone, Copy, PartialEq)]
enum Which {
    All,
    /// Those that were made from SQL.
    WithText,
    /// And BLOB handles to write by, beside which SQLite does not commit.
    InTheWay,
}

impl Iterator for Running {
    type Item = Run;

    fn next(&mut self) -> Option<Run> {
        // SAFETY: made by `progress` and by `is_in_use` only, for as long as they run: the connection is
        // open, this is the thread that uses it, and nothing is finalized meanwhile. What is called
        // here reads.
        unsafe {
            loop {
                self.at = ffi::sqlite3_next_stmt(self.connection, self.at);
                if self.at.is_null() {
                    return None;
                }
                let counts = self.which == Which::All
                    || !ffi::sqlite3_sql(self.at).is_null()
                    || self.which == Which::InTheWay && ffi::sqlite3_stmt_readonly(self.at) == 0;
                if ffi::sqlite3_stmt_busy(self.at) != 0 && counts {
                    let count = ffi::sqlite3_stmt_status(self.at, ffi::SQLITE_STMTSTATUS_RUN, 0);
                    return Some(Run { statement: self.at.addr(), count });
                }
            }
        }
    }
}
