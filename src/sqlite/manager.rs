//! How a connection is made: the same way each time, for the first one and for every replacement.
//!
//! `r2d2_sqlite` opens the file; this adds what makes one connection like the other. The order matters.
//! First what needs no look into the file: the time-out for locks and what protects the file from SQL.
//! Then the caller's `on_connect`, which may have to give a key before anything can be read. Then the
//! settings. Last, for readers, `query_only`, and the busy handler. Neither `rusqlite` nor SQLite is
//! asked to interpret the path: it is absolute here, so it cannot be taken for a URI.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use r2d2::ManageConnection;
use r2d2_sqlite::SqliteConnectionManager;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use tempfile::TempDir;

use super::busy::{Busy, Limits};
use super::checkin;
use super::damage::Damage;
use super::read_mark::Reads;
use super::read_only::LeaveNoTrace;
use super::read_session::ReadSession;
use super::session::Session;
use super::views::Views;
use super::wal::Wal;
use crate::config::{Access, PoolConfig};
use crate::error::{BoxError, CheckoutError, ConnectError, is_busy};
use crate::ffi::{Handle, Hooks, learn_hooks};
use crate::file;
use crate::log::Log;
use crate::metrics::{PoolMetrics, Publish};

/// What a connection is for.
///
/// ```
/// use tenure::{Pool, Role};
///
/// let directory = tempfile::tempdir()?;
/// let pool = Pool::builder()
///     .database(directory.path().join("app.db"))
///     .on_connect(|connection, role| {
///         if role == Role::Read {
///             connection.pragma_update(None, "temp_store", "memory")?;
///         }
///         Ok(())
///     })
///     .open()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Role {
    /// One of many, query-only.
    Read,
    /// The one that writes.
    Write,
    /// The pool's own, for checkpoints off the commit path and for what
    /// [`read_mark`](crate::PoolConfig::read_mark) says: a read transaction, and one commit. It is never
    /// lent.
    Checkpoint,
}

impl Role {
    /// As in errors, in the log and in the label `role` of metrics.
    ///
    /// ```
    /// assert_eq!(tenure::Role::Write.name(), "write");
    /// ```
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Checkpoint => "checkpoint",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The caller's closure for every new connection.
pub(crate) type OnConnect = dyn Fn(&mut Connection, Role) -> Result<(), BoxError> + Send + Sync;

/// What all connections of a pool have in common.
pub(crate) struct Recipe {
    pub(crate) path: PathBuf,
    pub(crate) config: PoolConfig,
    pub(crate) on_connect: Option<Box<OnConnect>>,
    pub(crate) metrics: Arc<PoolMetrics>,
    pub(crate) log: Arc<Log>,
    /// What `on_connect` sets, for readers and for the writer.
    pub(crate) hooks: [OnceLock<Hooks>; 2],
    pub(crate) damage: OnceLock<Arc<Damage>>,
    /// Told by the writer when it commits, if the pool checkpoints in the background.
    pub(crate) wal: OnceLock<Arc<Wal>>,
    /// Told by readers that they are busy, if that spares them something.
    pub(crate) reads: OnceLock<Arc<Reads>>,
    pub(crate) views: Views,
    /// Had by the pool and its connections. Not by this, which a thread that has opened one for the pool
    /// may be the last to let go, at any time.
    pub(crate) leavings: Weak<Leavings>,
}

/// What is removed when the pool and its connections are gone, by whoever lets go of the last.
pub(crate) struct Leavings {
    /// Of a read-only pool.
    pub(crate) _no_trace: Option<Arc<LeaveNoTrace>>,
    pub(crate) _directory: Option<TempDir>,
}

impl Recipe {
    /// Why no connection is to be lent any more.
    pub(crate) fn refusal(&self, role: Role) -> Option<CheckoutError> {
        let damage = self.damage.get()?;
        Some(CheckoutError::damaged(role.name(), Arc::clone(damage) as _))
    }

    /// The hooks that `on_connect` sets on connections of this role.
    pub(super) fn hooks(&self, role: Role) -> Hooks {
        self.hooks[role as usize].get().copied().unwrap_or_default()
    }

    /// Learns which hooks `on_connect` sets, from a connection that will not be lent.
    pub(crate) fn learn_hooks(&self, role: Role, connection: &Connection) {
        let checkpoints = connection
            .pragma_query_value(None, "wal_autocheckpoint", |row| row.get::<_, i64>(0))
            .is_ok_and(|pages| pages > 0);
        let _ = self.hooks[role as usize].set(learn_hooks(connection, checkpoints));
    }

    /// Whether `on_connect` sets a WAL hook on the writer, which `learn_hooks` has found out.
    pub(crate) fn has_wal_hook(&self) -> bool {
        self.hooks(Role::Write).wal
    }

    /// The size of the WAL file. Looking at it needs no descriptor, so it costs no lock.
    pub(super) fn wal_bytes(&self) -> u64 {
        let mut name = self.path.as_os_str().to_owned();
        name.push("-wal");
        std::fs::metadata(name).map_or(0, |found| found.len())
    }

    /// What a second's tick looks at.
    pub(crate) fn look_at_views(&self) {
        let limit = Some(self.config.snapshot_warn_after).filter(|limit| !limit.is_zero());
        self.views.report(limit, &self.log);
        self.publish_metrics();
    }

    pub(crate) fn publish_metrics(&self) {
        self.views.publish(&self.metrics);
        let bytes = self.wal_bytes();
        let (frames, backfilled) = match self.wal.get() {
            // The file may have been removed, or cut back, since the last commit.
            Some(wal) if bytes > 0 => (wal.frames(), wal.backfilled().frames),
            _ => (0, 0),
        };
        self.metrics.wal(bytes, frames, backfilled);
    }

    /// No connection is lent any more.
    pub(super) fn stop_for(&self, damage: Damage) {
        let mut first = false;
        let damage = self.damage.get_or_init(|| {
            first = true;
            Arc::new(damage)
        });
        if first {
            self.metrics.damaged();
            tracing::error!(pool = self.metrics.name(), %damage, "the pool stops");
        }
    }
}

impl Publish for Recipe {
    fn publish(&self) {
        self.publish_metrics();
    }
}

impl Drop for Recipe {
    /// The pool is gone, and all its connections: nobody would look at these any more.
    fn drop(&mut self) {
        self.metrics.oldest_snapshot(Duration::ZERO);
        self.metrics.wal(0, 0, 0);
        self.metrics.not_damaged();
    }
}

/// The end of a connection.
impl Recipe {
    /// To be called before it is closed. If the pool has stopped, the WAL is neither checkpointed nor
    /// removed, even by the last to close: it may be all that there is of what was committed.
    pub(super) fn leave_wal_if_stopped(&self, connection: Option<&Connection>) {
        if let Some(connection) = connection.filter(|_| self.damage.get().is_some()) {
            let leave = DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
            if let Err(error) = connection.set_db_config(leave, true) {
                tracing::error!(pool = self.log.pool(), %error, "cannot keep a connection from removing the WAL");
            }
        }
    }
}

/// Makes and inspects the connections of one role.
pub(crate) struct Manager {
    source: SqliteConnectionManager,
    recipe: Arc<Recipe>,
    role: Role,
}

impl Manager {
    pub(crate) fn new(recipe: Arc<Recipe>, role: Role) -> Self {
        let access = match recipe.config.access {
            Access::ReadWrite => OpenFlags::SQLITE_OPEN_READ_WRITE,
            Access::ReadOnly => OpenFlags::SQLITE_OPEN_READ_ONLY,
        };
        // One thread at a time uses a connection, which is what NO_MUTEX asks for. The file exists:
        // nothing is created here.
        let flags = access | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_EXRESCODE;
        let source = SqliteConnectionManager::file(&recipe.path).with_flags(flags);
        Self { source, recipe, role }
    }

    /// Opens and configures, up to what lending it needs.
    pub(crate) fn open(&self) -> Result<Connection, ConnectError> {
        self.try_to_open().map_err(|error| match error {
            ConnectError::Open { source } | ConnectError::Setting { source, .. }
                if source.sqlite_error_code() == Some(ErrorCode::CannotOpen)
                    && let Some(source) = file::no_descriptor_left() =>
            {
                ConnectError::TooManyFiles { source }
            }
            ConnectError::Setting { setting, source } if is_busy(&source) => ConnectError::Busy {
                setting,
                limit: self.recipe.config.busy_timeout,
                source: Box::new(source),
            },
            other => other,
        })
    }

    fn try_to_open(&self) -> Result<Connection, ConnectError> {
        let Recipe { config, on_connect, .. } = &*self.recipe;
        let mut connection =
            self.source.connect().map_err(|source| ConnectError::Open { source })?;
        self.recipe.leave_wal_if_stopped(Some(&connection));
        protect(&connection, config)?;
        if let Some(on_connect) = on_connect {
            on_connect(&mut connection, self.role)
                .map_err(|source| ConnectError::OnConnect { source })?;
            if !connection.is_autocommit() {
                return Err(ConnectError::OnConnectLeftTransaction);
            }
        }
        configure(&connection, config)?;
        Ok(connection)
    }
}

impl ManageConnection for Manager {
    type Connection = Session;
    type Error = ConnectError;

    fn connect(&self) -> Result<Session, ConnectError> {
        // `None`: the pool has ended meanwhile, and nobody will have this connection.
        let leavings = self.recipe.leavings.upgrade();
        let connection = self.open()?;
        let Recipe { config, metrics, .. } = &*self.recipe;
        if self.role == Role::Read {
            set(&connection, "query_only", "query_only", true)?;
        }
        let limits = Limits {
            busy: config.busy_timeout,
            statement: Some(config.statement_timeout).filter(|limit| !limit.is_zero()),
        };
        let wal = self.recipe.wal.get().filter(|_| self.role == Role::Write).cloned();
        let busy = Arc::new(Busy::new(limits, self.role, Arc::clone(metrics), wal));
        let handle = Handle::new(connection, busy, config.statement_cache);
        Ok(Session::new(ReadSession::new(handle, self.role, Arc::clone(&self.recipe), leavings)))
    }

    /// Never asked: connections to a local file do not go away while idle.
    fn is_valid(&self, _: &mut Session) -> Result<(), ConnectError> {
        Ok(())
    }

    #[inline]
    fn has_broken(&self, session: &mut Session) -> bool {
        !checkin::inspect(session)
    }
}

/// What needs no look into the file.
fn protect(connection: &Connection, config: &PoolConfig) -> Result<(), ConnectError> {
    let setting = |setting| move |source| ConnectError::Setting { setting, source };
    connection.busy_timeout(config.busy_timeout).map_err(setting("busy_timeout"))?;
    connection
        .set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, config.defensive)
        .map_err(setting("defensive"))?;
    connection
        .set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, config.trusted_schema)
        .map_err(setting("trusted_schema"))?;
    connection.set_prepared_statement_cache_capacity(config.statement_cache);
    Ok(())
}

fn configure(connection: &Connection, config: &PoolConfig) -> Result<(), ConnectError> {
    set(connection, "cell_size_check", "cell_size_check", config.cell_size_check)?;
    // Negative: in KiB rather than in pages.
    set(connection, "cache_size_kib", "cache_size", -i64::from(config.cache_size_kib))?;
    set(connection, "mmap_size_mib", "mmap_size", i64::from(config.mmap_size_mib) << 20)?;
    set(connection, "foreign_keys", "foreign_keys", config.foreign_keys)?;
    if config.access == Access::ReadWrite {
        set_journal_mode(connection, config)?;
    }
    // After the journal mode, which chooses what it means.
    set(connection, "synchronous", "synchronous", config.synchronous.name())
}

fn set(
    connection: &Connection,
    setting: &'static str,
    pragma: &str,
    value: impl rusqlite::ToSql,
) -> Result<(), ConnectError> {
    // Not what `on_connect` has attached. Some pragmas answer with a row, which is no error.
    connection
        .pragma(Some("main"), pragma, value, |_| Ok(()))
        .map_err(|source| ConnectError::Setting { setting, source })
}

/// SQLite does not call the busy handler for a change of journal mode, so it is tried again here.
fn set_journal_mode(connection: &Connection, config: &PoolConfig) -> Result<(), ConnectError> {
    let failed = |source| ConnectError::Setting { setting: "journal_mode", source };
    let wanted = config.journal_mode.name();
    let pages: i64 =
        connection.pragma_query_value(None, "page_count", |row| row.get(0)).map_err(failed)?;
    let began = Instant::now();
    loop {
        let found = journal_mode(connection).map_err(failed)?;
        if found == wanted {
            return Ok(());
        }
        let changed =
            connection.pragma_update_and_check(Some("main"), "journal_mode", wanted, |row| {
                row.get::<_, String>(0)
            });
        match changed {
            Ok(mode) if mode == wanted => {
                // A new database has no mode that anybody had chosen.
                if pages > 0 {
                    tracing::info!(from = found, to = mode, "the journal mode was changed");
                }
                return Ok(());
            }
            Ok(found) => return Err(ConnectError::JournalMode { wanted, found }),
            Err(error) if is_busy(&error) && began.elapsed() < config.busy_timeout => {
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            Err(error) => return Err(failed(error)),
        }
    }
}

fn journal_mode(connection: &Connection) -> rusqlite::Result<String> {
    connection.pragma_query_value(Some("main"), "journal_mode", |row| row.get(0))
}
