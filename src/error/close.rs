//! Who was still out when a pool was to be closed.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use crate::fork::FORKED;
use crate::status::Holder;

/// Why closing a pool did not come to its end in time. No connection is lent any more all the same.
///
/// ```
/// use std::time::Duration;
///
/// let pool = tenure::testing::temporary()?;
/// let writer = pool.write()?;
/// match pool.close(Duration::from_millis(1)) {
///     Err(tenure::CloseError::StillOut { write, .. }) => assert_eq!(write.len(), 1),
///     other => panic!("{other:?}"),
/// }
/// drop(writer);
/// pool.close(Duration::from_millis(1))?;
/// # Ok::<(), tenure::Error>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum CloseError {
    /// Not every connection had come back at the deadline. Those that are out stay valid, and are
    /// closed when they come back.
    #[non_exhaustive]
    StillOut {
        /// How long the caller waited.
        waited: Duration,
        /// Who holds query-only connections, the longest first.
        read: Vec<Holder>,
        /// Who holds the writing connection.
        write: Vec<Holder>,
        /// Who holds connections of a [`checkout::Pool`](crate::checkout::Pool), the longest first.
        any: Vec<Holder>,
    },
    /// This process was forked from the one that opened the pool.
    Forked,
}

impl fmt::Display for CloseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::StillOut { waited, read, write, any } = self else {
            return write!(f, "not closed: {FORKED}");
        };
        write!(f, "the pool lends no more connections, but after {waited:.1?} ")?;
        let roles = [("write", write), ("read", read), ("any", any)];
        if roles.iter().all(|(_, held)| held.is_empty()) {
            return f.write_str("some are still being opened or closed; wait longer");
        }
        f.write_str("there are still out: ")?;
        let all = roles.iter().flat_map(|(role, held)| held.iter().map(move |one| (role, one)));
        for (number, (role, holder)) in all.enumerate() {
            let comma = if number == 0 { "" } else { ", " };
            let detached = if holder.detached { ", detached" } else { "" };
            let (held, name, place) = (holder.held, holder.name(), &holder.place);
            write!(f, "{comma}{role} for {held:.1?} by {name} at {place}{detached}")?;
        }
        f.write_str(
            "; they stay valid and are closed when they come back: end the work that holds them, or \
             wait longer",
        )
    }
}

impl Error for CloseError {}
