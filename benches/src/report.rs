//! The table, the lines with figures, and the JSON.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};

use serde::Serialize;
use serde_json::{Value, json};

use crate::Options;
use crate::figure::Figure;
use crate::program::Versions;
use crate::seen::{Measured, Seen};
use crate::variant::Program;

pub(crate) fn print(versions: &BTreeMap<Program, Versions>, all: &[Measured], figures: &[Figure]) {
    let mut first = true;
    for versions in versions.values() {
        let list: Vec<_> =
            versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
        println!("{}{}", if first { "versions: " } else { "          " }, list.join(", "));
        first = false;
    }
    println!("{} cores; every number is a median over the repetitions\n", cores());
    for cell in all {
        table(cell);
    }
    for Figure { name, value } in figures {
        println!("figure {name} {}", significant(*value));
    }
}

fn table(cell: &Measured) {
    let timed = cell.seen.iter().flat_map(|seen| &seen.loads).any(|load| load.timed);
    print!("{:<40} {:>10} {:>11} {:>11}", cell.name, "per second", "each", "processor");
    if timed {
        print!(" {:>9} {:>9} {:>9} {:>9}  jain ", "p50", "p99", "p99.9", "longest");
    }
    println!(" failed");
    for seen in &cell.seen {
        for load in 0..seen.loads.len() {
            print!(
                "  {:<38} {:>10.0} {:>11} {:>11}",
                seen.describe(load),
                seen.per_second(load),
                duration(seen.nanos_each(load)),
                duration(seen.cpu_nanos_each(load)),
            );
            if timed {
                let percentile = |wait: Option<f64>| wait.map_or("-".to_owned(), duration);
                print!(
                    " {:>9} {:>9} {:>9} {:>9} {:.3}",
                    percentile(seen.wait(load, |waits| waits.p50)),
                    percentile(seen.wait(load, |waits| waits.p99)),
                    percentile(seen.wait(load, |waits| waits.p999)),
                    percentile(seen.wait(load, |waits| waits.max)),
                    seen.jain(load),
                );
            }
            println!(" {:>6}", seen.failed(load));
        }
        if let Some(why) = seen.first_failure() {
            println!("    first failure: {why}");
        }
    }
    println!();
}

/// A duration in nanoseconds, for people.
pub(crate) fn duration(nanos: f64) -> String {
    match nanos {
        f64::INFINITY => "-".to_owned(),
        ..1e3 => format!("{nanos:.0} ns"),
        ..1e6 => format!("{} us", significant(nanos / 1e3)),
        ..1e9 => format!("{} ms", significant(nanos / 1e6)),
        _ => format!("{} s", significant(nanos / 1e9)),
    }
}

/// Three significant digits, more where they are before the point; a fraction near 1 keeps four.
pub(crate) fn significant(value: f64) -> String {
    let decimals = match value.abs() {
        0.0 => 0,
        ..1.0 => 4,
        ..10.0 => 2,
        ..100.0 => 1,
        _ => 0,
    };
    format!("{value:.decimals$}")
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

#[derive(Serialize)]
struct Json<'a> {
    command: &'a str,
    quick: bool,
    repetitions: usize,
    cores: usize,
    versions: Vec<BTreeMap<&'a str, &'a str>>,
    cells: Vec<Value>,
    figures: BTreeMap<&'a str, f64>,
}

pub(crate) fn write_json(
    command: &str,
    options: &Options,
    versions: &BTreeMap<Program, Versions>,
    all: &[Measured],
    figures: &[Figure],
) -> anyhow::Result<()> {
    let json = Json {
        command,
        quick: options.quick,
        repetitions: options.repetitions,
        cores: cores(),
        versions: versions
            .values()
            .map(|of_program| {
                of_program.iter().map(|(name, version)| (&**name, &**version)).collect()
            })
            .collect(),
        cells: all.iter().map(cell).collect(),
        figures: figures.iter().map(|figure| (&*figure.name, figure.value)).collect(),
    };
    let mut file = BufWriter::new(File::create(options.out.join(format!("{command}.json")))?);
    serde_json::to_writer_pretty(&mut file, &json)?;
    Ok(file.flush()?)
}

fn cell(cell: &Measured) -> Value {
    json!({ "name": cell.name, "variants": cell.seen.iter().map(variant).collect::<Vec<_>>() })
}

/// Medians, and below them what they are medians of. Durations are in nanoseconds.
fn variant(seen: &Seen) -> Value {
    let loads: Vec<_> = (0..seen.loads.len())
        .map(|load| {
            json!({
                "load": seen.loads[load],
                "per_second": seen.per_second(load),
                "cpu_ns_each": seen.cpu_nanos_each(load),
                "p50_ns": seen.wait(load, |waits| waits.p50),
                "p99_ns": seen.wait(load, |waits| waits.p99),
                "p99_waited_ns": seen.wait(load, |waits| waits.p99_waited),
                "p999_ns": seen.wait(load, |waits| waits.p999),
                "max_ns": seen.wait(load, |waits| waits.max),
                "jain": seen.jain(load),
                "failed": seen.failed(load),
                "repetitions": seen.repetitions.iter().map(|samples| &samples[load]).collect::<Vec<_>>(),
            })
        })
        .collect();
    json!({ "name": seen.label, "first_failure": seen.first_failure(), "loads": loads })
}

#[cfg(test)]
mod tests {
    use super::{duration, significant};

    #[test]
    fn numbers_are_as_long_as_they_mean_something() {
        assert_eq!(significant(0.99912), "0.9991");
        assert_eq!(significant(7.046), "7.05");
        assert_eq!(significant(52.31), "52.3");
        assert_eq!(significant(13_021.4), "13021");
        assert_eq!(significant(0.0), "0");
        assert_eq!(duration(646.3), "646 ns");
        assert_eq!(duration(5_690_000.0), "5.69 ms");
        assert_eq!(duration(f64::INFINITY), "-");
    }
}
