//! What the main program asks of a worker, one JSON text per line, and what it answers.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::sample::Sample;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Request {
    Open(Recipe),
    Run(Window),
}

#[derive(Debug, Serialize, Deserialize)]
pub enum Answer {
    /// Sent once, unasked: the versions of what is linked.
    Hello(Vec<(String, String)>),
    Opened,
    Ran(Vec<Sample>),
    Failed(String),
}

/// How a pool is opened.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Recipe {
    /// A file in WAL mode with the tables of [`crate::sql`].
    pub database: PathBuf,
    /// How many connections to read with; `None` is the library's default.
    pub connections: Option<usize>,
    pub settings: Settings,
    /// Rows in the table `item`, numbered from 1.
    pub items: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Settings {
    /// The same pragmas everywhere, and prepared statements kept.
    Equal(Synchronous),
    /// What a library does when it is told nothing; statements as its shortest call handles them.
    Default,
    /// What tenure's documentation recommends to who wants more. The peers stay as by default.
    Recommended,
}

impl Settings {
    /// SQL for a connection of a library that has no settings of its own for these.
    pub fn pragmas(self) -> String {
        match self {
            Self::Equal(synchronous) => self
                .pairs(synchronous)
                .map(|(key, value)| format!("PRAGMA {key} = {value};"))
                .concat(),
            Self::Default | Self::Recommended => String::new(),
        }
    }

    /// The pragmas that are equal for all: tenure's defaults, but for `synchronous`.
    pub fn pairs(self, synchronous: Synchronous) -> [(&'static str, &'static str); 6] {
        [
            ("synchronous", synchronous.sql()),
            ("foreign_keys", "ON"),
            ("trusted_schema", "OFF"),
            ("cell_size_check", "ON"),
            ("cache_size", "-2000"),
            ("mmap_size", "0"),
        ]
    }

    /// Whether users of a plain connection call `prepare_cached`.
    pub fn keeps_statements(self) -> bool {
        matches!(self, Self::Equal(_))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Synchronous {
    Normal,
    Full,
}

impl Synchronous {
    pub fn sql(self) -> &'static str {
        match self {
            Self::Normal => "NORMAL",
            Self::Full => "FULL",
        }
    }
}

/// A stretch of time with load on the pool, and only its middle measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Window {
    pub warm_up: Duration,
    pub length: Duration,
    pub loads: Vec<Load>,
}

/// Callers that do the same over and over, each beginning again when it has its answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Load {
    pub callers: u32,
    pub operation: Operation,
    /// Whether each operation is timed. Two looks at the clock cost more than a fast checkout.
    pub timed: bool,
    /// Times per second and caller, at most.
    pub rate: Option<f64>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub enum Operation {
    /// Checkout and check-in.
    CheckOut,
    /// Checkout, that long on the processor, check-in. What is timed is the checkout.
    Hold(Duration),
    /// Checkout, one point query, check-in.
    Query,
    /// Checkout, so many point queries in one read transaction, check-in.
    Snapshot(usize),
    /// Checkout, BEGIN IMMEDIATE, INSERT, COMMIT, check-in.
    Write,
}
