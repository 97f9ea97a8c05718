//! `checkout`: the cost of a checkout with and without a query, waits when connections are few, and
//! how tenure's cost grows with threads and connections.

use std::path::Path;
use std::time::Duration;

use harness::protocol::{Load, Operation, Settings, Synchronous};

use super::Suite;
use crate::Options;
use crate::cell::{Cell, Entry};
use crate::charts::{self, Line, Panel};
use crate::figure::Figure;
use crate::report::duration;
use crate::seen::{Measured, Seen};
use crate::variant::{CHECKOUT, R2D2, R2D2_UNTESTED, STRICT, TENURE, TIMED, UNMETERED, Variant};

pub(crate) const SUITE: Suite = Suite { cells, figures, charts };

const THREADS: [u32; 4] = [1, 4, 16, 64];

/// Threads, connections and how long each is held, in microseconds.
const EXHAUST: [(u32, u32, u64); 6] =
    [(64, 1, 20), (64, 1, 200), (16, 4, 20), (16, 4, 200), (64, 4, 20), (64, 4, 200)];

const ITEMS: i64 = 1000;

/// The cells without waits worth timing.
const PLAIN: [(&str, Operation); 2] =
    [("checkout", Operation::CheckOut), ("query", Operation::Query)];

/// Tenure alone, in these sizes.
const FLAT: &str = "flat";

/// What metrics cost a checkout.
const INSTRUMENTATION: &str = "instrumentation";

/// Names of the entries in `FLAT`, in front of the number that grows.
const BY_THREADS: &str = "threads";
const BY_CONNECTIONS: &str = "connections";
const BY_CONNECTIONS_OF_16: &str = "connections_T16";

/// The least wait that counts as one; see [`harness::sample`].
const WAITED: f64 = 10_000.0;

fn cells(options: &Options) -> Vec<Cell> {
    let length = options.length(Duration::from_millis(100), Duration::from_millis(10));
    let mut cells = Vec::new();
    for (name, operation) in PLAIN {
        for (threads, size) in sizes() {
            cells.push(Cell {
                name: format!("{name}.T{threads}.S{size}"),
                entries: CHECKOUT
                    .iter()
                    .filter(|variant| !(options.quick && storms(variant, threads, operation)))
                    .map(|&variant| entry(variant, threads, size, operation))
                    .collect(),
                items: ITEMS,
                warm_up: length / 5,
                length,
            });
        }
    }
    for (threads, size, micros) in EXHAUST {
        let length = options.length(Duration::from_millis(600), Duration::from_millis(50));
        let operation = Operation::Hold(Duration::from_micros(micros));
        cells.push(Cell {
            name: format!("exhaust.T{threads}.S{size}.H{micros}"),
            entries: CHECKOUT
                .iter()
                .map(|&variant| entry(variant, threads, size, operation))
                .collect(),
            items: ITEMS,
            warm_up: length / 10,
            length,
        });
    }
    cells.extend(other_settings(length, options));
    cells.push(Cell {
        name: FLAT.to_owned(),
        entries: flat(),
        items: ITEMS,
        warm_up: length / 5,
        length,
    });
    cells
}

/// tenure with other settings than its defaults, beside r2d2.
fn other_settings(length: Duration, options: &Options) -> Vec<Cell> {
    let mut cells = Vec::new();
    for (threads, size) in [(1, 1), (4, 4), (16, 16)] {
        let of = |variant| entry(variant, threads, size, Operation::CheckOut);
        cells.push(Cell {
            name: format!("checkout_timed.T{threads}.S{size}"),
            entries: [TIMED, R2D2, R2D2_UNTESTED].map(of).into(),
            items: ITEMS,
            warm_up: length / 5,
            length,
        });
    }
    cells.push(Cell {
        name: INSTRUMENTATION.to_owned(),
        entries: [TENURE, UNMETERED]
            .map(|variant| entry(variant, 1, 1, Operation::CheckOut))
            .into(),
        items: ITEMS,
        warm_up: length / 5,
        length,
    });
    let length = options.length(Duration::from_millis(600), Duration::from_millis(50));
    let hold = Operation::Hold(Duration::from_micros(20));
    cells.push(Cell {
        name: "exhaust_strict.T64.S1.H20".to_owned(),
        entries: [STRICT, R2D2_UNTESTED].map(|variant| entry(variant, 64, 1, hold)).into(),
        items: ITEMS,
        warm_up: length / 10,
        length,
    });
    cells
}

/// Whether the callers of a window take seconds to end. A thread that loses the processor amid a
/// crossbeam operation lets all others spin; with 64 threads and nothing else to do, most of the time.
fn storms(variant: &Variant, threads: u32, operation: Operation) -> bool {
    variant.name == "crossbeam" && threads == 64 && matches!(operation, Operation::CheckOut)
}

/// Numbers of threads and connections: a quarter as many, and as many.
fn sizes() -> impl Iterator<Item = (u32, u32)> {
    THREADS.into_iter().flat_map(|threads| {
        let few = (threads / 4).max(1);
        let many = (few != threads).then_some((threads, threads));
        std::iter::once((threads, few)).chain(many)
    })
}

fn entry(variant: Variant, threads: u32, size: u32, operation: Operation) -> Entry {
    Entry {
        label: variant.name.to_owned(),
        variant,
        connections: Some(size as usize),
        settings: Settings::Equal(Synchronous::Full),
        loads: vec![Load {
            callers: threads,
            operation,
            timed: matches!(operation, Operation::Hold(_)),
            rate: None,
        }],
    }
}

fn flat() -> Vec<Entry> {
    let powers = |from: u32, to: u32| (from..=to).map(|power| 1_u32 << power);
    let by_threads = powers(0, 6).map(|n| (BY_THREADS, n, n, n));
    let by_connections = powers(0, 8).map(|n| (BY_CONNECTIONS, n, 1, n));
    let of_16 = powers(4, 8).map(|n| (BY_CONNECTIONS_OF_16, n, 16, n));
    by_threads
        .chain(by_connections)
        .chain(of_16)
        .map(|(what, n, threads, size)| Entry {
            label: format!("{what}_{n}"),
            ..entry(TENURE, threads, size, Operation::CheckOut)
        })
        .collect()
}

fn figures(all: &[Measured]) -> Vec<Figure> {
    let mut figures = Vec::new();
    for cell in all {
        let name = &cell.name;
        let Some(tenure) = cell.tenure().next() else { continue };
        if name == FLAT {
            figures.extend(flatness(cell));
            continue;
        }
        if name == INSTRUMENTATION {
            let cost = |variant| {
                let seen = cell.seen.iter().find(|seen| seen.variant == variant);
                seen.map_or(f64::NAN, |seen| seen.cpu_nanos_each(0))
            };
            let figure = format!("{INSTRUMENTATION}.nanoseconds");
            figures.push(Figure::new(figure, cost(TENURE) - cost(UNMETERED)));
            continue;
        }
        let exhausted = name.starts_with("exhaust");
        for peer in cell.peers() {
            let vs = peer.variant.name;
            let throughput =
                |name| Figure::throughput(name, tenure.per_second(0), peer.per_second(0));
            if exhausted {
                let wait = |what, of: fn(&Measured, &Seen) -> Option<f64>| {
                    Figure::wait(format!("{name}.{what}.vs_{vs}"), of(cell, tenure), of(cell, peer))
                };
                figures.extend(wait("p99", p99));
                figures.extend(wait("max", longest));
                figures.extend(throughput(format!("{name}.throughput.vs_{vs}")));
            } else {
                figures.extend(throughput(format!("{name}.vs_{vs}")));
            }
        }
        if exhausted {
            figures.push(Figure::new(format!("{name}.jain"), tenure.jain(0)));
        }
    }
    figures
}

/// Of all checkouts where there is one connection, so that nearly all wait; else of those that waited.
fn p99(cell: &Measured, seen: &Seen) -> Option<f64> {
    if cell.name.contains(".S1.") {
        seen.wait(0, |waits| waits.p99)
    } else {
        seen.wait(0, |waits| waits.p99_waited).map(|nanos| nanos.max(WAITED))
    }
}

fn longest(_: &Measured, seen: &Seen) -> Option<f64> {
    seen.wait(0, |waits| waits.max)
}

/// For each row of the chart, the highest cost divided by the lowest.
fn flatness(cell: &Measured) -> impl Iterator<Item = Figure> {
    [BY_THREADS, BY_CONNECTIONS, BY_CONNECTIONS_OF_16].into_iter().map(|what| {
        let costs: Vec<_> = row(cell, what).into_iter().map(|(_, cost)| cost).collect();
        let highest = costs.iter().copied().fold(f64::MIN, f64::max);
        let lowest = costs.iter().copied().fold(f64::MAX, f64::min);
        Figure::new(format!("{FLAT}.{what}.highest_to_lowest"), highest / lowest)
    })
}

/// Processor time by what grows.
fn row(cell: &Measured, what: &str) -> Vec<(f64, f64)> {
    cell.seen
        .iter()
        .filter_map(|seen| {
            let number = seen.label.strip_prefix(what)?.strip_prefix('_')?.parse().ok()?;
            Some((number, seen.cpu_nanos_each(0)))
        })
        .collect()
}

fn charts(out: &Path, all: &[Measured]) -> anyhow::Result<()> {
    for (what, title) in
        [("checkout", "Checkout and check-in"), ("query", "Checkout, one point query, check-in")]
    {
        let cells: Vec<_> =
            all.iter().filter(|cell| cell.name.starts_with(&format!("{what}."))).collect();
        charts::panels(
            &out.join(format!("{what}.svg")),
            title,
            "T threads on S connections: time for each, all threads together; logarithmic, shorter is better",
            &panels(&cells, |_, seen| Some(seen.nanos_each(0))),
        )?;
    }
    let exhausted: Vec<_> = all.iter().filter(|cell| cell.name.starts_with("exhaust.")).collect();
    for (file, title, of) in [
        (
            "exhaust-p99",
            "99th percentile of waits when connections are few",
            p99 as fn(&_, &_) -> _,
        ),
        ("exhaust-longest", "The longest wait when connections are few", longest),
    ] {
        charts::panels(
            &out.join(format!("{file}.svg")),
            title,
            "T threads on S connections, each held for H us; logarithmic, shorter is better",
            &panels(&exhausted, of),
        )?;
    }
    if let Some(cell) = all.iter().find(|cell| cell.name == FLAT) {
        let line = |what, label: &str| Line { label: label.to_owned(), points: row(cell, what) };
        charts::lines(
            &out.join("flatness.svg"),
            "What a checkout costs tenure, in ns of processor time",
            "threads or connections",
            &[
                line(BY_THREADS, "threads, on as many connections"),
                line(BY_CONNECTIONS, "connections, 1 thread"),
                line(BY_CONNECTIONS_OF_16, "connections, 16 threads"),
            ],
        )?;
    }
    Ok(())
}

fn panels(cells: &[&Measured], of: impl Fn(&Measured, &Seen) -> Option<f64>) -> Vec<Panel> {
    cells
        .iter()
        .map(|cell| {
            let (_, title) = cell.name.split_once('.').unwrap_or(("", &cell.name));
            Panel::of(title, &cell.seen, |seen| of(cell, seen), duration)
        })
        .collect()
}
