//! One comparison: variants under the same load, interleaved.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use harness::protocol::{Answer, Load, Operation, Recipe, Request, Settings, Window};
use harness::sample::Sample;

use crate::Options;
use crate::database::{Databases, notes};
use crate::process::Process;
use crate::program::{Programs, Versions};
use crate::seen::{Measured, Seen};
use crate::variant::Variant;

#[derive(Debug)]
pub(crate) struct Cell {
    /// As in the names of figures.
    pub(crate) name: String,
    pub(crate) entries: Vec<Entry>,
    pub(crate) items: i64,
    pub(crate) warm_up: Duration,
    /// Equal for all entries.
    pub(crate) length: Duration,
}

/// A variant and what it is asked to do.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Unique in the cell.
    pub(crate) label: String,
    pub(crate) variant: Variant,
    pub(crate) connections: Option<usize>,
    pub(crate) settings: Settings,
    pub(crate) loads: Vec<Load>,
}

impl Cell {
    pub(crate) fn variants(&self) -> impl Iterator<Item = Variant> {
        self.entries.iter().map(|entry| entry.variant)
    }

    /// Leaves tenure and `peers`; all, when none is named.
    pub(crate) fn keep(&mut self, peers: &[String]) {
        self.entries.retain(|entry| {
            peers.is_empty()
                || entry.variant.is_tenure
                || peers.iter().any(|peer| peer == entry.variant.name)
        });
    }

    /// Every entry's pool is opened once, in a process of its own. In each repetition all take their
    /// turn, each time another one first; those whose turn it is not are idle.
    pub(crate) fn run(
        self,
        programs: &mut Programs,
        options: &Options,
    ) -> anyhow::Result<Measured> {
        let mut databases = Databases::within(&options.out)?;
        // All workers start, open and end at the same time, to save time; they run one by one.
        let start = |entry| Running::start(entry, self.items, programs, &mut databases);
        let mut running = self.entries.into_iter().map(start).collect::<Result<Vec<_>, _>>()?;
        let of = |one: &Running| format!("{}, {}", self.name, one.entry.label);
        for one in &mut running {
            let versions = one.opened().with_context(|| of(one))?;
            programs.note_versions(one.entry.variant.program, versions);
        }
        for repetition in 0..options.repetitions {
            for turn in 0..running.len() {
                let whose = (repetition + turn) % running.len();
                let one = &mut running[whose];
                one.run(self.warm_up, self.length).with_context(|| of(one))?;
            }
        }
        for one in &mut running {
            one.process.dismiss();
        }
        for one in &mut running {
            one.process.ended().with_context(|| of(one))?;
            one.verify().with_context(|| of(one))?;
        }
        let seen = running.into_iter().map(|one| Seen {
            label: one.entry.label,
            variant: one.entry.variant,
            loads: one.entry.loads,
            repetitions: one.repetitions,
        });
        let seen = seen.collect();
        Ok(Measured { name: self.name, seen })
    }
}

struct Running {
    entry: Entry,
    database: PathBuf,
    process: Process,
    repetitions: Vec<Vec<Sample>>,
}

impl Running {
    fn start(
        entry: Entry,
        items: i64,
        programs: &Programs,
        databases: &mut Databases,
    ) -> anyhow::Result<Self> {
        let database = databases.make(&entry.label, items)?;
        let mut process = Process::start(programs.command(entry.variant)?)?;
        process.ask(&Request::Open(Recipe {
            database: database.clone(),
            connections: entry.connections,
            settings: entry.settings,
            items,
        }))?;
        Ok(Self { entry, database, process, repetitions: Vec::new() })
    }

    /// Waits until the pool is open. Returns the versions that the worker links.
    fn opened(&mut self) -> anyhow::Result<Versions> {
        let Answer::Hello(versions) = self.process.hear(Duration::ZERO)? else {
            bail!("the worker did not introduce itself");
        };
        match self.process.hear(Duration::ZERO)? {
            Answer::Opened => Ok(versions),
            answer => bail!("asked to open, the worker answered {answer:?}"),
        }
    }

    fn run(&mut self, warm_up: Duration, length: Duration) -> anyhow::Result<()> {
        let loads = self.entry.loads.clone();
        self.process.ask(&Request::Run(Window { warm_up, length, loads }))?;
        match self.process.hear(warm_up + length)? {
            Answer::Ran(samples) => self.repetitions.push(samples),
            answer => bail!("asked to run, the worker answered {answer:?}"),
        }
        Ok(())
    }

    /// Compares what is in the file with what was acknowledged.
    fn verify(&self) -> anyhow::Result<()> {
        let writing = |(load, sample): (&Load, &Sample)| {
            matches!(load.operation, Operation::Write).then_some((sample.succeeded, sample.failed))
        };
        let loads = &self.entry.loads;
        let (acknowledged, failed) = self
            .repetitions
            .iter()
            .flat_map(|samples| loads.iter().zip(samples).filter_map(writing))
            .fold((0, 0), |(all, all_bad), (ok, bad)| (all + ok, all_bad + bad));
        if acknowledged + failed == 0 {
            return Ok(());
        }
        let rows = notes(&self.database)?;
        // What failed may be there after all: an error does not always say that it is undone.
        ensure!(
            (acknowledged..=acknowledged + failed).contains(&rows),
            "{acknowledged} writes were acknowledged and {failed} failed, but there are {rows} rows"
        );
        Ok(())
    }
}
