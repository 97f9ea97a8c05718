//! Why a pool or a connection could not be opened.

use std::path::PathBuf;

use super::{BoxError, CheckoutError};
use crate::config::ConfigError;

/// Why a pool could not be opened.
///
/// ```
/// let error = tenure::Pool::open(":memory:").unwrap_err();
/// assert!(matches!(error, tenure::OpenError::InMemory));
/// assert!(error.to_string().contains("testing::temporary"));
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// `:memory:` or an empty path: every connection would have a database of its own.
    #[error(
        "an in-memory database cannot be pooled: every connection would see another, empty one; \
         for tests use tenure::testing::temporary(), a file that deletes itself"
    )]
    InMemory,
    /// The path, or the file that it leads to, cannot be used. The file was not touched.
    #[error("the database file {path:?} {problem}{}", cause_of(problem, source.as_ref()))]
    #[non_exhaustive]
    File {
        /// The path.
        path: PathBuf,
        /// What is wrong with it.
        problem: FileProblem,
        /// What the system or SQLite said, if it was asked.
        source: Option<BoxError>,
    },
    /// This SQLite can lose committed pages in WAL mode.
    #[error(
        "SQLite {version} can lose committed data in WAL mode (the WAL-reset bug, fixed in 3.51.3); \
         enable the feature `bundled`, link a newer SQLite, or set `journal_mode = \"truncate\"`"
    )]
    #[non_exhaustive]
    UnsafeSqlite {
        /// The version of the library that is linked.
        version: String,
    },
    /// Two live pools may not share a name: their metrics would be mixed.
    #[error(
        "a pool named {name:?} is open already; share it by cloning it, or give this one another \
         `name`"
    )]
    #[non_exhaustive]
    NameTaken {
        /// The name.
        name: String,
    },
    /// The first connection could not be opened and configured.
    #[error("cannot open {path:?} as {role} connection: {source}")]
    #[non_exhaustive]
    Connect {
        /// The path.
        path: PathBuf,
        /// `read` or `write`.
        role: &'static str,
        /// At which step, and why.
        source: ConnectError,
    },
    /// The pool could not open all its connections.
    #[error("cannot open all connections of the pool: {source}")]
    #[non_exhaustive]
    Fill {
        /// What the last try ended in.
        source: CheckoutError,
    },
    /// The `setup` closure failed.
    #[error("the setup closure failed: {source}")]
    #[non_exhaustive]
    Setup {
        /// What the closure returned.
        source: BoxError,
    },
    /// The `setup` closure left a transaction open.
    #[error(
        "the setup closure left a transaction open: nothing it did was kept; commit before it returns"
    )]
    SetupLeftTransaction,
    /// A pool opened with `access = "read-only"` cannot run `setup`.
    #[error("`setup` needs to write, and `access` is \"read-only\"; leave out one of them")]
    SetupOnReadOnly,
    /// A thread of the pool could not be started.
    #[error("cannot start the pool's housekeeping thread: {source}")]
    #[non_exhaustive]
    Thread {
        /// The system's reason.
        source: std::io::Error,
    },
}

/// What is wrong with a database file, and what to do about it.
///
/// ```
/// use tenure::{FileProblem, OpenError, Pool};
///
/// let directory = tempfile::tempdir()?;
/// let error = Pool::open(directory.path()).unwrap_err();
/// assert!(matches!(error, OpenError::File { problem: FileProblem::Directory, .. }));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum FileProblem {
    /// No file is at the path, and the pool may not create one.
    #[error(
        "does not exist; create it, or open the pool with `create = true` and `access = \"read-write\"`"
    )]
    Missing,
    /// The directory that should hold the file is not there.
    #[error("cannot be created: its directory does not exist; create the directory first")]
    MissingDirectory,
    /// The path is a symbolic link that leads nowhere.
    #[error(
        "is a symbolic link to a file that does not exist; create that file, or remove the link"
    )]
    DanglingLink,
    /// The path is a directory's.
    #[error("is a directory; give the path of a file in it")]
    Directory,
    /// The path leads to a device, a pipe or a socket.
    #[error("is not a regular file; give the path of a database file")]
    NotAFile,
    /// The path has a NUL byte in it.
    #[error("has a NUL byte in its path; look at where the path comes from")]
    NulByte,
    /// The file has several names. SQLite keeps the journal beside the name that it was opened by,
    /// and whoever opens the file by another one does not find it.
    #[error(
        "has more than one name (hard links), of which SQLite's journal would follow only one; keep one of them"
    )]
    HardLinked,
    /// The file is on a network file system, where locks cannot be relied on.
    #[error(
        "is on a network file system, on whose locks SQLite cannot rely; keep it on a local one"
    )]
    NetworkFileSystem,
    /// The user may not read the file, or not write it, or not write its directory.
    #[error(
        "may not be used by this user; look at the permissions of the file and of its directory"
    )]
    Forbidden,
    /// The file system is mounted read-only.
    #[error(
        "is on a read-only file system; mount it for writing, or open the pool with `access = \"read-only\"`"
    )]
    ReadOnlyFileSystem,
    /// What SQLite keeps beside the database (`-wal`, `-shm`, `-journal`) is no regular file.
    #[error(
        "has something beside it, called like its `-wal`, `-shm` or `-journal`, that is not a regular file; move that away"
    )]
    CompanionInTheWay,
    /// The path has more bytes than SQLite takes.
    #[error("has a longer path than SQLite takes, which is 504 bytes; move it further up")]
    TooLong,
    /// The path is a URI, which the pool would take for the name of a file.
    #[error(
        "is given as a URI, which is not interpreted here; give the path alone, and what the URI asks for \
         as settings of the pool (\"./file:..\" is a file of that name)"
    )]
    Uri,
    /// The content is not a database's, or is encrypted.
    #[error(
        "is not a SQLite database, or is encrypted; give another path, or give the key in `on_connect`"
    )]
    NotADatabase,
    /// The content is a damaged database's.
    #[error(
        "is a damaged database; restore a backup, or save what can be read with `.recover` of the sqlite3 shell"
    )]
    Damaged,
    /// The system gave another reason.
    #[error("cannot be used")]
    Other,
}

/// What is said of it, where the problem itself says nothing.
fn cause_of(problem: &FileProblem, cause: Option<&BoxError>) -> String {
    match (problem, cause) {
        (FileProblem::Other, Some(cause)) => format!(" ({cause})"),
        _ => String::new(),
    }
}

/// Why a connection could not be opened and configured.
///
/// ```
/// use tenure::{ConnectError, OpenError, Pool};
///
/// let directory = tempfile::tempdir()?;
/// let result = Pool::builder()
///     .database(directory.path().join("app.db"))
///     .on_connect(|_connection, _role| Err("no key for this file".into()))
///     .open();
/// let Err(OpenError::Connect { source: ConnectError::OnConnect { .. }, .. }) = result else {
///     panic!("the hook's error was lost");
/// };
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// SQLite could not open the file.
    #[error("SQLite cannot open the file: {source}")]
    #[non_exhaustive]
    Open {
        /// SQLite's reason.
        source: rusqlite::Error,
    },
    /// The process has as many files open as it may.
    #[error(
        "no file descriptor is left ({source}); raise the limit (`ulimit -n`) or make the pool smaller: \
         it keeps two for each of its `readers`, and six more"
    )]
    #[non_exhaustive]
    TooManyFiles {
        /// The system's reason.
        source: std::io::Error,
    },
    /// Another connection held a lock that shuts everybody out, or had the file open when its journal mode
    /// was to be changed.
    #[error(
        "the database stayed locked while `{setting}` was set (`busy_timeout` is {limit:?}): another \
         connection, of this process or another, shuts all others out (EXCLUSIVE), or has the file open \
         in another journal mode; end that, or raise `busy_timeout`"
    )]
    #[non_exhaustive]
    Busy {
        /// The setting, as it is called in the configuration.
        setting: &'static str,
        /// The limit.
        limit: std::time::Duration,
        /// SQLite's reason.
        source: Box<rusqlite::Error>,
    },
    /// A setting could not be applied.
    #[error("cannot set {setting}: {source}")]
    #[non_exhaustive]
    Setting {
        /// The setting, as it is called in the configuration.
        setting: &'static str,
        /// SQLite's reason.
        source: rusqlite::Error,
    },
    /// The journal mode could not be changed.
    #[error(
        "the journal mode is {found:?} and could not be changed to {wanted:?}; the file system may \
         not support it, or another connection is open"
    )]
    #[non_exhaustive]
    JournalMode {
        /// What was asked for.
        wanted: &'static str,
        /// What SQLite answered.
        found: String,
    },
    /// The `on_connect` closure failed.
    #[error("the on_connect closure failed: {source}")]
    #[non_exhaustive]
    OnConnect {
        /// What the closure returned.
        source: BoxError,
    },
    /// The `on_connect` closure left a transaction open.
    #[error("the on_connect closure left a transaction open; commit it before it returns")]
    OnConnectLeftTransaction,
}
