//! A worker process and the conversation with it.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use crossbeam_channel::{Receiver, unbounded};
use harness::protocol::{Answer, Request};

/// How long a worker may take to open its pool, or to come to rest after a window. Callers that
/// sleep in SQLite's busy handler do so for 5 s at most.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    /// `None` once told to end.
    requests: Option<ChildStdin>,
    /// Read by a thread, so that an answer can be waited for with a limit.
    answers: Receiver<String>,
}

impl Process {
    pub(crate) fn start(mut command: Command) -> anyhow::Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {command:?}"))?;
        let requests = child.stdin.take();
        let output = child.stdout.take().context("the worker has no output")?;
        let (sender, answers) = unbounded();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Self { child, requests, answers })
    }

    pub(crate) fn ask(&mut self, request: &Request) -> anyhow::Result<()> {
        let requests = self.requests.as_mut().context("the worker was told to end")?;
        serde_json::to_writer(&mut *requests, request)?;
        Ok(writeln!(requests)?)
    }

    /// Waits for an answer of a worker that is `busy` for so long.
    pub(crate) fn hear(&mut self, busy: Duration) -> anyhow::Result<Answer> {
        let line = self
            .answers
            .recv_timeout(busy + PATIENCE)
            .context("the worker has died, or does not answer")?;
        match serde_json::from_str(&line)? {
            Answer::Failed(why) => bail!("{why}"),
            answer => Ok(answer),
        }
    }

    /// Tells the worker to close its pool and to end.
    pub(crate) fn dismiss(&mut self) {
        self.requests = None;
    }

    /// Waits until a worker that was dismissed has ended.
    pub(crate) fn ended(&mut self) -> anyhow::Result<()> {
        let begin = Instant::now();
        while self.child.try_wait()?.is_none() {
            ensure!(begin.elapsed() < PATIENCE, "the worker does not end");
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // When something has failed; one that has ended is not there any more.
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
