//! tenure and other pools, side by side. See README.md for what is measured and how.

mod cell;
mod charts;
mod database;
mod figure;
mod peers;
mod process;
mod program;
mod report;
mod seen;
mod suites;
mod variant;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::{Args, Parser, Subcommand};

use crate::program::Programs;

/// Runs tenure and other pools side by side and says how many times better tenure is.
#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Checkout and check-in, with and without a query; waits when connections are few; flatness.
    Checkout(Options),
    /// Small write transactions.
    Write(Options),
    /// Point queries, alone and beside writers.
    Read(Options),
    /// Checkpoints in a thread of their own, beside those in the committing thread.
    Checkpoint(Options),
    /// One pool, driven over standard input and output.
    #[command(hide = true)]
    Worker { peer: String },
}

#[derive(Clone, Debug, Args)]
pub(crate) struct Options {
    /// Under a minute in all: short windows, rough figures.
    #[arg(long)]
    pub(crate) quick: bool,

    /// Where the JSON and the charts go; the databases are made there too, so it should be on a disk.
    #[arg(long, value_name = "DIRECTORY", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/results"))]
    out: PathBuf,

    /// How often each variant is measured in each cell; the median counts.
    #[arg(long, value_name = "N", default_value_t = 5)]
    repetitions: usize,

    /// The length of each measured window, in milliseconds, instead of the usual one.
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..))]
    window: Option<u64>,

    /// For `write` and `read`: so many connections for each peer, instead of its library's default.
    #[arg(long, value_name = "N")]
    pub(crate) connections: Option<usize>,

    /// For `read`: so many reading connections for tenure, instead of its default.
    #[arg(long, value_name = "N")]
    pub(crate) readers: Option<usize>,

    /// Run only the cells whose name contains one of these.
    #[arg(long, value_name = "TEXT", value_delimiter = ',')]
    cells: Vec<String>,

    /// Run only these peers, and tenure.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    peers: Vec<String>,
}

impl Options {
    /// `full`, or `quick` with --quick, or what --window says.
    pub(crate) fn length(&self, full: Duration, quick: Duration) -> Duration {
        let usual = if self.quick { quick } else { full };
        self.window.map_or(usual, Duration::from_millis)
    }
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Checkout(options) => run("checkout", &options, &suites::checkout::SUITE),
        Command::Write(options) => run("write", &options, &suites::write::SUITE),
        Command::Read(options) => run("read", &options, &suites::read::SUITE),
        Command::Checkpoint(options) => run("checkpoint", &options, &suites::checkpoint::SUITE),
        Command::Worker { peer } => {
            harness::worker::serve(peers::versions(), |recipe| peers::open(&peer, recipe))
        }
    }
}

fn run(command: &str, options: &Options, suite: &suites::Suite) -> anyhow::Result<()> {
    ensure!(options.repetitions > 0, "--repetitions must be at least 1");
    std::fs::create_dir_all(&options.out)
        .with_context(|| format!("cannot make {}", options.out.display()))?;
    let mut cells = (suite.cells)(options);
    cells.retain(|cell| {
        options.cells.is_empty() || options.cells.iter().any(|text| cell.name.contains(text))
    });
    for cell in &mut cells {
        cell.keep(&options.peers);
    }
    ensure!(!cells.is_empty(), "no cell has such a name");

    let mut programs = Programs::default();
    programs.build(cells.iter().flat_map(|cell| cell.variants()))?;
    let begin = Instant::now();
    let mut all = Vec::new();
    let count = cells.len();
    for (number, cell) in cells.into_iter().enumerate() {
        eprintln!("[{}/{count}, {} s] {}", number + 1, begin.elapsed().as_secs(), cell.name);
        all.push(cell.run(&mut programs, options)?);
    }

    let figures = (suite.figures)(&all);
    report::print(programs.versions(), &all, &figures);
    report::write_json(command, options, programs.versions(), &all, &figures)?;
    (suite.charts)(&options.out, &all)?;
    eprintln!("{} s; JSON and charts are in {}", begin.elapsed().as_secs(), options.out.display());
    Ok(())
}
