//! Load on a pool whose calls are futures: one task per caller on tokio's multi-threaded runtime as
//! it is by default, which is how the users of such pools run them.

use std::hint::black_box;
use std::sync::Arc;

use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use crate::Runner;
use crate::phase::{Phase, spin};
use crate::protocol::{Load, Operation, Window};
use crate::sample::{Caller, Sample};
use crate::threads::Pace;

/// A pool whose calls are futures. Each method checks a connection out and gives it back.
pub trait Async: Send + Sync + 'static {
    /// Runs `held` while a connection is held.
    fn hold(&self, held: impl FnOnce() + Send) -> impl Future<Output = anyhow::Result<()>> + Send;

    fn query(&self, id: i64) -> impl Future<Output = anyhow::Result<i64>> + Send;

    /// All queries see one state of the database.
    fn snapshot(&self, ids: Vec<i64>) -> impl Future<Output = anyhow::Result<i64>> + Send {
        async move { anyhow::bail!("no snapshot of {} reads here", ids.len()) }
    }

    fn write(&self, caller: u32) -> impl Future<Output = anyhow::Result<()>> + Send {
        async move { anyhow::bail!("caller {caller} cannot write here") }
    }
}

#[derive(Debug)]
pub struct Tasks<P> {
    /// Always there, until dropped.
    peer: Option<Arc<P>>,
    items: i64,
    runtime: Runtime,
}

impl<P> Tasks<P> {
    pub fn open<F>(items: i64, open: impl FnOnce() -> F) -> anyhow::Result<Self>
    where
        F: Future<Output = anyhow::Result<P>>,
    {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let peer = runtime.block_on(async { open().await })?;
        Ok(Self { peer: Some(Arc::new(peer)), items, runtime })
    }
}

impl<P> Drop for Tasks<P> {
    fn drop(&mut self) {
        // Some pools need a runtime to be dropped in.
        let _within = self.runtime.enter();
        self.peer = None;
    }
}

impl<P: Async> Runner for Tasks<P> {
    fn run(&self, window: &Window) -> anyhow::Result<Vec<Sample>> {
        let phase = Arc::new(Phase::new());
        let peer = self.peer.as_ref().expect("the pool is open until this is dropped");
        let mut handles: Vec<Vec<JoinHandle<Caller>>> = Vec::new();
        for load in &window.loads {
            let spawn = |number| {
                let call = call(
                    Arc::clone(peer),
                    self.items,
                    Caller::new(number, load, &phase),
                    load.clone(),
                    Arc::clone(&phase),
                );
                self.runtime.spawn(call)
            };
            handles.push((0..load.callers).map(spawn).collect());
        }
        let spent = phase.conduct(window);
        self.runtime.block_on(async {
            let mut samples = Vec::new();
            for of_load in handles {
                let mut callers = Vec::new();
                for handle in of_load {
                    callers.push(handle.await?);
                }
                samples.push(Sample::of(callers, spent));
            }
            Ok(samples)
        })
    }
}

async fn call<P: Async>(
    peer: Arc<P>,
    items: i64,
    mut caller: Caller,
    load: Load,
    phase: Arc<Phase>,
) -> Caller {
    let mut pace = load.rate.map(Pace::new);
    while !caller.is_over() {
        if let Some(pace) = &mut pace
            && let Some(early) = caller.due(pace.next())
        {
            tokio::time::sleep(early).await;
            caller.woke(&phase);
        }
        let result = operate(&*peer, items, &mut caller, load.operation, &phase).await;
        caller.ended(result, &phase);
    }
    caller
}

async fn operate<P: Async>(
    peer: &P,
    items: i64,
    caller: &mut Caller,
    operation: Operation,
    phase: &Phase,
) -> anyhow::Result<()> {
    match operation {
        Operation::CheckOut => peer.hold(|| ()).await,
        Operation::Hold(duration) => {
            let asked = caller.asked();
            let result = peer
                .hold(|| {
                    caller.took(asked, phase);
                    spin(duration);
                })
                .await;
            if result.is_err() {
                caller.took(asked, phase);
            }
            result
        }
        Operation::Query => {
            black_box(peer.query(caller.some_item(items)).await?);
            Ok(())
        }
        Operation::Snapshot(reads) => {
            let ids = (0..reads).map(|_| caller.some_item(items)).collect();
            black_box(peer.snapshot(ids).await?);
            Ok(())
        }
        Operation::Write => {
            let asked = caller.asked();
            let result = peer.write(caller.number).await;
            caller.took(asked, phase);
            result
        }
    }
}
