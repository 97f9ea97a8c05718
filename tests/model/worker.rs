//! A thread that does one thing at a time, as it is told.

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tenure::CheckoutErrorKind;
use tenure::checkout::{Detached, Guard, Pool};

use crate::manager::{Fault, Manager};

pub(crate) enum Command {
    /// `None` = without waiting.
    CheckOut(usize, Option<Duration>),
    Return(usize, Fault),
    /// Panics with it in hand.
    Panic(usize),
    Detach(usize),
    Attach(usize, Detached<Manager>),
    Leak(usize),
}

pub(crate) enum Reply {
    Done,
    Refused { kind: CheckoutErrorKind, waited: Duration },
    Detached(Detached<Manager>),
}

pub(crate) struct Worker {
    pub(crate) name: String,
    commands: Sender<Command>,
    pub(crate) replies: Receiver<Reply>,
    thread: JoinHandle<()>,
}

impl Worker {
    pub(crate) fn start(name: String, pools: &[Pool<Manager>]) -> Self {
        let (commands, orders) = channel();
        let (answers, replies) = channel();
        let pools = pools.to_vec();
        let work = move || work(&pools, &orders, &answers);
        let thread = thread::Builder::new().name(name.clone()).spawn(work).unwrap();
        Self { name, commands, replies, thread }
    }

    pub(crate) fn tell(&self, command: Command) {
        self.commands.send(command).expect("the thread runs");
    }

    /// What it has not leaked comes back.
    pub(crate) fn end(self) {
        drop(self.commands);
        self.thread.join().expect("no thread panics of itself");
    }
}

fn work(pools: &[Pool<Manager>], orders: &Receiver<Command>, answers: &Sender<Reply>) {
    let mut guards: Vec<(usize, Guard<'_, Manager>)> = Vec::new();
    for order in orders {
        let mut one_of = |pool| {
            let at = guards.iter().rposition(|(of, _)| *of == pool).expect("it holds one");
            guards.remove(at).1
        };
        let reply = match order {
            Command::CheckOut(pool, wait) => {
                let began = Instant::now();
                let result = match wait {
                    None => pools[pool].try_get(),
                    Some(wait) => pools[pool].get_timeout(wait),
                };
                match result {
                    Ok(guard) => {
                        guard.begin_use();
                        guards.push((pool, guard));
                        Reply::Done
                    }
                    Err(error) => Reply::Refused { kind: error.kind(), waited: began.elapsed() },
                }
            }
            Command::Return(pool, fault) => {
                *one_of(pool).fault.lock() = fault;
                Reply::Done
            }
            Command::Panic(pool) => {
                let guard = one_of(pool);
                let panics = AssertUnwindSafe(|| {
                    let _guard = guard;
                    // Without a word on the terminal.
                    resume_unwind(Box::new("with a connection in hand"));
                });
                catch_unwind(panics).unwrap_err();
                Reply::Done
            }
            Command::Detach(pool) => Reply::Detached(one_of(pool).detach()),
            Command::Attach(pool, detached) => {
                guards.push((pool, detached.attach()));
                Reply::Done
            }
            Command::Leak(pool) => {
                mem::forget(one_of(pool));
                Reply::Done
            }
        };
        if answers.send(reply).is_err() {
            return;
        }
    }
}
