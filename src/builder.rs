//! How a pool is opened.
//!
//! Everything that can go wrong is found here, on the caller's thread and with its type, rather than
//! at the first checkout: the path, the SQLite version, `setup`, and one connection of each role. What
//! is found in order is then left to r2d2 to repeat.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use crossbeam_channel::bounded;
use r2d2::ManageConnection;
use rusqlite::Connection;
use scheduled_thread_pool::ScheduledThreadPool;
use tempfile::TempDir;

use crate::checkout::{self, Settings};
use crate::config::{Access, AfterRaw, Checkpoints, JournalMode, PoolConfig, Synchronous};
use crate::error::{BoxError, ConnectError, OpenError};
use crate::ffi;
use crate::file;
use crate::group::Group;
use crate::housekeeping::Housekeeping;
use crate::log::Log;
use crate::metrics::{PageCache, PoolMetrics, PoolName, Publish};
use crate::pool::Pool;
use crate::sqlite::{
    LeaveNoTrace, Leavings, Manager, OnConnect, PreparedCheckpoints, Recipe, Role, Session,
    check_wal_is_safe,
};

/// Every pool can be resized to so many readers. A slot that was never used costs 344 bytes (what is
/// allocated for a pool with 1000 slots more, on x86-64), so all of them 22 kB.
const READER_CEILING: usize = 64;

type Setup = dyn FnOnce(&mut Connection) -> Result<(), BoxError> + Send;

/// Settings and closures for a pool that is to be opened. Made by [`Pool::builder`].
///
/// ```
/// use std::time::Duration;
///
/// let directory = tempfile::tempdir()?;
/// let pool = tenure::Pool::builder()
///     .database(directory.path().join("app.db"))
///     .readers(4)
///     .checkout_timeout(Duration::from_secs(4))
///     .open()?;
/// assert_eq!(pool.config().readers, Some(4));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a builder does nothing before open() is called"]
#[derive(Default)]
pub struct Builder {
    config: PoolConfig,
    on_connect: Option<Box<OnConnect>>,
    setup: Option<Box<Setup>>,
}

/// Setters named as the keys of [`PoolConfig`], which has their defaults and ranges.
macro_rules! setters {
    ($($(#[doc = $doc:literal])+ $key:ident: $type:ty = $value:expr, $example:literal;)+) => {
        impl Builder {
            $(
                $(#[doc = $doc])+
                ///
                /// ```
                #[doc = concat!("let builder = tenure::Pool::builder().", stringify!($key), "(", $example, ");")]
                /// ```
                pub fn $key(mut self, $key: $type) -> Self {
                    self.config.$key = $value;
                    self
                }
            )+
        }
    };
}

setters! {
    /// Whether there is a writer.
    access: Access = access, "tenure::Access::ReadOnly";
    /// Create the file when it is missing.
    create: bool = create, "false";
    /// The most query-only connections.
    readers: usize = Some(readers), "8";
    /// The longest wait for a connection.
    checkout_timeout: Duration = checkout_timeout, "std::time::Duration::from_secs(10)";
    /// The longest wait for a lock that somebody outside the pool holds.
    busy_timeout: Duration = busy_timeout, "std::time::Duration::from_secs(1)";
    /// How many threads may wait for a role.
    max_waiters: usize = max_waiters, "64";
    /// Close connections that have been idle for so long; zero = never.
    idle_limit: Duration = idle_limit, "std::time::Duration::from_secs(60)";
    /// Close connections that have been open for so long; zero = never.
    max_lifetime: Duration = max_lifetime, "std::time::Duration::from_secs(3600)";
    /// How long newcomers may overtake the waiter at the head of the queue; zero = strict order.
    overtaking: Duration = overtaking, "std::time::Duration::ZERO";
    /// Time one hold in so many; 0 = none.
    hold_sampling: u32 = hold_sampling, "1";
    /// Record metrics.
    metrics: bool = metrics, "false";
    /// How commits are made atomic.
    journal_mode: JournalMode = journal_mode, "tenure::JournalMode::Truncate";
    /// When SQLite waits for the disk.
    synchronous: Synchronous = synchronous, "tenure::Synchronous::Normal";
    /// Who moves the WAL into the database.
    checkpoints: Checkpoints = checkpoints, "tenure::Checkpoints::Inline";
    /// How large the WAL gets at most, in MiB.
    wal_limit_mib: u32 = wal_limit_mib, "256";
    /// Keep a read transaction open while readers are busy, and see that the WAL is not empty: both make
    /// reads cheaper.
    read_mark: bool = read_mark, "false";
    /// Enforce foreign keys.
    foreign_keys: bool = foreign_keys, "false";
    /// Let the schema call functions that are not innocuous.
    trusted_schema: bool = trusted_schema, "true";
    /// Forbid SQL that can corrupt the file.
    defensive: bool = defensive, "false";
    /// Check pages when they are read.
    cell_size_check: bool = cell_size_check, "false";
    /// The page cache of each connection, in KiB.
    cache_size_kib: u32 = cache_size_kib, "8192";
    /// How much of the file is memory-mapped, in MiB.
    mmap_size_mib: u32 = mmap_size_mib, "256";
    /// How many prepared statements each connection keeps.
    statement_cache: usize = statement_cache, "200";
    /// Interrupt statements that run for longer; zero = never.
    statement_timeout: Duration = statement_timeout, "std::time::Duration::from_secs(2)";
    /// What becomes of a connection after `rusqlite()`.
    after_raw: AfterRaw = after_raw, "tenure::AfterRaw::Discard";
    /// The most closures that share one transaction.
    group_commit_max_size: usize = group_commit_max_size, "128";
    /// For how long closures are begun in one transaction.
    group_commit_max_time: Duration = group_commit_max_time, "std::time::Duration::from_millis(1)";
    /// Say in the log that a checkout waited for so long; zero = never.
    slow_checkout_after: Duration = slow_checkout_after, "std::time::Duration::from_millis(100)";
    /// Say in the log that a connection has been held for so long; zero = never.
    long_held_after: Duration = long_held_after, "std::time::Duration::from_secs(5)";
    /// Say in the log that a snapshot has been open for so long; zero = never.
    snapshot_warn_after: Duration = snapshot_warn_after, "std::time::Duration::from_secs(60)";
}

impl Builder {
    /// Takes all settings from a configuration.
    ///
    /// ```
    /// let config = tenure::PoolConfig::from_toml_str("readers = 4")?;
    /// let builder = tenure::Pool::builder().config(config);
    /// # Ok::<(), tenure::ConfigError>(())
    /// ```
    pub fn config(mut self, config: PoolConfig) -> Self {
        self.config = config;
        self
    }

    /// The database file.
    ///
    /// ```
    /// let builder = tenure::Pool::builder().database("app.db");
    /// ```
    pub fn database(mut self, database: impl AsRef<Path>) -> Self {
        self.config.database = Some(database.as_ref().to_owned());
        self
    }

    /// The pool's name: the label `pool` in metrics. Two live pools cannot have the same.
    ///
    /// ```
    /// let builder = tenure::Pool::builder().name("orders");
    /// ```
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.config.name = Some(name.into());
        self
    }

    /// Runs for every connection when it is opened, also when one is opened again later: for
    /// functions, collations, ATTACH, keys of an encrypted file, further pragmas.
    ///
    /// It runs before anything is read from the file, so that it can give the key of an encrypted one;
    /// the settings of the pool are applied after it, and readers become query-only. It may run on any
    /// thread. One of the connections is never lent: that of [`Role::Checkpoint`]. And when the pool is
    /// opened it runs once more for each role, on a connection that shows what it sets and is closed again.
    ///
    /// A function that indexes, views or triggers are to call needs `FunctionFlags::SQLITE_INNOCUOUS` among
    /// its flags, for `trusted_schema` is off by default.
    ///
    /// What it attaches is checkpointed as SQLite does, by who commits, at 1000 pages of WAL: the pool's
    /// [`checkpoints`](PoolConfig::checkpoints) and metrics of the WAL are about the main database.
    ///
    /// What it prepares by `prepare_cached` stays in `rusqlite`'s own cache; sessions have another.
    ///
    /// ```
    /// let pool = tenure::testing::temporary_with(tenure::Pool::builder().on_connect(
    ///     |connection, _role| {
    ///         connection.execute_batch("PRAGMA temp_store = MEMORY")?;
    ///         Ok(())
    ///     },
    /// ))?;
    /// # Ok::<(), tenure::Error>(())
    /// ```
    pub fn on_connect(
        mut self,
        on_connect: impl Fn(&mut Connection, Role) -> Result<(), BoxError> + Send + Sync + 'static,
    ) -> Self {
        self.on_connect = Some(Box::new(on_connect));
        self
    }

    /// Runs once, when the pool is opened, on a connection that never enters it: for migrations.
    ///
    /// ```
    /// use rusqlite_migration::{M, Migrations};
    ///
    /// let migrations = Migrations::new(vec![M::up("CREATE TABLE task (title TEXT)")]);
    /// let pool = tenure::testing::temporary_with(
    ///     tenure::Pool::builder().setup(move |connection| Ok(migrations.to_latest(connection)?)),
    /// )?;
    /// assert!(pool.read()?.table_exists(None, "task")?);
    /// # Ok::<(), tenure::Error>(())
    /// ```
    pub fn setup(
        mut self,
        setup: impl FnOnce(&mut Connection) -> Result<(), BoxError> + Send + 'static,
    ) -> Self {
        self.setup = Some(Box::new(setup));
        self
    }

    /// Opens the pool and all its connections.
    ///
    /// # Errors
    ///
    /// [`OpenError`]. A file that is not a database, or a damaged one, is left as it is.
    ///
    /// # Panics
    ///
    /// When `setup` or `on_connect` does.
    ///
    /// ```
    /// let directory = tempfile::tempdir()?;
    /// let pool = tenure::Pool::builder().database(directory.path().join("app.db")).open()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn open(self) -> Result<Pool, OpenError> {
        self.open_in(None)
    }

    /// `directory` is kept until the last connection is gone.
    pub(crate) fn open_in(self, directory: Option<TempDir>) -> Result<Pool, OpenError> {
        let Self { config, on_connect, setup } = self;
        config.check()?;
        let writes = config.access == Access::ReadWrite;
        if setup.is_some() && !writes {
            return Err(OpenError::SetupOnReadOnly);
        }
        if writes && config.journal_mode == JournalMode::Wal {
            check_wal_is_safe()?;
        }
        let path = file::locate(&config)?;
        let name = pool_name(&config, &path)?;
        if config.metrics {
            name.listen();
        }
        let metrics = if config.metrics {
            PoolMetrics::new(name.as_str())
        } else {
            metrics::with_local_recorder(&metrics::NoopRecorder, || PoolMetrics::new(name.as_str()))
        };
        let metrics = Arc::new(metrics);
        let log = Arc::new(Log::new(name.as_str().to_owned()));
        // Should opening fail, what is made from here on is dropped before it.
        let leavings = Arc::new(Leavings {
            _no_trace: if writes { None } else { LeaveNoTrace::begin(&path) },
            _directory: directory,
        });
        let recipe = Arc::new(Recipe {
            path,
            config,
            on_connect,
            metrics,
            log,
            hooks: Default::default(),
            damage: OnceLock::new(),
            wal: OnceLock::new(),
            reads: OnceLock::new(),
            views: Default::default(),
            leavings: Arc::downgrade(&leavings),
        });

        // Kept until the pool's own connections are open: the last one to close would remove the WAL.
        let first = if writes { Some(set_up(&recipe, setup)?) } else { None };
        let prepared = match &first {
            Some(first) => prepare_checkpoints(&recipe, first)?,
            None => None,
        };
        let reader = Manager::new(Arc::clone(&recipe), Role::Read);
        let opened = reader.connect();
        let first_reader = opened.map_err(|source| cannot_connect(&recipe, "read", source))?;
        first_reader.learn_hooks();
        say_what_is_in_use(&recipe, &first_reader);
        if prepared.is_some() {
            // Their thread opens its own when it needs one, too late for the caller.
            let opened = Manager::new(Arc::clone(&recipe), Role::Checkpoint).open();
            drop(opened.map_err(|source| cannot_connect(&recipe, "checkpoint", source))?);
        }

        let opener = ScheduledThreadPool::builder()
            .num_threads(1)
            .thread_name_pattern("tenure-opener")
            .build();
        let opener = Arc::new(opener);
        let (refill, refilled) = bounded(1);
        let role = |role: Role, limit, ceiling| {
            let config = &recipe.config;
            let damage = Arc::clone(&recipe);
            let settings = Settings {
                role: role.name(),
                limit,
                ceiling,
                max_waiters: config.max_waiters,
                checkout_timeout: config.checkout_timeout,
                overtaking: config.overtaking,
                idle_limit: unless_zero(config.idle_limit),
                max_lifetime: unless_zero(config.max_lifetime),
                slow_checkout_after: unless_zero(config.slow_checkout_after),
                long_held_after: unless_zero(config.long_held_after),
                log: Arc::clone(&recipe.log),
                hold_sampling: if config.metrics { config.hold_sampling } else { 0 },
                refusal: Box::new(move || damage.refusal(role)),
                metrics: if config.metrics {
                    recipe.metrics.role(role as usize)
                } else {
                    metrics::with_local_recorder(&metrics::NoopRecorder, || {
                        recipe.metrics.role(role as usize)
                    })
                },
                opener: Arc::clone(&opener),
                refill: refill.clone(),
            };
            let pool = checkout::RolePool::new(Manager::new(Arc::clone(&recipe), role), settings);
            pool.fill().inspect_err(|_| pool.close()).map(|()| pool)
        };
        let fill = |source| OpenError::Fill { source };
        let writer = if writes { Some(role(Role::Write, 1, 1).map_err(fill)?) } else { None };
        let limit = recipe.config.reader_limit();
        let readers = role(Role::Read, limit, limit.max(READER_CEILING))
            .inspect_err(|_| writer.iter().for_each(checkout::RolePool::close))
            .map_err(fill)?;
        for role in std::iter::once(&readers).chain(&writer) {
            name.publish_with_all(role.publisher());
        }
        let group = Arc::new(Group::new(recipe.config.max_waiters, Arc::clone(&recipe.metrics)));
        name.publish_with_all(Arc::downgrade(&group) as Weak<dyn Publish>);
        name.publish_with_all(Arc::downgrade(&recipe) as Weak<dyn Publish>);
        let weak =
            std::iter::once(&readers).chain(&writer).map(checkout::RolePool::downgrade).collect();
        let no_thread = |source| {
            for role in std::iter::once(&readers).chain(&writer) {
                role.close();
            }
            OpenError::Thread { source }
        };
        let watched = (Arc::downgrade(&recipe), Arc::downgrade(&group));
        let each_second = move || {
            if let Some(recipe) = watched.0.upgrade() {
                recipe.look_at_views();
            }
            if let Some(group) = watched.1.upgrade() {
                group.publish();
            }
        };
        let housekeeping = Housekeeping::start(weak, refilled, each_second).map_err(no_thread)?;
        let checkpoints = match (prepared, &writer) {
            (Some(prepared), Some(writer)) => {
                let started = prepared.start(&recipe, writer.downgrade(), readers.downgrade());
                Some(started.map_err(no_thread)?)
            }
            _ => None,
        };
        Ok(Pool::new(readers, writer, group, recipe, housekeeping, checkpoints, name, leavings))
    }
}

fn pool_name(config: &PoolConfig, path: &Path) -> Result<PoolName, OpenError> {
    match &config.name {
        Some(name) => {
            PoolName::exactly(name).ok_or_else(|| OpenError::NameTaken { name: name.clone() })
        }
        None => Ok(PoolName::like(&file::default_name(path))),
    }
}

/// Opens the first connection, which creates or converts the database, and runs `setup` on it.
fn set_up(recipe: &Arc<Recipe>, setup: Option<Box<Setup>>) -> Result<Connection, OpenError> {
    let manager = Manager::new(Arc::clone(recipe), Role::Write);
    let opened = manager.open();
    let mut connection = opened.map_err(|source| cannot_connect(recipe, "write", source))?;
    if let Some(setup) = setup {
        setup(&mut connection).map_err(|source| OpenError::Setup { source })?;
        if !connection.is_autocommit() {
            return Err(OpenError::SetupLeftTransaction);
        }
    }
    recipe.learn_hooks(Role::Write, &connection);
    Ok(connection)
}

/// If checkpoints are the pool's: the place where its writer will tell of commits.
fn prepare_checkpoints(
    recipe: &Arc<Recipe>,
    first: &Connection,
) -> Result<Option<PreparedCheckpoints>, OpenError> {
    let Recipe { config, .. } = &**recipe;
    let wanted =
        config.checkpoints == Checkpoints::Background && config.journal_mode == JournalMode::Wal;
    // A WAL hook of the caller's has taken them over.
    if !wanted || recipe.has_wal_hook() {
        return Ok(None);
    }
    let page_size = first.pragma_query_value(None, "page_size", |row| row.get::<_, i64>(0));
    let page_size = page_size.map_err(|source| {
        cannot_connect(recipe, "write", ConnectError::Setting { setting: "checkpoints", source })
    })?;
    Ok(Some(PreparedCheckpoints::new(recipe, page_size.unsigned_abs())))
}

/// In the metrics, and of the page cache in the log: a shared one decides how readers scale.
fn say_what_is_in_use(recipe: &Recipe, reader: &Session) {
    let config = &recipe.config;
    // A read-only pool leaves the mode as it is, and that is one of the file.
    let mode = reader.pragma_query_value(None, "journal_mode", |row| row.get::<_, String>(0));
    let is_wal = mode.map_or(config.journal_mode == JournalMode::Wal, |mode| mode == "wal");
    let mode = match (config.access, is_wal) {
        (Access::ReadWrite, _) => config.journal_mode,
        (Access::ReadOnly, true) => JournalMode::Wal,
        (Access::ReadOnly, false) => JournalMode::Delete,
    };
    let cache = if ffi::shares_page_cache() { PageCache::Shared } else { PageCache::PerConnection };
    let info = || recipe.metrics.info(mode.name(), config.synchronous.name(), cache);
    if config.metrics {
        info();
    } else {
        metrics::with_local_recorder(&metrics::NoopRecorder, info);
    }
    if cache == PageCache::Shared && config.reader_limit() > 1 {
        tracing::info!(
            pool = recipe.metrics.name(),
            "SQLite was built with SQLITE_ENABLE_MEMORY_MANAGEMENT: all connections of the process \
             take turns at one page cache, and readers scale less; to build without it, set \
             LIBSQLITE3_FLAGS=-USQLITE_ENABLE_MEMORY_MANAGEMENT, or use mmap_size_mib"
        );
    }
}

fn unless_zero(duration: Duration) -> Option<Duration> {
    (!duration.is_zero()).then_some(duration)
}

fn cannot_connect(recipe: &Recipe, role: &'static str, source: ConnectError) -> OpenError {
    let path = PathBuf::clone(&recipe.path);
    match file::problem_shown_by(&source) {
        Some(problem) => OpenError::File { path, problem, source: Some(Box::new(source)) },
        None => OpenError::Connect { path, role, source },
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("config", &self.config)
            .field("on_connect", &self.on_connect.is_some())
            .field("setup", &self.setup.is_some())
            .finish()
    }
}
