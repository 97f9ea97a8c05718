//! Load on a pool whose calls block: one thread per caller.

use std::hint::black_box;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use crate::Runner;
use crate::phase::{Phase, spin};
use crate::protocol::{Load, Operation, Window};
use crate::sample::{Caller, Sample};

/// A pool whose calls block the thread. Each method checks a connection out and gives it back.
pub trait Blocking: Send + Sync {
    /// Runs `held` while a connection is held.
    fn hold(&self, held: impl FnOnce()) -> anyhow::Result<()>;

    fn query(&self, id: i64) -> anyhow::Result<i64>;

    /// All queries see one state of the database.
    fn snapshot(&self, ids: &[i64]) -> anyhow::Result<i64> {
        anyhow::bail!("no snapshot of {} reads here", ids.len())
    }

    fn write(&self, caller: u32) -> anyhow::Result<()> {
        anyhow::bail!("caller {caller} cannot write here")
    }
}

#[derive(Debug)]
pub struct Threads<P> {
    pub peer: P,
    pub items: i64,
}

impl<P: Blocking> Runner for Threads<P> {
    fn run(&self, window: &Window) -> anyhow::Result<Vec<Sample>> {
        let phase = Phase::new();
        let callers = window.loads.iter().map(|load| load.callers as usize).sum::<usize>();
        let ready = Barrier::new(callers + 1);
        let (spent, seen) = thread::scope(|scope| {
            let mut handles = Vec::new();
            for load in &window.loads {
                let of_load: Vec<_> = (0..load.callers)
                    .map(|number| {
                        let (phase, ready) = (&phase, &ready);
                        scope.spawn(move || {
                            ready.wait();
                            self.call(Caller::new(number, load, phase), load, phase)
                        })
                    })
                    .collect();
                handles.push(of_load);
            }
            ready.wait();
            let spent = phase.conduct(window);
            let seen: Vec<Vec<Caller>> = handles
                .into_iter()
                .map(|of_load| {
                    of_load.into_iter().map(|one| one.join().expect("a caller panicked")).collect()
                })
                .collect();
            (spent, seen)
        });
        Ok(seen.into_iter().map(|callers| Sample::of(callers, spent)).collect())
    }
}

impl<P: Blocking> Threads<P> {
    /// One loop for each operation, so that choosing one costs nothing in it.
    fn call(&self, caller: Caller, load: &Load, phase: &Phase) -> Caller {
        let peer = &self.peer;
        match load.operation {
            Operation::CheckOut => repeat(caller, load, phase, |_| peer.hold(|| ())),
            Operation::Hold(duration) => repeat(caller, load, phase, |caller| {
                let asked = caller.asked();
                let result = peer.hold(|| {
                    caller.took(asked, phase);
                    spin(duration);
                });
                if result.is_err() {
                    caller.took(asked, phase);
                }
                result
            }),
            Operation::Query => repeat(caller, load, phase, |caller| {
                black_box(peer.query(caller.some_item(self.items))?);
                Ok(())
            }),
            Operation::Snapshot(reads) => {
                let mut ids = vec![0; reads];
                repeat(caller, load, phase, |caller| {
                    ids.fill_with(|| caller.some_item(self.items));
                    black_box(peer.snapshot(&ids)?);
                    Ok(())
                })
            }
            Operation::Write => repeat(caller, load, phase, |caller| {
                let asked = caller.asked();
                let result = peer.write(caller.number);
                caller.took(asked, phase);
                result
            }),
        }
    }
}

#[inline]
fn repeat(
    mut caller: Caller,
    load: &Load,
    phase: &Phase,
    mut operation: impl FnMut(&mut Caller) -> anyhow::Result<()>,
) -> Caller {
    let mut pace = load.rate.map(Pace::new);
    while !caller.is_over() {
        if let Some(pace) = &mut pace
            && let Some(early) = caller.due(pace.next())
        {
            thread::sleep(early);
            caller.woke(phase);
        }
        let result = operation(&mut caller);
        caller.ended(result, phase);
    }
    caller
}

/// When the next operation of a caller with a rate is due. One that is late does not wait.
#[derive(Debug)]
pub(crate) struct Pace {
    due: Instant,
    period: Duration,
}

impl Pace {
    pub(crate) fn new(rate: f64) -> Self {
        Self { due: Instant::now(), period: Duration::from_secs_f64(1.0 / rate) }
    }

    pub(crate) fn next(&mut self) -> Instant {
        let due = self.due;
        self.due += self.period;
        due
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    /// A pool of one, and how often it was held.
    #[derive(Default)]
    struct One {
        held: Mutex<()>,
        times: AtomicU64,
    }

    impl Blocking for One {
        fn hold(&self, held: impl FnOnce()) -> anyhow::Result<()> {
            let _guard = self.held.lock().expect("nobody panics");
            self.times.fetch_add(1, Ordering::Relaxed);
            held();
            Ok(())
        }

        fn query(&self, _: i64) -> anyhow::Result<i64> {
            anyhow::bail!("always")
        }
    }

    fn window(operation: Operation, timed: bool) -> Window {
        Window {
            warm_up: Duration::from_millis(1),
            length: Duration::from_millis(20),
            loads: vec![Load { callers: 3, operation, timed, rate: None }],
        }
    }

    #[test]
    fn every_success_is_counted_and_those_in_the_window_are_throughput() {
        let threads = Threads { peer: One::default(), items: 1 };
        let hold = Operation::Hold(Duration::from_micros(50));
        let samples = threads.run(&window(hold, true)).expect("it runs");
        let [sample] = &samples[..] else { panic!("one load, {} samples", samples.len()) };
        assert_eq!(sample.succeeded, threads.peer.times.load(Ordering::Relaxed));
        assert_eq!(sample.counts.len(), 3);
        assert!((1..=sample.succeeded).contains(&sample.operations()));
        // One at a time, 50 us each.
        assert!(sample.operations() as f64 <= sample.seconds / 50e-6 + 1.0);
        assert!(sample.waits.is_some());
    }

    #[test]
    fn failures_are_counted_apart() {
        let threads = Threads { peer: One::default(), items: 1 };
        let samples = threads.run(&window(Operation::Query, false)).expect("it runs");
        assert_eq!((samples[0].succeeded, samples[0].operations()), (0, 0));
        assert!(samples[0].failed > 0);
        assert_eq!(samples[0].first_failure.as_deref(), Some("always"));
        assert!(samples[0].waits.is_none());
    }
}
