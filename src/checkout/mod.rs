//! WHO may hold a connection, and who is next.
//!
//! This layer knows no SQL: it is generic over [`r2d2::ManageConnection`] and asks the manager for
//! two things only, to open a connection and to say at check-in whether it may be lent again.
//!
//! r2d2 is where connections come from: it opens them on its own thread, with back-off. It is not
//! the queue. Its condition variable lets newcomers overtake a waiter without bound, and it hands a
//! connection back just as it was left. So every connection that r2d2 has opened stays checked out
//! of r2d2 for its whole life, and is lent from here:
//!
//! * `slots` holds the idle connections; a checkout that finds one takes no lock;
//! * `queue` holds the waiters, in order of arrival;
//! * `dispatch` decides who gets which connection, and keeps to the limit, which `upkeep` changes; `pace`
//!   says whether newcomers may overtake;
//! * `holders` knows who has what, since when, taken where, and `labels` what the holder calls it;
//! * `deadlock` finds out who would wait in vain;
//! * `counts` counts, `clock` tells the time and `threads` who asks, without being in anybody's way;
//! * `sources` is where connections come from: r2d2, through a `source` for each slot; `openings` counts
//!   what it is opening;
//! * `shared` opens, inspects and closes; `old` closes for age; `long_holds` says who does not give back, and
//!   `leaks` regains what nobody can; `picture` shows it all;
//! * `guard` is the proof of ownership that a holder has in hand.
//!
//! [`Pool`] is all of that for any manager of r2d2's: PostgreSQL connections, or something that is no
//! database at all, can be held with the same strictness. [`tenure::Pool`](crate::Pool) has one of these
//! for its readers and one for its writer.

mod any;
mod clock;
mod counts;
mod deadlock;
mod dispatch;
mod guard;
mod holders;
mod labels;
mod leaks;
mod long_holds;
mod mailbox;
mod old;
mod openings;
mod pace;
mod picture;
mod pool;
mod queue;
mod shared;
mod slots;
mod source;
mod sources;
pub(crate) mod sync;
mod threads;
mod upkeep;
mod wait;

pub use any::{Builder, Detached, Guard, Pool};

pub(crate) use guard::{Detached as RoleDetached, Guard as RoleGuard, Pinned};
pub(crate) use pool::{Pool as RolePool, Settings, Wait, WeakPool};
pub(crate) use source::Manage;
pub(crate) use threads::holds_any;
