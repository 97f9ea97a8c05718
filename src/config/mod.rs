//! The configuration: what the file says, parsed and checked into values that a pool can trust.
//!
//! A file is TOML with one flat table; the keys are the fields of [`PoolConfig`] and the methods of
//! [`Builder`](crate::Builder). An unknown key, a wrong type or a value out of range is an error that
//! names the place, and the pool does not open: a setting that is silently replaced by a default is
//! found out in production. All faults are reported at once, with the nearest key for an unknown one. Durations are text with a unit (`"5s"`, `"250ms"`), because a bare number
//! would leave the unit to memory. (The crates `figment` and `config` read more formats, and name no
//! line in their errors.)

mod error;
mod ranges;
mod read;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::file;

pub use self::error::{ConfigError, ConfigFault};

/// Everything about a pool that can be written in a file.
///
/// [`Default`] gives the values of the table below. Deserialising does not check ranges;
/// [`Builder::open`](crate::Builder::open) does.
///
/// ```
/// let config = tenure::PoolConfig::from_toml_str(
///     r#"
///     database = "app.db"
///     readers = 4
///     checkout_timeout = "2s"
///     busy_timeout = "1s"
///     "#,
/// )?;
/// assert_eq!(config.readers, Some(4));
/// assert_eq!(config.synchronous, tenure::Synchronous::Full);
/// # Ok::<(), tenure::ConfigError>(())
/// ```
///
/// | key | default | range | meaning |
/// |---|---|---|---|
/// | `database` | none | a path | the database file; in a file, relative to that file |
/// | `name` | the file's name, up to 64 characters | 1 to 64 characters | the label `pool` in metrics |
/// | `access` | `"read-write"` | `"read-write"`, `"read-only"` | whether there is a writer |
/// | `create` | `true` | | create the file when it is missing |
/// | `readers` | 2 per core, 4 to 16 | 1 to 1024 | the most query-only connections; [`Pool::resize`](crate::Pool::resize) changes it later |
/// | `checkout_timeout` | `"5s"` | `busy_timeout` to 1 day | the longest wait for a connection |
/// | `busy_timeout` | `"3s"` | at most 1 day | the longest wait for a lock that somebody outside the pool holds, or, outside WAL mode, a reader of the pool |
/// | `max_waiters` | 1024 | 0 to 1000000 | threads that may wait for a role; more are refused |
/// | `idle_limit` | `"10min"` | at least `"1s"`, `"0s"` = never | close connections idle so long |
/// | `max_lifetime` | `"0s"` | at least `"1s"`, `"0s"` = never | close connections open so long |
/// | `overtaking` | `"70us"` | at most `"1s"`, `"0s"` = strict order | how long newcomers may overtake the first waiter |
/// | `hold_sampling` | 8 | 0 to 1000000, 0 = none | one hold in so many is timed |
/// | `metrics` | `true` | | record metrics |
/// | `journal_mode` | `"wal"` | `"wal"`, `"delete"`, `"truncate"`, `"persist"` | how commits are made atomic |
/// | `synchronous` | `"full"` | `"off"`, `"normal"`, `"full"`, `"extra"` | when SQLite waits for the disk |
/// | `checkpoints` | `"background"` | `"background"`, `"inline"` | who moves the WAL into the database |
/// | `wal_limit_mib` | 64 | 4 to 1048576 | with background checkpoints, how large the WAL gets at most, in MiB |
/// | `read_mark` | `true` | | with background checkpoints, keep a read transaction open while readers are busy, and see that the WAL is not empty: both make reads cheaper |
/// | `foreign_keys` | `true` | | enforce foreign keys |
/// | `trusted_schema` | `false` | | let the schema call functions that are not innocuous |
/// | `defensive` | `true` | | forbid SQL that can corrupt the file |
/// | `cell_size_check` | `true` | | check pages when they are read |
/// | `cache_size_kib` | 2000 | 1 to 4194304 | page cache of each connection, in KiB |
/// | `mmap_size_mib` | 0 | 0 to 1048576 | memory-mapped part of the file, in MiB |
/// | `statement_cache` | 64 | 0 to 10000 | prepared statements kept by each connection, the least used leave first |
/// | `statement_timeout` | `"0s"` | 1 ms to 1 day, `"0s"` = none | stop statements that run for longer |
/// | `after_raw` | `"inspect"` | `"inspect"`, `"discard"` | what becomes of a connection after `rusqlite()` |
/// | `group_commit_max_size` | 64 | 1 to 100000 | closures that share one transaction |
/// | `group_commit_max_time` | `"5ms"` | at most 1 day | begin no more closures in a transaction after so long |
/// | `slow_checkout_after` | `"1s"` | at most 1 day, `"0s"` = never | say in the log that a checkout waited so long |
/// | `long_held_after` | `"30s"` | at most 1 day, `"0s"` = never | say in the log that a connection is held so long |
/// | `snapshot_warn_after` | `"10s"` | at most 1 day, `"0s"` = never | say in the log that a snapshot is open so long |
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct PoolConfig {
    /// The database file.
    pub database: Option<PathBuf>,
    /// The label `pool` in metrics. By default the file's name without its extension, with a number
    /// appended when a pool of that name is open.
    pub name: Option<String>,
    /// Whether there is a writer.
    pub access: Access,
    /// Create the file when it is missing.
    pub create: bool,
    /// The most query-only connections; `None` = two per core, at least 4 and at most 16. As many as there are
    /// threads that read are faster if their page caches do not share a lock (`mmap_size_mib`, or SQLite
    /// built without `SQLITE_ENABLE_MEMORY_MANAGEMENT`), and slower if they do. The pool keeps two file
    /// descriptors for each, and six more.
    pub readers: Option<usize>,
    /// The longest wait for a connection of the pool.
    #[serde(with = "humantime_serde")]
    pub checkout_timeout: Duration,
    /// The longest wait for a lock that another process, or a connection outside the pool, holds.
    #[serde(with = "humantime_serde")]
    pub busy_timeout: Duration,
    /// How many threads may wait for connections of one role; one more is refused at once.
    pub max_waiters: usize,
    /// Close connections that have been idle for so long, all but one of a role; zero = never.
    #[serde(with = "humantime_serde")]
    pub idle_limit: Duration,
    /// Close connections that have been open for so long, when they are given back; zero = never. So that
    /// not all are opened again at once, each has up to a tenth less. Where `on_connect` takes long, let
    /// that be long enough for all.
    #[serde(with = "humantime_serde")]
    pub max_lifetime: Duration,
    /// How long newcomers may take a connection that comes back before the waiter at the head of the
    /// queue gets it, as long as connections come back often: on each core one in that time. Where they are
    /// held for longer nobody overtakes. More of it is more throughput where holds are short, for each
    /// turn that is given to a sleeping thread costs ten microseconds and more, and longer waits. Where
    /// there are as many connections of a role as cores, or more, newcomers may also overtake a waiter that
    /// has waited for less than 25 times as long in all (1.75 ms by default), and less than 2 ms: where
    /// holders compute it has to wait for a core in any case. Zero = strict order of arrival always.
    #[serde(with = "humantime_serde")]
    pub overtaking: Duration,
    /// One hold in so many is timed, for `tenure_hold_seconds`; 0 = none, 1 = every one. Of more than
    /// 262144 in a second an even share is published.
    pub hold_sampling: u32,
    /// Record metrics. Without them `pool.status()` tells as much as ever.
    pub metrics: bool,
    /// How commits are made atomic.
    pub journal_mode: JournalMode,
    /// When SQLite waits for the disk.
    pub synchronous: Synchronous,
    /// Who moves the WAL into the database.
    pub checkpoints: Checkpoints,
    /// With background checkpoints, how large the WAL gets at most, in MiB. One transaction that is
    /// larger, and a reader that keeps an old state of the database, make it grow further; the file is
    /// cut back when nobody has written for a second. It is about the main database, as are the metrics
    /// of the WAL.
    pub wal_limit_mib: u32,
    /// With background checkpoints, keep a read transaction open while readers are busy: theirs then
    /// take and give back no lock of the operating system. It is a millisecond old at most, and ends
    /// when readers pause, before each of the pool's checkpoints, and beside writers outside the pool.
    ///
    /// Also commit once, while readers are busy and nothing was committed since the pool was opened and
    /// the WAL made, something that changes nothing (`PRAGMA user_version`, as it is). Without a commit in
    /// the WAL SQLite asks the system for the size of the database in each read transaction. Of the file
    /// this changes SQLite's counter of changes, its version and the time of change; once per opening, other
    /// connections see another `PRAGMA data_version` and read their pages anew. A pool that only ever reads
    /// leaves the file as it is with `access = "read-only"`, or with this `false`.
    ///
    /// Without the transaction, a `PRAGMA wal_checkpoint(TRUNCATE)` that does not wait for locks has more of a
    /// chance beside busy readers.
    pub read_mark: bool,
    /// Enforce foreign keys.
    pub foreign_keys: bool,
    /// Let views and triggers of the file call functions that are not innocuous.
    pub trusted_schema: bool,
    /// Forbid SQL that can corrupt the file.
    pub defensive: bool,
    /// Check the cells of every page when it is read, which finds more of what somebody may have done to
    /// the file. With `mmap_size_mib` a page is read anew each time it is used, and the check takes a
    /// third of a point query.
    pub cell_size_check: bool,
    /// The page cache of each connection, in KiB.
    pub cache_size_kib: u32,
    /// How much of the file is memory-mapped, in MiB.
    pub mmap_size_mib: u32,
    /// How many prepared statements each connection keeps, for `prepare_cached` and for queries and
    /// changes of rows that are run at once; those that were not used for longest leave first. `rusqlite`
    /// keeps as many again for code that was given the connection itself and uses its `prepare_cached`.
    pub statement_cache: usize,
    /// Statements that run for longer are interrupted; zero = never. The time counts from the first
    /// step of the statement to its last row, waits for locks included, and is looked at every 1000
    /// instructions of SQLite's virtual machine. When several statements of one connection run, the
    /// oldest counts. The BEGIN and COMMIT of a transaction are no statements of this kind: they wait
    /// for locks as long as `busy_timeout` says.
    #[serde(with = "humantime_serde")]
    pub statement_timeout: Duration,
    /// What becomes of a connection after [`rusqlite()`](crate::ReadSession::rusqlite).
    pub after_raw: AfterRaw,
    /// The most closures of [`group_commit`](crate::Pool::group_commit) that share one transaction.
    pub group_commit_max_size: usize,
    /// For how long closures of [`group_commit`](crate::Pool::group_commit) are begun in one
    /// transaction; one always is. It bounds how long plain writers wait for a batch of short closures;
    /// all of a batch wait for its longest.
    #[serde(with = "humantime_serde")]
    pub group_commit_max_time: Duration,
    /// Say in the log that a checkout waited for so long; zero = never.
    #[serde(with = "humantime_serde")]
    pub slow_checkout_after: Duration,
    /// Say in the log that a connection has been held for so long; zero = never.
    #[serde(with = "humantime_serde")]
    pub long_held_after: Duration,
    /// Say in the log that a snapshot has been open for so long; zero = never. Looked at each second.
    #[serde(with = "humantime_serde")]
    pub snapshot_warn_after: Duration,
}

impl Default for PoolConfig {
    fn default() -> Self {
        Self {
            database: None,
            name: None,
            access: Access::ReadWrite,
            create: true,
            readers: None,
            checkout_timeout: Duration::from_secs(5),
            busy_timeout: Duration::from_secs(3),
            max_waiters: 1024,
            idle_limit: Duration::from_secs(600),
            max_lifetime: Duration::ZERO,
            overtaking: Duration::from_micros(70),
            hold_sampling: 8,
            metrics: true,
            journal_mode: JournalMode::Wal,
            synchronous: Synchronous::Full,
            checkpoints: Checkpoints::Background,
            wal_limit_mib: 64,
            read_mark: true,
            foreign_keys: true,
            trusted_schema: false,
            defensive: true,
            cell_size_check: true,
            cache_size_kib: 2000,
            mmap_size_mib: 0,
            statement_cache: 64,
            statement_timeout: Duration::ZERO,
            after_raw: AfterRaw::Inspect,
            group_commit_max_size: 64,
            group_commit_max_time: Duration::from_millis(5),
            slow_checkout_after: Duration::from_secs(1),
            long_held_after: Duration::from_secs(30),
            snapshot_warn_after: Duration::from_secs(10),
        }
    }
}

impl PoolConfig {
    /// Reads the configuration from text.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] with line and column when the text is not TOML, has an unknown key or a value
    /// of the wrong type or out of range.
    ///
    /// ```
    /// let error = tenure::PoolConfig::from_toml_str("readres = 4").unwrap_err();
    /// assert_eq!(error.faults()[0].line(), Some(1));
    /// ```
    pub fn from_toml_str(text: &str) -> Result<Self, ConfigError> {
        read::config(text)
    }

    /// Reads the configuration from a file. A relative `database` is taken as relative to that file.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] as for [`from_toml_str`](Self::from_toml_str), or when the file cannot be read.
    ///
    /// ```
    /// let config = tenure::PoolConfig::from_file("examples/pool.toml")?;
    /// assert_eq!(config.database.expect("the example names one").file_name().unwrap(), "board.db");
    /// # Ok::<(), tenure::ConfigError>(())
    /// ```
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, ConfigError> {
        let path = path.as_ref();
        let text =
            std::fs::read_to_string(path).map_err(|error| ConfigError::unreadable(path, error))?;
        let mut config = Self::from_toml_str(&text).map_err(|error| error.in_file(path))?;
        let names_a_file = |database: &PathBuf| !file::is_no_file(database);
        let database = config.database.as_mut().filter(|database| names_a_file(database));
        if let (Some(database), Some(directory)) = (database, path.parent()) {
            *database = directory.join(&*database);
        }
        Ok(config)
    }

    /// The number of query-only connections. With 8 on two cores, 15 threads that read one after the other
    /// sometimes made half as many queries as with 4, probably because more of them waited for SQLite's one
    /// lock on page caches than there were cores.
    pub(crate) fn reader_limit(&self) -> usize {
        self.readers.unwrap_or_else(|| {
            let cores = std::thread::available_parallelism().map_or(1, usize::from);
            (2 * cores).clamp(4, 16)
        })
    }

    /// Checks what types cannot say.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        ConfigError::unless_empty(ranges::faults(self))
    }
}

/// Whether a pool may write.
///
/// ```
/// let config = tenure::PoolConfig::from_toml_str(r#"access = "read-only""#)?;
/// assert_eq!(config.access, tenure::Access::ReadOnly);
/// # Ok::<(), tenure::ConfigError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Access {
    /// Query-only connections and one writing connection.
    ReadWrite,
    /// Query-only connections; the file is opened read-only and nothing on disk is changed.
    ///
    /// Beside a database in WAL mode SQLite keeps a `-shm` and an empty `-wal` while it is open. If
    /// they were not there before, the pool has SQLite remove them when it ends.
    ReadOnly,
}

/// What becomes of a connection after [`rusqlite()`](crate::ReadSession::rusqlite) was called on it.
///
/// ```
/// let pool = tenure::testing::temporary_with(
///     tenure::Pool::builder().after_raw(tenure::AfterRaw::Discard),
/// )?;
/// pool.read()?.rusqlite(); // This connection is closed when it comes back, and another opened.
/// # Ok::<(), tenure::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum AfterRaw {
    /// It is looked at, and lent again if nothing about it is different.
    ///
    /// Not seen are: a `collation_needed` callback, an `InterruptHandle` of `rusqlite`'s own, a
    /// virtual table module put in the place of another, `PRAGMA temp_store_directory`, and a page size or
    /// auto-vacuum mode set for the next VACUUM. Where only its history tells that something was done, it is
    /// closed although nothing is different any more: after a TEMP table that was made and dropped again, or
    /// a PRAGMA that was set and set back.
    Inspect,
    /// It is closed, and another opened in the background. For those who register functions,
    /// collations or hooks in passing.
    Discard,
}

/// How SQLite makes commits atomic; see <https://sqlite.org/pragma.html#pragma_journal_mode>.
///
/// `MEMORY` and `OFF` are not offered: a crash would damage the file.
///
/// ```
/// let pool = tenure::testing::temporary_with(
///     tenure::Pool::builder().journal_mode(tenure::JournalMode::Truncate),
/// )?;
/// let mode: String = pool.read()?.query_one("PRAGMA journal_mode", [], |row| row.get(0))?;
/// assert_eq!(mode, "truncate");
/// # Ok::<(), tenure::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum JournalMode {
    /// Readers and the writer run at the same time.
    Wal,
    /// A rollback journal, deleted at commit.
    Delete,
    /// A rollback journal, truncated at commit.
    Truncate,
    /// A rollback journal, its header overwritten at commit.
    Persist,
}

impl JournalMode {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Wal => "wal",
            Self::Delete => "delete",
            Self::Truncate => "truncate",
            Self::Persist => "persist",
        }
    }
}

/// Who moves the WAL into the database. Outside WAL mode, and on read-only pools, nobody does.
///
/// ```
/// let config = tenure::PoolConfig::from_toml_str(r#"checkpoints = "inline""#)?;
/// assert_eq!(config.checkpoints, tenure::Checkpoints::Inline);
/// # Ok::<(), tenure::ConfigError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Checkpoints {
    /// A thread of the pool, while others write. It takes the writer's turn for a moment when the WAL
    /// is to start over, and never waits for readers while it has it.
    ///
    /// `PRAGMA wal_autocheckpoint` in `on_connect` has no effect on the writer then. If `on_connect`
    /// sets a WAL hook, checkpoints are left to that. Databases that `on_connect` has attached are
    /// checkpointed as SQLite does, in the commit that makes their WAL reach 1000 pages.
    Background,
    /// SQLite, in the commit that makes the WAL reach 1000 pages.
    Inline,
}

/// When SQLite waits for the disk; see <https://sqlite.org/pragma.html#pragma_synchronous>.
///
/// ```
/// let pool = tenure::testing::temporary_with(
///     tenure::Pool::builder().synchronous(tenure::Synchronous::Normal),
/// )?;
/// let level: i64 = pool.write()?.query_one("PRAGMA synchronous", [], |row| row.get(0))?;
/// assert_eq!(level, 1);
/// # Ok::<(), tenure::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Synchronous {
    /// Never: a power cut may damage the file.
    Off,
    /// At checkpoints: in WAL mode a power cut may lose the latest commits, no more.
    Normal,
    /// At every commit: what was committed is durable.
    Full,
    /// As `Full`, and the directory too after a rollback journal is deleted.
    Extra,
}

impl Synchronous {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Normal => "normal",
            Self::Full => "full",
            Self::Extra => "extra",
        }
    }
}
