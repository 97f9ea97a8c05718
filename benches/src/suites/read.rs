//! `read`: point queries of many readers, alone and beside writers at a steady rate.

use std::path::Path;
use std::time::Duration;

use harness::protocol::{Load, Operation, Settings, Synchronous};

use super::Suite;
use crate::Options;
use crate::cell::{Cell, Entry};
use crate::charts::{self, Panel};
use crate::figure::Figure;
use crate::report::significant;
use crate::seen::{Measured, Seen};
use crate::variant::{SQL_PEERS, TENURE, Variant};

pub(crate) const SUITE: Suite = Suite { cells, figures, charts };

const READERS: u32 = 15;

const WRITERS: [u32; 3] = [0, 1, 4];

/// Transactions per second of each writer.
const RATE: f64 = 250.0;

/// Several times what fits into a page cache.
const ITEMS: i64 = 100_000;

/// Queries in one read transaction.
const SNAPSHOT: usize = 8;

/// Ends the label of a peer that makes the queries of a snapshot one by one.
const ONE_BY_ONE: &str = "_one_by_one";

/// Which load of an entry reads, and which writes.
const READ: usize = 0;
const WRITE: usize = 1;

#[derive(Clone, Copy, Debug)]
struct Kind {
    name: &'static str,
    settings: Settings,
    operation: Operation,
}

const KINDS: [Kind; 4] = [
    Kind {
        name: "equal",
        settings: Settings::Equal(Synchronous::Full),
        operation: Operation::Query,
    },
    Kind { name: "default", settings: Settings::Default, operation: Operation::Query },
    Kind { name: "recommended", settings: Settings::Recommended, operation: Operation::Query },
    Kind {
        name: "snapshot8",
        settings: Settings::Equal(Synchronous::Full),
        operation: Operation::Snapshot(SNAPSHOT),
    },
];

fn cells(options: &Options) -> Vec<Cell> {
    let mut cells = Vec::new();
    for kind in KINDS {
        for writers in WRITERS {
            // Where the writers' waits are a figure, they must be many.
            let length = if is_mixed(kind.name, writers) {
                options.length(Duration::from_secs(2), Duration::from_millis(180))
            } else {
                options.length(Duration::from_millis(500), Duration::from_millis(60))
            };
            let entry = |&variant: &Variant| {
                let variant = match kind.settings {
                    Settings::Equal(_) => variant.with_equal_build(),
                    _ => variant,
                };
                entry(options, variant, kind, writers)
            };
            let mut entries: Vec<_> = [TENURE].iter().chain(SQL_PEERS).map(entry).collect();
            if matches!(kind.operation, Operation::Snapshot(_)) {
                entries.extend(SQL_PEERS.iter().map(entry).map(one_by_one));
            }
            cells.push(Cell {
                name: format!("read.{}.R{READERS}.W{writers}", kind.name),
                entries,
                items: ITEMS,
                warm_up: length / 4,
                length,
            });
        }
    }
    cells
}

/// Whether the writers beside the readers are compared too.
fn is_mixed(kind: &str, writers: u32) -> bool {
    kind == "equal" && writers == 4
}

fn entry(options: &Options, variant: Variant, kind: Kind, writers: u32) -> Entry {
    let operation = kind.operation;
    let mut loads = vec![Load { callers: READERS, operation, timed: false, rate: None }];
    if writers > 0 {
        let operation = Operation::Write;
        loads.push(Load { callers: writers, operation, timed: true, rate: Some(RATE) });
    }
    Entry {
        label: variant.name.to_owned(),
        variant,
        connections: if variant.is_tenure { options.readers } else { options.connections },
        settings: kind.settings,
        loads,
    }
}

fn one_by_one(mut entry: Entry) -> Entry {
    entry.label.push_str(ONE_BY_ONE);
    entry.loads[READ].operation = Operation::Query;
    entry
}

fn figures(all: &[Measured]) -> Vec<Figure> {
    let mut figures = Vec::new();
    for cell in all {
        let Some(tenure) = cell.tenure().next() else { continue };
        for peer in cell.peers() {
            let name = format!("{}.vs_{}", cell.name, peer.label);
            figures.extend(Figure::throughput(name, reads(tenure), reads(peer)));
        }
        let writers = tenure.loads.get(WRITE).map_or(0, |load| load.callers);
        let kind = cell.name.split('.').nth(1).unwrap_or_default();
        if is_mixed(kind, writers) {
            let name = format!("mixed.R{READERS}.W{writers}");
            for peer in cell.peers() {
                let p99 = |seen: &Seen| seen.wait(WRITE, |waits| waits.p99);
                let name = format!("{name}.writer_p99.vs_{}", peer.label);
                figures.extend(Figure::wait(name, p99(tenure), p99(peer)));
            }
            let asked = RATE * f64::from(writers);
            let kept = tenure.per_second(WRITE) / asked;
            figures.push(Figure::new(format!("{name}.writer_rate.share"), kept));
        }
        let failed: u64 = (0..tenure.loads.len()).map(|load| tenure.failed(load)).sum();
        figures.push(Figure::new(format!("errors.{}.tenure", cell.name), failed as f64));
    }
    figures
}

/// Point queries per second, whether alone or in a snapshot.
fn reads(seen: &Seen) -> f64 {
    let each = match seen.loads[READ].operation {
        Operation::Snapshot(queries) => queries as f64,
        _ => 1.0,
    };
    seen.per_second(READ) * each
}

fn charts(out: &Path, all: &[Measured]) -> anyhow::Result<()> {
    let panels: Vec<_> = all
        .iter()
        .map(|cell| {
            let text = |value: f64| significant(value.round());
            Panel::of(&cell.name, &cell.seen, |seen| Some(reads(seen)), text)
        })
        .collect();
    charts::panels(
        &out.join("read.svg"),
        "Point queries per second, 15 readers",
        "W writers at 250 transactions per second each; logarithmic, longer is better",
        &panels,
    )
}
