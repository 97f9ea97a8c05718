//! `checkpoint`: what a checkpoint off the commit path saves a commit, and a WAL whose blocks exist.

use std::path::Path;
use std::time::Duration;

use harness::protocol::{Load, Operation, Settings, Synchronous};

use super::Suite;
use crate::Options;
use crate::cell::{Cell, Entry};
use crate::charts::{self, Panel};
use crate::figure::Figure;
use crate::report::duration;
use crate::seen::{Measured, Seen, median};
use crate::variant::{APPENDING, INLINE, TENURE, Variant};

pub(crate) const SUITE: Suite = Suite { cells, figures, charts };

const WRITERS: u32 = 4;

const BESIDE: &str = "checkpoint.normal";
const FIRST: &str = "checkpoint.full.first2000";

/// So many pools are opened for each way, for each of them has only one beginning.
const BEGINNINGS: usize = 7;

fn cells(options: &Options) -> Vec<Cell> {
    let length = options.length(Duration::from_secs(4), Duration::from_secs(2));
    let beside = Cell {
        name: BESIDE.to_owned(),
        entries: [TENURE, INLINE]
            .map(|variant| entry(variant, variant.name.to_owned(), Synchronous::Normal, WRITERS))
            .into(),
        items: 0,
        warm_up: length / 4,
        length,
    };
    // About as long as a disk of medium speed takes for 2000 commits.
    let length = Duration::from_millis(400);
    let beginnings = (0..BEGINNINGS).flat_map(|number| {
        [TENURE, APPENDING].map(|variant| {
            entry(variant, format!("{}_{number}", variant.name), Synchronous::Full, 1)
        })
    });
    let first = Cell {
        name: FIRST.to_owned(),
        entries: beginnings.collect(),
        items: 0,
        warm_up: Duration::ZERO,
        length,
    };
    vec![beside, first]
}

fn entry(variant: Variant, label: String, synchronous: Synchronous, callers: u32) -> Entry {
    Entry {
        label,
        variant,
        connections: None,
        settings: Settings::Equal(synchronous),
        loads: vec![Load { callers, operation: Operation::Write, timed: true, rate: None }],
    }
}

fn figures(all: &[Measured]) -> Vec<Figure> {
    let mut figures = Vec::new();
    for cell in all {
        let of = |variant| cell.seen.iter().filter(move |seen: &&Seen| seen.variant == variant);
        if cell.name == BESIDE {
            let (Some(ours), Some(inline)) = (of(TENURE).next(), of(INLINE).next()) else {
                continue;
            };
            for (what, of) in [("p99", p99 as fn(&_) -> _), ("p999", p999), ("max", longest)] {
                let name = format!("{BESIDE}.{what}.vs_inline");
                figures.extend(Figure::wait(name, of(ours), of(inline)));
            }
            let throughput = format!("{BESIDE}.throughput.vs_inline");
            let (ours, inline) = (ours.per_second(0), inline.per_second(0));
            figures.extend(Figure::throughput(throughput, ours, inline));
        } else {
            // The first window only: later ones find the blocks of the WAL there already.
            let first = |seen: &Seen| seen.repetitions.first().map(|loads| loads[0].per_second());
            let rate = |variant| median(of(variant).filter_map(first).collect());
            let name = format!("{FIRST}.vs_fresh");
            figures.extend(Figure::throughput(name, rate(TENURE), rate(APPENDING)));
        }
        let failed: u64 = cell.seen.iter().map(|seen| seen.failed(0)).sum();
        figures.push(Figure::new(format!("errors.{}.tenure", cell.name), failed as f64));
    }
    figures
}

fn p99(seen: &Seen) -> Option<f64> {
    seen.wait(0, |waits| waits.p99)
}

fn p999(seen: &Seen) -> Option<f64> {
    seen.wait(0, |waits| waits.p999)
}

fn longest(seen: &Seen) -> Option<f64> {
    seen.wait(0, |waits| waits.max)
}

fn charts(out: &Path, all: &[Measured]) -> anyhow::Result<()> {
    let beside: Vec<_> = all.iter().filter(|cell| cell.name == BESIDE).collect();
    let panels: Vec<_> =
        beside.iter().map(|cell| Panel::of(&cell.name, &cell.seen, p999, duration)).collect();
    charts::panels(
        &out.join("checkpoint-p999.svg"),
        "The time that 999 of 1000 write transactions keep within, by who checkpoints",
        "4 writers, synchronous=normal; logarithmic, shorter is better",
        &panels,
    )
}
