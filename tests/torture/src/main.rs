//! Processes that write are killed at any moment, again and again, and nothing that they were told is
//! committed may be missing afterwards.
//!
//! A child writes with several threads and says of each commit on a pipe, once the call has returned,
//! that it is done. The parent kills it with SIGKILL, reads what it had said, opens the database, and
//! looks: every acknowledged commit is there, whole; no part of any other is there by half; nothing of
//! a closure that failed; the counter is the number of rows; `integrity_check` finds nothing.
//!
//! `tenure-torture [KILLS]` kills so many in all, 500 unless it is said. `tenure-torture early` has the
//! children acknowledge before COMMIT, and ends well only if that is found out.

mod child;
mod database;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

use crate::child::{Child, Writers};
use crate::database::Commit;

/// The longest that a child lives. Opening the pool is part of it: children die in that too.
const LIFE: Duration = Duration::from_millis(150);

/// After so many kills without a loss the check itself is in doubt.
const FOUND_OUT_WITHIN: u32 = 200;

const COMBINATIONS: [(Writers, &str); 4] = [
    (Writers::Group, "normal"),
    (Writers::Group, "full"),
    (Writers::GroupAndPlain, "normal"),
    (Writers::GroupAndPlain, "full"),
];

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["child", ..] => Child::parse(&arguments[1..])?.write(),
        ["early"] => early(),
        [] => torture(500),
        [kills] => torture(kills.parse().context("how many children to kill")?),
        _ => bail!("too many arguments"),
    }
}

fn torture(kills: u32) -> anyhow::Result<()> {
    let began = Instant::now();
    let mut killed_in_all = 0;
    for (number, (writers, synchronous)) in (0..).zip(COMBINATIONS) {
        let directory = tempfile::tempdir()?;
        let database = directory.path().join("torture.db");
        database::create(&database)?;
        let (mut acknowledged, mut unsaid, began) = (0, 0, Instant::now());
        let kills = (kills + 3 - number) / 4;
        for run in 0..kills {
            let child =
                Child { database: database.clone(), writers, synchronous, run, early: false };
            let said = kill_one(&child)?;
            let found = database::check(&database, run, &said)?;
            ensure!(
                found.lost == 0,
                "{} of {} acknowledged commits are lost",
                found.lost,
                said.len()
            );
            acknowledged += said.len();
            unsaid += found.unsaid;
        }
        killed_in_all += kills;
        println!(
            "{writers:?}, synchronous = {synchronous}: {kills} kills, {acknowledged} commits acknowledged, \
             0 lost, {unsaid} committed and not yet said, {:.1?}",
            began.elapsed()
        );
    }
    println!("{killed_in_all} kills, 0 acknowledged commits lost, {:.1?}", began.elapsed());
    Ok(())
}

/// The check itself can fail.
fn early() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let database = directory.path().join("torture.db");
    database::create(&database)?;
    for run in 0..FOUND_OUT_WITHIN {
        let synchronous = "full";
        let child = Child {
            database: database.clone(),
            writers: Writers::Group,
            synchronous,
            run,
            early: true,
        };
        let said = kill_one(&child)?;
        let lost = database::check(&database, run, &said)?.lost;
        if lost > 0 {
            println!(
                "kill {}: {lost} of {} commits said too early were missing, as they must be",
                run + 1,
                said.len()
            );
            return Ok(());
        }
    }
    bail!("commits that are acknowledged before COMMIT were never missed")
}

/// Starts a child, kills it, and returns what it had said.
fn kill_one(child: &Child) -> anyhow::Result<Vec<Commit>> {
    let program = std::env::current_exe()?;
    let mut process =
        Command::new(program).args(child.arguments()).stdout(Stdio::piped()).spawn()?;
    let pipe = process.stdout.take().context("its output is piped")?;
    let reader = thread::spawn(move || {
        BufReader::new(pipe)
            .lines()
            .map(|line| line?.parse())
            .collect::<anyhow::Result<Vec<Commit>>>()
    });
    thread::sleep(LIFE.mul_f64(fastrand::f64()));
    process.kill()?;
    let status = process.wait()?;
    let said = reader.join().expect("the reader does not panic")?;
    ensure!(was_killed(status), "a child has ended by itself: {status}");
    Ok(said)
}

fn was_killed(status: std::process::ExitStatus) -> bool {
    use std::os::unix::process::ExitStatusExt as _;
    status.signal() == Some(9)
}
