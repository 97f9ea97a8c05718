//! The beginning and the end of the thread that makes [checkpoints](super::checkpoint).
//!
//! It is prepared before the pool's connections are opened, for they are made to tell of commits, and
//! started after them; and it ends before them, but for its connection, which is closed last.

use std::convert::Infallible;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use parking_lot::Mutex;
use rusqlite::{Connection, InterruptHandle};

use super::checkpoint::Checkpointer;
use super::manager::{Manager, Recipe};
use super::read_mark::ReadMark;
use super::wal::Wal;
use crate::checkout::WeakPool;

/// Ends the thread.
pub(crate) struct Checkpointing {
    wal: Arc<Wal>,
    stop: Mutex<Option<Sender<Infallible>>>,
    running: Arc<Running>,
    /// From the thread's end: its connection, to be closed last.
    ended: Receiver<Option<Connection>>,
}

/// The way to interrupt a checkpoint.
pub(super) type Running = Mutex<Option<InterruptHandle>>;

impl Checkpointing {
    /// Tells the thread to end, and interrupts what it does.
    pub(crate) fn stop(&self) {
        drop(self.stop.lock().take());
        self.wal.end();
        if let Some(running) = &*self.running.lock() {
            running.interrupt();
        }
    }

    /// Waits until the thread has ended, and closes its connection; `false` = not by the deadline.
    ///
    /// To be called when those of the pool are closed: of two that are closed at the same moment,
    /// neither would find itself to be the last, which removes the WAL.
    pub(crate) fn wait_until_ended(&self, deadline: Option<Instant>) -> bool {
        let ended = match deadline {
            None => self.ended.recv().map_err(RecvTimeoutError::from),
            Some(at) => self.ended.recv_deadline(at),
        };
        // Disconnected: it was closed before.
        ended.map(drop) != Err(RecvTimeoutError::Timeout)
    }
}

/// What the writer tells, before there is anybody to hear it.
pub(crate) struct PreparedCheckpoints {
    wal: Arc<Wal>,
    called: Receiver<()>,
    /// `None` = not wanted.
    mark: Option<ReadMark>,
}

impl PreparedCheckpoints {
    /// To be called before the pool's connections are opened: they are made to tell.
    pub(crate) fn new(recipe: &Recipe, page_size: u64) -> Self {
        let (calls, called) = bounded(1);
        let limit = u64::from(recipe.config.wal_limit_mib) << 20;
        let wal = recipe.wal.get_or_init(|| Arc::new(Wal::new(limit, page_size, calls)));
        let mark = recipe.config.read_mark.then(|| ReadMark::new(Arc::clone(wal)));
        if let Some(mark) = &mark {
            let _ = recipe.reads.set(Arc::clone(mark.reads()));
        }
        Self { wal: Arc::clone(wal), called, mark }
    }

    /// Starts the thread.
    pub(crate) fn start(
        self,
        recipe: &Arc<Recipe>,
        writer: WeakPool<Manager>,
        readers: WeakPool<Manager>,
    ) -> std::io::Result<Checkpointing> {
        let (stop, stopped) = bounded(0);
        let (ending, ended) = bounded(1);
        let running = Arc::new(Running::default());
        let (wal, of_thread) = (Arc::clone(&self.wal), Arc::clone(&self.wal));
        let checkpointer =
            Checkpointer::new(self.wal, self.mark, recipe, &running, writer, readers);
        thread::Builder::new().name("tenure-checkpoints".to_owned()).spawn(move || {
            let connection = checkpointer.run(&self.called, &stopped);
            // From now on nobody waits for this thread.
            drop(self.called);
            of_thread.let_grow();
            let _ = ending.send(connection);
        })?;
        Ok(Checkpointing { wal, stop: Mutex::new(Some(stop)), running, ended })
    }
}
