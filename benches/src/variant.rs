//! What is compared, and which program each runs in.

/// A peer, or a way to use tenure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Variant {
    /// As in the names of figures.
    pub(crate) name: &'static str,
    pub(crate) program: Program,
    pub(crate) is_tenure: bool,
    /// Something to look at rather than a pool: without deadlines, counts or guards.
    pub(crate) is_floor: bool,
}

/// Programs that link different versions of SQLite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Program {
    /// This one, run again as a worker.
    Own,
    Sqlx,
    AsyncSqlite,
    /// With the page cache that the other programs have, which all connections share.
    AsyncSqliteShared,
}

const fn peer(name: &'static str, program: Program) -> Variant {
    Variant { name, program, is_tenure: false, is_floor: false }
}

const fn tenure(name: &'static str) -> Variant {
    Variant { name, program: Program::Own, is_tenure: true, is_floor: false }
}

const fn floor(name: &'static str) -> Variant {
    Variant { name, program: Program::Own, is_tenure: false, is_floor: true }
}

pub(crate) const TENURE: Variant = tenure("tenure");

/// With every hold timed.
pub(crate) const TIMED: Variant = tenure("tenure_timed");

/// With metrics switched off.
pub(crate) const UNMETERED: Variant = tenure("tenure_unmetered");

/// In strict order of arrival.
pub(crate) const STRICT: Variant = tenure("tenure_strict");

/// SQLite checkpoints in the committing thread.
pub(crate) const INLINE: Variant = tenure("tenure_inline");

/// The WAL grows and grows.
pub(crate) const APPENDING: Variant = tenure("tenure_appending");

pub(crate) const R2D2: Variant = peer("r2d2", Program::Own);

pub(crate) const R2D2_UNTESTED: Variant = peer("r2d2_untested", Program::Own);

/// With a connection for each caller instead of r2d2's ten: writers do not wait for each other in the
/// pool's queue, but in SQLite, which has none.
pub(crate) const R2D2_PER_THREAD: Variant = peer("r2d2_per_thread", Program::Own);

/// Those that have a checkout.
pub(crate) const CHECKOUT: &[Variant] = &[
    TENURE,
    R2D2,
    R2D2_UNTESTED,
    peer("deadpool", Program::Own),
    peer("deadpool_unmanaged", Program::Own),
    peer("bb8", Program::Own),
    peer("sqlx", Program::Sqlx),
    peer("deadpool_sqlite", Program::Own),
    floor("crossbeam"),
    floor("mutex_vec"),
];

/// Ways to write with tenure. A further one is named here and in `peers::open`.
pub(crate) const TENURE_WRITERS: &[Variant] = &[tenure("plain"), tenure("group")];

impl Variant {
    /// With SQLite built as for the others. async-sqlite's would be built to give each connection a page
    /// cache of its own, which the others lack for as long as they have an older `libsqlite3-sys`.
    pub(crate) fn with_equal_build(mut self) -> Self {
        if self.program == Program::AsyncSqlite {
            self.program = Program::AsyncSqliteShared;
        }
        self
    }
}

/// Those that say how SQL is run.
pub(crate) const SQL_PEERS: &[Variant] = &[
    R2D2,
    R2D2_UNTESTED,
    peer("deadpool_sqlite", Program::Own),
    peer("sqlx", Program::Sqlx),
    peer("async_sqlite", Program::AsyncSqlite),
];
