//! tenure as by default, with a Prometheus recorder installed, which every checkout then counts for.

use std::thread;
use std::time::Duration;

use anyhow::Context;
use harness::protocol::{Recipe, Settings, Synchronous};
use harness::sql::{BODY, INSERT, QUERY};
use harness::threads::Blocking;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
use tenure::metrics::{DURATION_BUCKETS, METRICS, MetricKind, SIZE_BUCKETS};
use tenure::rusqlite;
use tenure::{Pool, ReadSession};

/// How often the exporter's own server, which is not run here, tidies the histograms.
const UPKEEP: Duration = Duration::from_secs(5);

/// What the documentation recommends to who reads more than fits into the page caches.
const RECOMMENDED_MMAP_MIB: u32 = 256;

/// One for each thread that reads, and one more.
const RECOMMENDED_READERS: usize = 16;

/// More than a window can write.
const APPENDING_MIB: u32 = 65_536;

/// The ways to write.
#[derive(Clone, Copy, Debug)]
enum Writing {
    /// A transaction of one's own.
    Plain,
    /// One that callers share.
    Group,
}

#[derive(Debug)]
pub(super) struct Tenure {
    pool: Pool,
    writing: Writing,
    keeps_statements: bool,
}

impl Tenure {
    /// `variant` as in [`crate::variant`].
    pub(super) fn open(recipe: &Recipe, variant: &str) -> anyhow::Result<Self> {
        install_recorder()?;
        let mut builder = Pool::builder().database(&recipe.database);
        let mut writing = Writing::Plain;
        match variant {
            "tenure_timed" => builder = builder.hold_sampling(1),
            "tenure_unmetered" => builder = builder.metrics(false),
            "tenure_strict" => builder = builder.overtaking(Duration::ZERO),
            "tenure_inline" => builder = builder.checkpoints(tenure::Checkpoints::Inline),
            "tenure_appending" => builder = builder.wal_limit_mib(APPENDING_MIB),
            "group" => writing = Writing::Group,
            "tenure" | "plain" => {}
            _ => anyhow::bail!("no variant is named {variant}"),
        }
        match recipe.settings {
            // The other pragmas that are equal for all are tenure's defaults.
            Settings::Equal(Synchronous::Normal) => {
                builder = builder.synchronous(tenure::Synchronous::Normal);
            }
            Settings::Recommended => {
                builder = builder
                    .mmap_size_mib(RECOMMENDED_MMAP_MIB)
                    .cell_size_check(false)
                    .readers(RECOMMENDED_READERS);
            }
            Settings::Equal(Synchronous::Full) | Settings::Default => {}
        }
        if let Some(connections) = recipe.connections {
            builder = builder.readers(connections);
        }
        let keeps_statements = recipe.settings != Settings::Default;
        Ok(Self { pool: builder.open()?, writing, keeps_statements })
    }

    #[inline]
    fn query_on(&self, session: &ReadSession, id: i64) -> rusqlite::Result<i64> {
        if self.keeps_statements {
            session.prepare_cached(QUERY)?.query_row([id], |row| row.get(0))
        } else {
            session.query_row(QUERY, [id], |row| row.get(0))
        }
    }
}

impl Blocking for Tenure {
    #[inline]
    fn hold(&self, held: impl FnOnce()) -> anyhow::Result<()> {
        let _reader = self.pool.read()?;
        held();
        Ok(())
    }

    #[inline]
    fn query(&self, id: i64) -> anyhow::Result<i64> {
        let reader = self.pool.read()?;
        Ok(self.query_on(&reader, id)?)
    }

    fn snapshot(&self, ids: &[i64]) -> anyhow::Result<i64> {
        let sum = self.pool.snapshot(|snapshot| {
            let numbers = ids.iter().map(|&id| self.query_on(snapshot, id));
            Ok(numbers.sum::<rusqlite::Result<_>>()?)
        })?;
        Ok(sum)
    }

    fn write(&self, caller: u32) -> anyhow::Result<()> {
        match self.writing {
            Writing::Plain => self.pool.transaction(|tx| {
                if self.keeps_statements {
                    tx.prepare_cached(INSERT)?.execute((caller, BODY))?;
                } else {
                    tx.execute(INSERT, (caller, BODY))?;
                }
                Ok(())
            })?,
            Writing::Group => {
                let keeps_statements = self.keeps_statements;
                self.pool.group_commit(move |tx| {
                    if keeps_statements {
                        tx.prepare_cached(INSERT)?.execute((caller, BODY))?;
                    } else {
                        tx.execute(INSERT, (caller, BODY))?;
                    }
                    Ok(())
                })?;
            }
        }
        Ok(())
    }
}

/// Once per process, and before the pool is opened: handles made earlier record nothing.
fn install_recorder() -> anyhow::Result<()> {
    let mut builder = PrometheusBuilder::new();
    for metric in METRICS.iter().filter(|metric| metric.kind == MetricKind::Histogram) {
        let name = Matcher::Full(metric.name.to_owned());
        let bounds =
            if metric.name.ends_with("_seconds") { DURATION_BUCKETS } else { SIZE_BUCKETS };
        builder = builder.set_buckets_for_metric(name, bounds)?;
    }
    let recorder = builder.install_recorder().context("no recorder can be installed")?;
    thread::Builder::new().name("upkeep".to_owned()).spawn(move || {
        loop {
            thread::sleep(UPKEEP);
            recorder.run_upkeep();
        }
    })?;
    Ok(())
}
