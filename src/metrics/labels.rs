//! The values that labels can take: closed sets, so that the number of time series is bounded. What cannot
//! occur together has no series: one that never moves cannot be told from one that is broken.

/// A closed set of label values, in the order of their handles.
macro_rules! label {
    ($(#[$meta:meta])* $name:ident { $($variant:ident => $word:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum $name { $($variant,)+ }

        impl $name {
            pub(crate) const NAMES: &'static [&'static str] = &[$($word,)+];
        }
    };
}

label!(
    /// How a checkout ended.
    CheckoutOutcome {
        Immediate => "immediate",
        Waited => "waited",
        Timeout => "timeout",
        Deadlock => "deadlock",
        Overloaded => "overloaded",
        Unavailable => "unavailable",
        ConnectFailed => "connect_failed",
        Damaged => "damaged",
        Closed => "closed",
    }
);
label!(
    /// Why a connection was closed.
    CloseReason {
        Broken => "broken",
        Idle => "idle",
        Lifetime => "lifetime",
        PoolClosed => "pool_closed",
        Leaked => "leaked",
        Resized => "resized",
    }
);
label!(
    /// What a check-in found left over.
    Repair {
        OpenTransaction => "open_transaction",
        UnfinishedStatement => "unfinished_statement",
        AttachedDatabase => "attached_database",
        TemporaryObject => "temporary_object",
        Pragma => "pragma",
        BusyHandler => "busy_handler",
        Limit => "limit",
        Hook => "hook",
        Function => "function",
        Raw => "raw",
        Discarded => "discarded",
    }
);

impl Repair {
    /// For the sentence "a connection came back with ..".
    pub(crate) fn found(self) -> &'static str {
        match self {
            Self::OpenTransaction => "a transaction open; it was rolled back",
            Self::UnfinishedStatement => "a statement unfinished; it was reset",
            Self::AttachedDatabase => "a database attached or detached",
            Self::TemporaryObject => "TEMP tables, views or triggers created or dropped",
            Self::Pragma => "a PRAGMA changed",
            Self::BusyHandler => "the pool's busy handler replaced; it was put back",
            Self::Limit => "a limit or a switch of SQLite's changed",
            Self::Hook => "a hook set",
            Self::Function => "functions, collations or modules registered or removed",
            Self::Raw => "traces of rusqlite() that cannot be told from changes of its state",
            Self::Discarded => "a fault",
        }
    }
}

label!(
    /// How a transaction was begun.
    TransactionKind {
        Immediate => "immediate",
        Exclusive => "exclusive",
        Group => "group",
        Snapshot => "snapshot",
    }
);
label!(
    /// How a transaction ended.
    TransactionOutcome {
        Commit => "commit",
        Rollback => "rollback",
        Busy => "busy",
        Panic => "panic",
        Error => "error",
    }
);
/// Whether transactions of this kind can end so: a snapshot has nothing to undo, and in a group each closure
/// that panics is undone by itself.
pub(super) fn can_end(kind: &str, outcome: &str) -> bool {
    !matches!((kind, outcome), ("snapshot", "rollback") | ("group", "panic"))
}

/// Whether connections of this role are closed for this: the writer is one, and the last of a role is kept.
pub(super) fn can_be_closed(role: &str, reason: &str) -> bool {
    !matches!((role, reason), ("write", "resized" | "idle"))
}

/// Whether this waits for locks: a checkpoint is refused, and tried again later.
pub(super) fn can_wait(operation: &str) -> bool {
    operation != "checkpoint"
}

label!(
    /// What became of one caller's part of a group commit.
    GroupOutcome {
        Commit => "commit",
        Rollback => "rollback",
        Panic => "panic",
        Aborted => "aborted",
        Error => "error",
        NotBegun => "not_begun",
    }
);
label!(
    /// What the connection was doing when it met a lock.
    Operation {
        Begin => "begin",
        Read => "read",
        Write => "write",
        Commit => "commit",
        Checkpoint => "checkpoint",
    }
);
label!(
    /// Which step a checkpoint belonged to.
    CheckpointMode {
        Passive => "passive",
        InTurn => "in_turn",
    }
);
label!(
    /// How a checkpoint ended.
    CheckpointOutcome {
        Complete => "complete",
        Partial => "partial",
        Busy => "busy",
        Error => "error",
    }
);

impl Operation {
    pub(crate) fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }
}

label!(
    /// Where `prepare_cached` had a statement from.
    CacheResult {
        Hit => "hit",
        Miss => "miss",
    }
);
label!(
    /// Who uses a page cache.
    PageCache {
        Shared => "shared",
        PerConnection => "per_connection",
    }
);

impl PageCache {
    pub(crate) fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }
}
