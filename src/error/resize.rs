//! Why a pool could not be given another size.

use crate::fork::FORKED;

/// Why a pool could not be resized. It is as it was.
///
/// ```
/// let pool = tenure::testing::temporary()?;
/// assert!(matches!(pool.resize(0), Err(tenure::ResizeError::OutOfRange { limit: 0, .. })));
/// # Ok::<(), tenure::Error>(())
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResizeError {
    /// Not a number of connections that this pool can have.
    #[error(
        "cannot resize to {limit} connections: 1 to {most} are possible; for more, open the pool with \
         more (`readers`, or `ceiling` of a `checkout::Builder`) to begin with"
    )]
    #[non_exhaustive]
    OutOfRange {
        /// What was asked for.
        limit: usize,
        /// The most that this pool can have.
        most: usize,
    },
    /// The pool was closed.
    #[error("cannot resize: the pool is closed")]
    Closed,
    /// This process was forked from the one that opened the pool.
    #[error("cannot resize: {FORKED}")]
    Forked,
}
