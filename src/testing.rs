//! Pools for tests: on a file, like the real one, that deletes itself.
//!
//! A test on `:memory:` tests another program: every connection has a database of its own there, and a
//! shared-cache database answers LOCKED where a file answers BUSY.

use crate::builder::Builder;
use crate::error::{FileProblem, OpenError};
use crate::pool::Pool;

/// A pool with default settings on a new, empty database in a directory of its own below the system's
/// temporary one. The directory is deleted when the pool and its guards are gone.
///
/// # Errors
///
/// [`OpenError`] when the directory or the database cannot be created.
///
/// ```
/// let pool = tenure::testing::temporary()?;
/// pool.write()?.execute_batch("CREATE TABLE task (title TEXT)")?;
/// # Ok::<(), tenure::Error>(())
/// ```
pub fn temporary() -> Result<Pool, OpenError> {
    temporary_with(Pool::builder())
}

/// As [`temporary`], with settings and closures of a [`Builder`]; its `database` is replaced.
///
/// # Errors
///
/// [`OpenError`], as [`Builder::open`].
///
/// ```
/// let pool = tenure::testing::temporary_with(tenure::Pool::builder().readers(2).setup(|connection| {
///     connection.execute_batch("CREATE TABLE task (title TEXT)")?;
///     Ok(())
/// }))?;
/// assert!(pool.read()?.table_exists(None, "task")?);
/// # Ok::<(), tenure::Error>(())
/// ```
pub fn temporary_with(builder: Builder) -> Result<Pool, OpenError> {
    let directory = tempfile::Builder::new().prefix("tenure-").tempdir();
    let directory = directory.map_err(|source| OpenError::File {
        path: std::env::temp_dir(),
        problem: FileProblem::Other,
        source: Some(source.into()),
    })?;
    let database = directory.path().join("temporary.db");
    builder.database(database).open_in(Some(directory))
}
