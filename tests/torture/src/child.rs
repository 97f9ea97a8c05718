//! The process that writes until it is killed.

use std::io::Write as _;
use std::path::PathBuf;
use std::thread;

use anyhow::{Context, bail};
use tenure::{Error, Pool, Session, Synchronous};

use crate::database::Commit;

const THREADS: u32 = 8;

/// Who writes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Writers {
    Group,
    GroupAndPlain,
}

pub(crate) struct Child {
    pub(crate) database: PathBuf,
    pub(crate) writers: Writers,
    pub(crate) synchronous: &'static str,
    pub(crate) run: u32,
    /// It acknowledges before COMMIT.
    pub(crate) early: bool,
}

impl Child {
    pub(crate) fn arguments(&self) -> [String; 6] {
        [
            "child".to_owned(),
            self.database.display().to_string(),
            format!("{:?}", self.writers),
            self.synchronous.to_owned(),
            self.run.to_string(),
            self.early.to_string(),
        ]
    }

    pub(crate) fn parse(arguments: &[String]) -> anyhow::Result<Self> {
        let [database, writers, synchronous, run, early] = arguments else {
            bail!("a child has five arguments");
        };
        Ok(Self {
            database: database.into(),
            writers: match writers.as_str() {
                "Group" => Writers::Group,
                _ => Writers::GroupAndPlain,
            },
            synchronous: if synchronous == "full" { "full" } else { "normal" },
            run: run.parse().context("the number of the run")?,
            early: early.parse().context("whether it acknowledges early")?,
        })
    }

    pub(crate) fn write(&self) -> anyhow::Result<()> {
        let synchronous = match self.synchronous {
            "full" => Synchronous::Full,
            _ => Synchronous::Normal,
        };
        let pool = Pool::builder().database(&self.database).synchronous(synchronous).open()?;
        thread::scope(|scope| {
            let threads: Vec<_> =
                (0..THREADS).map(|thread| scope.spawn(move_to(&pool, self, thread))).collect();
            // They end only if something is wrong.
            threads.into_iter().try_for_each(|thread| thread.join().expect("no panic"))
        })
    }

    fn write_one(&self, pool: &Pool, commit: Commit) -> Result<(), Error> {
        let is_plain = matches!(self.writers, Writers::GroupAndPlain) && commit.thread % 2 == 1;
        if is_plain {
            pool.transaction(|tx| commit.write(tx))?;
        } else {
            let early = self.early;
            pool.group_commit(move |tx| {
                commit.write(tx)?;
                if early {
                    say(commit);
                }
                Ok(())
            })?;
        }
        if !self.early {
            say(commit);
        }
        Ok(())
    }
}

fn move_to<'s>(
    pool: &'s Pool,
    child: &'s Child,
    thread: u32,
) -> impl FnOnce() -> anyhow::Result<()> + Send + 's {
    move || {
        for number in 0.. {
            child.write_one(pool, Commit { run: child.run, thread, number })?;
            if number % 5 == 0 {
                fail(pool, child.run, thread)?;
            }
        }
        Ok(())
    }
}

/// A closure that writes and fails: nothing of it may ever be seen.
fn fail(pool: &Pool, run: u32, thread: u32) -> anyhow::Result<()> {
    let result = pool.group_commit(move |tx: &mut tenure::Savepoint<'_>| {
        Commit { run, thread, number: Commit::NEVER }.write_half(tx, 0)?;
        Err::<(), _>(Error::other("undone"))
    });
    match result {
        Err(Error::Other(_)) => Ok(()),
        other => bail!("{other:?}"),
    }
}

/// One line is written by one call, so the parent gets it whole or not at all.
fn say(commit: Commit) {
    let line = format!("{commit}\n");
    // The parent reads until the child is dead.
    std::io::stdout().lock().write_all(line.as_bytes()).expect("the parent reads");
}

impl Commit {
    fn write(self, session: &Session) -> Result<(), Error> {
        self.write_half(session, 0)?;
        session.execute("UPDATE counter SET n = n + 2", [])?;
        self.write_half(session, 1)
    }

    fn write_half(self, session: &Session, half: u32) -> Result<(), Error> {
        let insert = "INSERT INTO entry VALUES (?1, ?2, ?3, ?4)";
        session.prepare_cached(insert)?.execute((self.run, self.thread, self.number, half))?;
        Ok(())
    }
}
