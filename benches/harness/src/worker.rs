//! The conversation of a worker with the main program, over standard input and output.

use std::io::{BufRead, Write, stdin, stdout};

use anyhow::Context;

use crate::Runner;
use crate::protocol::{Answer, Recipe, Request};

/// Answers requests until standard input ends.
pub fn serve(
    versions: Vec<(String, String)>,
    open: impl Fn(&Recipe) -> anyhow::Result<Box<dyn Runner>>,
) -> anyhow::Result<()> {
    send(&Answer::Hello(versions))?;
    let mut runner: Option<Box<dyn Runner>> = None;
    for line in stdin().lock().lines() {
        let answer = match serde_json::from_str(&line?)? {
            Request::Open(recipe) => open(&recipe).map(|opened| {
                runner = Some(opened);
                Answer::Opened
            }),
            Request::Run(window) => runner
                .as_ref()
                .context("no pool is open")
                .and_then(|runner| runner.run(&window))
                .map(Answer::Ran),
        };
        send(&answer.unwrap_or_else(|error| Answer::Failed(format!("{error:#}"))))?;
    }
    Ok(())
}

fn send(answer: &Answer) -> anyhow::Result<()> {
    let mut out = stdout().lock();
    serde_json::to_writer(&mut out, answer)?;
    writeln!(out)?;
    out.flush()?;
    Ok(())
}
