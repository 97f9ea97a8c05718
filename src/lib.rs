//! A SQLite connection pool for thread-pool servers in which every checked-out connection has exactly
//! one owner, and the compiler proves it.
//!
//! ```
//! # fn main() -> Result<(), tenure::Error> {
//! # let directory = tempfile::tempdir().map_err(tenure::Error::other)?;
//! # let path = directory.path().join("app.db");
//! let pool = tenure::Pool::open(&path)?;
//!
//! // The one writing connection, in turn. The transaction borrows it mutably.
//! let mut writer = pool.write()?;
//! let tx = writer.transaction()?;
//! tx.execute_batch("CREATE TABLE task (id INTEGER PRIMARY KEY, title TEXT)")?;
//! tx.execute("INSERT INTO task (title) VALUES (?1)", ["write"])?;
//! tx.commit()?;
//! drop(writer);
//!
//! // One of many query-only connections; readers and the writer do not wait for each other.
//! let titles: i64 = pool.read()?.query_one("SELECT count(*) FROM task", [], |row| row.get(0))?;
//! assert_eq!(titles, 1);
//!
//! // Whole units of work: checkout, BEGIN IMMEDIATE, commit or rollback, check-in.
//! pool.transaction(|tx| {
//!     tx.execute("UPDATE task SET title = ?1 WHERE id = ?2", ("read", 1))?;
//!     Ok(())
//! })?;
//!
//! // Small writes of many threads share one commit. A caller that comes alone commits at once.
//! pool.group_commit(|tx| {
//!     tx.execute("INSERT INTO task (title) VALUES (?1)", ["share"])?;
//!     Ok(())
//! })?;
//!
//! // Several queries on one state of the database.
//! pool.snapshot(|snapshot| {
//!     snapshot.query_one("SELECT title FROM task WHERE id = ?1", [1], |row| {
//!         row.get::<_, String>(0)
//!     })?;
//!     Ok(())
//! })?;
//! # Ok(())
//! # }
//! ```
//!
//! # What is promised
//!
//! **One owner.** A guard belongs to the thread that checked it out: it is neither `Send` nor `Sync`.
//! To move a connection you say so, with [`ReadGuard::detach`] and [`Detached::attach`].
//!
//! ```compile_fail,E0277
//! let pool = tenure::testing::temporary().unwrap();
//! let writer = pool.write_owned().unwrap();
//! std::thread::spawn(move || writer.execute("DELETE FROM task", []));
//! ```
//!
//! ```
//! let pool = tenure::testing::temporary().unwrap();
//! let writer = pool.write_owned().unwrap();
//! let detached = writer.detach();
//! std::thread::spawn(move || detached.attach().execute("DELETE FROM task", []));
//! ```
//!
//! **One operation.** A transaction borrows its guard mutably, a savepoint its transaction, a
//! statement its session; the end of a transaction takes it by value.
//!
//! ```compile_fail,E0502
//! # fn main() -> Result<(), tenure::Error> {
//! let pool = tenure::testing::temporary()?;
//! let mut writer = pool.write()?;
//! let tx = writer.transaction()?;
//! writer.execute("INSERT INTO task VALUES ('behind its back')", [])?;
//! tx.commit()?;
//! # Ok(())
//! # }
//! ```
//!
//! ```
//! # fn main() -> Result<(), tenure::Error> {
//! # let pool = tenure::testing::temporary()?;
//! # pool.write()?.execute_batch("CREATE TABLE task (title TEXT)")?;
//! let mut writer = pool.write()?;
//! let tx = writer.transaction()?;
//! tx.execute("INSERT INTO task VALUES ('inside')", [])?;
//! tx.commit()?;
//! # Ok(())
//! # }
//! ```
//!
//! **Nothing inherited.** A transaction that was left open, however that came about, is rolled back
//! when the connection comes back, and a statement left in the middle of its rows is reset. After SQL
//! other than queries and changes of rows, and after [`ReadSession::rusqlite`], the connection is
//! compared with what it was: a changed PRAGMA, an attached database, a TEMP object, a hook, a function.
//! One that differs is closed, and another opened in the background. Each case is counted by reason.
//!
//! **A turn for everyone.** Who waits for a connection is served in order of arrival; every wait ends
//! by its deadline, and one that would be in vain because the holders wait for each other does not even
//! begin; the queue is bounded; an error says who has held a connection longest, and where
//! that one was checked out.
//!
//! **A durable answer.** With the default settings `Ok` from a commit means that the work is on the
//! disk. An error says whether it is certainly undone ([`CommitError::is_undone`]). After an input or
//! output error the connection is closed and opened anew.
//!
//! **No damage spread.** When SQLite finds the database damaged, the pool stops: nothing more is read
//! from it or committed to it. So it does when an fsync of its checkpoints fails, after which nobody knows what
//! the disk has kept; the WAL is left behind then, and is copied once more by the first to open the file when
//! nobody, in any process, has it open any more.
//!
//! **Safe across `fork`.** In a child process every operation on its parent's pool answers
//! [`CheckoutErrorKind::Forked`] or the like, and what is dropped there neither rolls back nor closes
//! nor deletes anything.
//!
//! **Nothing hidden.** Who holds and who waits is in [`Pool::status`], and what for if the holder has
//! [said so](ReadGuard::set_label); what was counted and measured is in the metrics of
//! [`metrics::METRICS`], which says of each what to do when it moves.
//!
//! # Limits
//!
//! * Inside a transaction SQL text that begins or ends one is refused, except through
//!   [`ReadSession::rusqlite`]: there a `ROLLBACK; BEGIN` makes the commit end something else. A
//!   statement that would write is refused on a reader when it is run, not when it is prepared.
//! * Rows in a TEMP table that `on_connect` made stay there: such a table belongs to the connection.
//!   The SQL functions `changes()` and `total_changes()` go on to show the work of the holder before.
//!   So do contents of a `:memory:` database that `on_connect` attached. What the look at a
//!   connection after [`ReadSession::rusqlite`] cannot see is listed at [`AfterRaw::Inspect`].
//! * A closure of [`Pool::group_commit`] that was begun is waited for without a deadline. One that waits
//!   for a lock which another of its callers holds waits for ever: hold none while you call it. If
//!   such a closure commits through [`ReadSession::rusqlite`], the others of its batch get
//!   [`CommitError::NotOpen`], for what became of them is not known. Its hooks run on another caller's
//!   thread: that caller, if it has hooks too or leads, waits for them.
//! * When SQLite has rolled a transaction back in the middle (ON CONFLICT ROLLBACK), sessions run nothing
//!   more in it. A statement that was prepared before does, and commits by itself: do not go on with one
//!   after such an error. The commit then says [`CommitError::NotOpen`].
//! * The busy handler and the progress handler are the pool's. One that `on_connect` sets is replaced.
//!   With `checkpoints = "background"` so is the writer's `PRAGMA wal_autocheckpoint`, but not a WAL hook
//!   of `on_connect`: that one then does the checkpoints, and the pool none.
//! * On Linux a pool calls `membarrier`. A sandbox may refuse it, and checkouts cost a little more then;
//!   one that ends the process for a system call it does not know must be told to let it pass.
//! * `wal_limit_mib` does not hold for one transaction that is larger by itself, while a reader keeps an
//!   old state of the database (or has for more than 200 ms, up to two seconds ago, beside reads that
//!   overlap), nor, as far as checkpoints do not catch up, against writers of other
//!   processes. A WAL that has outgrown it is cut back when nobody has written for a second, or sooner if
//!   `on_connect` sets `PRAGMA journal_size_limit`, for which a commit waits; a smaller file keeps its size
//!   until the pool is closed, for its blocks are used again. At three
//!   quarters of the limit a commit waits for the disk, at most for a second, and for readers, at most
//!   200 ms: not for a snapshot that is older than 100 ms, never twice for the same, and no more than a
//!   ninth of all time in vain, apart from 2 ms now and then. Beyond the limit it waits for 2 ms at most,
//!   until little is left to copy. When the WAL is at half of the limit and reads overlap without a gap, the
//!   writer's turn is kept for up to 2 ms at a time until one comes.
//! * Whoever ends a transaction through `rusqlite()` and begins another in its place gets `Ok` from its
//!   commit, which is that of the other. So does the first closure of a group commit; a later one is told.
//! * While readers are busy, a `PRAGMA wal_checkpoint` that waits for no lock may find the pool's read
//!   transaction in its way (`read_mark`); one that waits gets through in some milliseconds. Commits from
//!   outside the pool are noticed only while the pool's writer makes none: beside both, the pool's
//!   checkpoints are those that keep the WAL small.
//! * A pool that can write and only reads changes the header of the file once all the same, while readers
//!   are busy (`read_mark`).
//! * The place that is named when the WAL is held is a snapshot's, or else that of whoever has held a
//!   reading connection longest: whether a single query is still running cannot be seen from outside.
//! * [`Pool::backup_to`] cannot copy an encrypted database.
//! * A statement that is leaked (`mem::forget`) is reset, so that it keeps no snapshot and no lock. But it
//!   keeps its memory, and once the pool closes its connection, the files of that, for as long as the
//!   process runs: nobody can tell it from one that is in use. The log says so.
//! * `statement_timeout` tells statements apart by where they are in memory. Two that are prepared one
//!   after the other through one reference from [`ReadSession::rusqlite`] may be taken for one.
//! * With an authorizer of `on_connect` that forbids to look at a connection's state, the connection is
//!   closed after SQL other than queries and changes of rows.
//! * A busy or progress handler that was set through [`ReadSession::rusqlite`] is taken away at check-in,
//!   but only one that SQLite shows (a busy time-out) is counted. With hooks set by `on_connect`, every
//!   use of it closes the connection: whether a hook is still the same cannot be seen.
//! * A function of yours that fails with SQLite's code for damage stops the pool. One that ends a
//!   transaction through the connection it is called by (which takes `unsafe`) makes the commit's answer
//!   wrong.
//! * Inside a transaction a savepoint is not prepared: use [`Transaction::savepoint`], or execute its SQL.
//! * `SAVEPOINT tenure_1` and so on, as SQL text, collide with the names of [`Savepoint`].
//! * Refusals (BUSY without a wait) are counted for statements that a session runs, not for those of
//!   [`ReadSession::rusqlite`] or of a prepared statement.
//! * A pool that was opened before the metrics recorder was installed records nothing, for ever; the log
//!   says so as soon as there is one.
//! * A guard that is leaked (`mem::forget`) takes its connection with it until its thread has ended and
//!   a second or two more have passed; then another is opened in its place, and the log says whose it
//!   was. The leaked one stays open, and if it had begun to write, the database stays locked. A leaked
//!   [`Detached`] belongs to no thread and is never noticed, except on the status page.
//! * Threads that wait for each other's connections are noticed, in all pools of the process, and so
//!   are those that would wait for themselves: see [`CheckoutErrorKind::WouldDeadlock`]. A thread that
//!   waits for something else, a lock of yours or a channel, is not: there the deadline ends it. Nor is
//!   a wait for a guard that was leaked by a thread that lives on, or for a leaked [`Detached`].
//! * [`Pool::close`] waits for a connection that is being opened as well: one whose `on_connect` does
//!   not return keeps it until its deadline. A pool that is only dropped does not wait; what is being
//!   opened then is closed as soon as it is there.
//! * [`Pool::resize`] goes up to 64 readers, or to what the pool was opened with if that is more, and
//!   never down to none. There is one writer, always.
//! * One process, one file: turns are taken among the threads of one pool. Against other processes, and
//!   against other connections of this one, there is SQLite's own locking and the busy handler.
//! * In a child made by `fork`, what the parent opened is refused and left alone, for ever: its memory
//!   and its descriptors stay until the child ends. A child made by the bare system call, past the C
//!   library, is not noticed. Statements and rows that the child inherits are `rusqlite`'s: do not drop
//!   them there. The child may open a pool of its own; other threads that were at work at the moment
//!   of the fork can have left locks of the libraries below (`parking_lot`, the metrics recorder) taken
//!   for ever, so fork before they start, or let the child `exec`.
//! * Never open the database file by other means than SQLite in the same process: closing any
//!   descriptor of it gives up all of SQLite's locks on it.
//! * No async. See the README for how to call it from async servers.
//!
//! # Panics
//!
//! The crate panics where its documentation says so, and where a bug in it is found. A panic of a
//! closure of yours passes through, after what it held was given back. One in `on_connect` on the
//! pool's own thread becomes an error.
//!
//! # Cargo features
//!
//! * `bundled` (default): compiles the SQLite that `libsqlite3-sys` carries. Without it the system's
//!   library is linked; one with the WAL-reset bug is refused when a pool in WAL mode is opened.
//! * `prometheus`: the module `prometheus`, which installs the exporter for Prometheus and renders it.
//!
//! # Versions
//!
//! [`rusqlite`] is part of the interface and exported here: a new version of it is a breaking change. So
//! are, and for the same reason, [`r2d2`] in [`checkout`] (exported too), the facade `metrics` (0.24), whose
//! recorder must be of the version that this crate uses, and the exporter in `prometheus`.
//! The least Rust version is the one in `rust-version` of the manifest. It is a stable release that is
//! at least six months old, and raising it is a minor change. Enums, the fields of
//! errors, configuration and status are `#[non_exhaustive]`; new metrics may be added in minor versions, and none renamed.

mod backup;
mod builder;
mod check;
pub mod checkout;
mod config;
mod error;
mod ffi;
mod file;
mod fork;
mod group;
mod housekeeping;
mod log;
pub mod metrics;
mod pool;
#[cfg(feature = "prometheus")]
pub mod prometheus;
mod sqlite;
pub mod status;
pub mod testing;
mod who;
mod work;

pub use backup::BackupProgress;
pub use builder::Builder;
pub use check::{CheckReport, ForeignKeyViolation};
pub use config::{
    Access, AfterRaw, Checkpoints, ConfigError, ConfigFault, JournalMode, PoolConfig, Synchronous,
};
pub use error::{
    BackupError, BeginError, BoxError, CheckoutError, CheckoutErrorKind, Claim, CloseError,
    CommitError, ConnectError, DeadlockedHolder, Error, FileProblem, OpenError, ResizeError,
    RollbackError, SavepointError,
};
pub use ffi::CachedStatement;
pub use pool::Pool;
pub use r2d2;
pub use rusqlite;
pub use sqlite::{
    Detached, InterruptHandle, ReadGuard, ReadSession, Role, Savepoint, Session, Snapshot,
    Transaction, TryCommitError, WriteGuard,
};

// The programs in the README are compiled as documentation tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
