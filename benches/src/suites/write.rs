//! `write`: small write transactions from one to many threads.

use std::path::Path;
use std::time::Duration;

use harness::protocol::{Load, Operation, Settings, Synchronous};

use super::Suite;
use crate::Options;
use crate::cell::{Cell, Entry};
use crate::charts::{self, Panel};
use crate::figure::Figure;
use crate::report::{duration, significant};
use crate::seen::{Measured, Seen};
use crate::variant::{R2D2_PER_THREAD, SQL_PEERS, TENURE_WRITERS, Variant};

pub(crate) const SUITE: Suite = Suite { cells, figures, charts };

const THREADS: [u32; 4] = [1, 4, 16, 64];

fn cells(options: &Options) -> Vec<Cell> {
    let mut cells = Vec::new();
    for (name, synchronous) in [("full", Synchronous::Full), ("normal", Synchronous::Normal)] {
        for threads in THREADS {
            let full = match (synchronous, threads) {
                // Longer than the 5 s for which SQLite lets a writer sleep before it says BUSY.
                (Synchronous::Full, 64) => Duration::from_secs(6),
                (Synchronous::Normal, 64) => Duration::from_secs(2),
                _ => Duration::from_secs(1),
            };
            let length = options.length(full, Duration::from_millis(100));
            cells.push(Cell {
                name: format!("write.{name}.T{threads}"),
                entries: TENURE_WRITERS
                    .iter()
                    .chain(SQL_PEERS)
                    .chain([&R2D2_PER_THREAD])
                    .map(|&variant| Entry {
                        label: variant.name.to_owned(),
                        variant,
                        connections: connections(variant, threads, options),
                        settings: Settings::Equal(synchronous),
                        loads: vec![Load {
                            callers: threads,
                            operation: Operation::Write,
                            timed: true,
                            rate: None,
                        }],
                    })
                    .collect(),
                items: 0,
                warm_up: length / 6,
                length,
            });
        }
    }
    cells
}

/// None = as many as its library takes by default.
fn connections(variant: Variant, threads: u32, options: &Options) -> Option<usize> {
    match variant {
        R2D2_PER_THREAD => Some(threads as usize),
        _ => options.connections.filter(|_| !variant.is_tenure),
    }
}

fn figures(all: &[Measured]) -> Vec<Figure> {
    let mut figures = Vec::new();
    for cell in all {
        for tenure in cell.tenure() {
            let name = format!("{}.{}", cell.name, tenure.variant.name);
            for peer in cell.peers() {
                let vs = peer.variant.name;
                let (ours, theirs) = (tenure.per_second(0), peer.per_second(0));
                let throughput = format!("{name}.throughput.vs_{vs}");
                figures.extend(Figure::throughput(throughput, ours, theirs));
                for (what, of) in [("p999", p999 as fn(&_) -> _), ("max", longest)] {
                    let name = format!("{name}.{what}.vs_{vs}");
                    figures.extend(Figure::wait(name, of(tenure), of(peer)));
                }
            }
            figures.push(Figure::new(format!("{name}.jain"), tenure.jain(0)));
            figures.push(Figure::new(format!("errors.{name}.tenure"), tenure.failed(0) as f64));
        }
    }
    figures
}

fn p999(seen: &Seen) -> Option<f64> {
    seen.wait(0, |waits| waits.p999)
}

fn longest(seen: &Seen) -> Option<f64> {
    seen.wait(0, |waits| waits.max)
}

fn charts(out: &Path, all: &[Measured]) -> anyhow::Result<()> {
    let panels = |of: fn(&Seen) -> Option<f64>, text: fn(f64) -> String| -> Vec<Panel> {
        all.iter().map(|cell| Panel::of(&cell.name, &cell.seen, of, text)).collect()
    };
    charts::panels(
        &out.join("write-throughput.svg"),
        "Small write transactions per second",
        "logarithmic, longer is better",
        &panels(|seen| Some(seen.per_second(0)), |value| significant(value.round())),
    )?;
    charts::panels(
        &out.join("write-p999.svg"),
        "The time that 999 of 1000 write transactions keep within",
        "logarithmic, shorter is better",
        &panels(p999, duration),
    )?;
    charts::panels(
        &out.join("write-longest.svg"),
        "The longest that a write transaction took",
        "logarithmic, shorter is better",
        &panels(longest, duration),
    )
}
