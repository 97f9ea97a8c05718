//! Who is in the way of whom when threads wait for each other's connections.

use std::fmt;

use crate::who::Named;

/// A connection that a thread has, or wants.
///
/// ```
/// let pool = tenure::testing::temporary()?;
/// let _writer = pool.write()?;
/// let error = pool.write().unwrap_err();
/// assert_eq!(error.holders()[0].waits_for.role, "write");
/// # Ok::<(), tenure::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Claim {
    /// The name of the pool.
    pub pool: String,
    /// `read` or `write`.
    pub role: &'static str,
    /// `file:line:column` of the checkout.
    pub place: String,
}

/// A thread that holds a connection which others wait for, and waits for one itself.
///
/// ```
/// let pool = tenure::testing::temporary()?;
/// let _writer = pool.write()?;
/// let error = pool.write().unwrap_err();
/// println!("{}", error.holders()[0]);
/// # Ok::<(), tenure::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeadlockedHolder {
    /// The thread's name, or its id when it has none.
    pub thread: String,
    /// What it calls what it has, see [`ReadGuard::set_label`](crate::ReadGuard::set_label).
    pub label: Option<String>,
    /// What it has.
    pub holds: Claim,
    /// What it waits for.
    pub waits_for: Claim,
}

impl fmt::Display for DeadlockedHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { thread, label, holds, waits_for } = self;
        let name = Named { thread, label: label.as_deref() };
        write!(
            f,
            "{name} holds a {} connection of pool `{}` since {} and waits for a {} connection of pool `{}` at {}",
            holds.role, holds.pool, holds.place, waits_for.role, waits_for.pool, waits_for.place
        )
    }
}
