//! A picture of a pool at one moment, for status pages and error messages.
//!
//! Plain data: it can be serialised, printed, compared, and it borrows nothing from the pool.

use std::fmt;
use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::who::Named;

/// A picture of a pool at one moment. Made by [`Pool::status`](crate::Pool::status).
///
/// ```
/// let pool = tenure::testing::temporary()?;
/// let guard = pool.read()?;
/// let status = pool.status();
/// assert_eq!(status.read.held.len(), 1);
/// println!("{status}");
/// # Ok::<(), tenure::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PoolStatus {
    /// The pool's name: the value of the label `pool` in metrics.
    pub name: String,
    /// Whether it lends connections.
    pub state: PoolState,
    /// What has stopped it: damage that SQLite has found in the database, or a failed fsync.
    pub damage: Option<String>,
    /// The query-only connections.
    pub read: RoleStatus,
    /// The writing connection; `None` for a pool opened with `access = "read-only"`.
    pub write: Option<RoleStatus>,
    /// The callers of [`group_commit`](crate::Pool::group_commit).
    pub group_commit: GroupStatus,
}

/// Whether a pool lends connections; in small letters when it is serialised.
///
/// ```
/// let pool = tenure::testing::temporary()?;
/// assert_eq!(pool.status().state, tenure::status::PoolState::Open);
/// pool.close(std::time::Duration::from_secs(5))?;
/// assert_eq!(pool.status().state, tenure::status::PoolState::Closed);
/// # Ok::<(), tenure::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum PoolState {
    /// It does.
    Open,
    /// It was closed.
    Closed,
    /// It has stopped: [`PoolStatus::damage`] says why.
    Damaged,
    /// This process was forked from the one that opened it.
    Forked,
}

/// The connections of one role.
///
/// ```
/// let pool = tenure::testing::temporary()?;
/// let write = pool.status().write.expect("the pool can write");
/// assert_eq!((write.limit, write.held.len(), write.waiting.len()), (1, 0, 0));
/// # Ok::<(), tenure::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct RoleStatus {
    /// At most so many connections.
    pub limit: usize,
    /// Idle, held and being opened.
    pub open: usize,
    /// Ready to be lent.
    pub idle: usize,
    /// Who holds a connection, the longest first.
    pub held: Vec<Holder>,
    /// Who waits for one, in the order in which they will be served.
    pub waiting: Vec<Waiter>,
    /// Why the latest connection could not be opened; `None` once one could.
    pub last_connect_error: Option<String>,
}

/// The callers of group commit.
///
/// ```
/// let pool = tenure::testing::temporary()?;
/// let group = pool.status().group_commit;
/// assert_eq!((group.callers, group.waiting.len()), (0, 0));
/// # Ok::<(), tenure::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct GroupStatus {
    /// How many are inside, those that wait among them.
    pub callers: usize,
    /// Who waits for a transaction to share, in the order in which they will be served. The one who leads
    /// the next waits for the writer like anyone, among [`RoleStatus::waiting`].
    pub waiting: Vec<Waiter>,
}

/// Somebody who holds a connection.
///
/// ```
/// let pool = tenure::testing::temporary()?;
/// let _guard = pool.write()?;
/// let holder = &pool.status().write.expect("the pool can write").held[0];
/// println!("{} since {:?} at {}", holder.thread, holder.held, holder.place);
/// # Ok::<(), tenure::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Holder {
    /// The thread's name, or its id when it has none.
    pub thread: String,
    /// `file:line:column` of the checkout.
    pub place: String,
    /// What the holder calls it, see [`ReadGuard::set_label`](crate::ReadGuard::set_label).
    pub label: Option<String>,
    /// For how long; serialised in seconds as `held_seconds`.
    #[serde(rename = "held_seconds", serialize_with = "seconds")]
    pub held: Duration,
    /// Detached, and not attached to a thread yet.
    pub detached: bool,
}

/// Somebody who waits for a connection, or for a transaction to share.
///
/// ```
/// let pool = tenure::testing::temporary()?;
/// assert!(pool.status().read.waiting.is_empty());
/// # Ok::<(), tenure::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Waiter {
    /// The thread's name, or its id when it has none.
    pub thread: String,
    /// `file:line:column` of the call.
    pub place: String,
    /// For how long so far; serialised in seconds as `waited_seconds`.
    #[serde(rename = "waited_seconds", serialize_with = "seconds")]
    pub waited: Duration,
}

impl Holder {
    pub(crate) fn name(&self) -> Named<'_> {
        Named { thread: &self.thread, label: self.label.as_deref() }
    }
}

fn seconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

/// A page of plain text.
impl fmt::Display for PoolStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.state, &self.damage) {
            (PoolState::Open, _) => writeln!(f, "pool {}", self.name)?,
            (PoolState::Closed, _) => writeln!(f, "pool {}: closed", self.name)?,
            (PoolState::Damaged, why) => {
                writeln!(f, "pool {}: stopped, {}", self.name, why.as_deref().unwrap_or_default())?;
            }
            (PoolState::Forked, _) => writeln!(f, "pool {}: a forked child's", self.name)?,
        }
        write_role(f, "read", &self.read)?;
        match &self.write {
            Some(write) => write_role(f, "write", write)?,
            None => writeln!(f, "  write: none, the pool is read-only")?,
        }
        let GroupStatus { callers, waiting } = &self.group_commit;
        if *callers > 0 {
            writeln!(f, "  group commit: {callers} callers, {} waiting", waiting.len())?;
        }
        write_waiting(f, waiting)
    }
}

fn write_waiting(f: &mut fmt::Formatter<'_>, waiting: &[Waiter]) -> fmt::Result {
    for Waiter { thread, place, waited } in waiting {
        writeln!(f, "    thread `{thread}` waiting {waited:.1?} at {place}")?;
    }
    Ok(())
}

fn write_role(f: &mut fmt::Formatter<'_>, name: &str, role: &RoleStatus) -> fmt::Result {
    let (held, waiting) = (role.held.len(), role.waiting.len());
    writeln!(
        f,
        "  {name}: {held} held, {} idle, {} open, limit {}, {waiting} waiting",
        role.idle, role.open, role.limit
    )?;
    for holder in &role.held {
        let detached = if holder.detached { ", detached" } else { "" };
        let (held, name, place) = (holder.held, holder.name(), &holder.place);
        writeln!(f, "    held {held:.1?} by {name} at {place}{detached}")?;
    }
    write_waiting(f, &role.waiting)?;
    if let Some(error) = &role.last_connect_error {
        writeln!(f, "    last connection could not be opened: {error}")?;
    }
    Ok(())
}
