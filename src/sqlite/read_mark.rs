//! A read transaction that spares those of the readers their system calls.
//!
//! A query outside a transaction takes a shared lock on one of the WAL's read marks and gives it back:
//! two calls of `fcntl`, which is a good part of what a cached point query costs. SQLite counts such
//! locks per process, and makes the call only for the first who takes one and the last who gives it
//! back. So one connection of the pool keeps a read transaction open while readers are busy, and theirs
//! begin and end without any call. They see no less: each still looks for the newest commit, and takes a
//! lock of its own when that has another mark.
//!
//! A read transaction that stays open keeps the WAL from being checkpointed and from starting over, for
//! the pool, for other processes and for whoever asks for a checkpoint in SQL. So this one is
//!
//! * begun anew each [`TICK`], on the newest mark. That is enough for a checkpoint that waits: what it
//!   waits for is never more than one tick old. When all is in the database the newest mark is the one
//!   that keeps nobody from starting the WAL over;
//! * ended when readers pause for some ticks, so that an idle pool holds nothing;
//! * ended before the pool's own checkpoints. It belongs to their thread, so the two never meet;
//! * not begun beside writers of other processes, or of this one past the pool: their checkpoints come at
//!   the end of a commit and wait for nobody, so a mark from before that commit would be in the way of
//!   each of them. The pool's own commits are told by its writer; any other is seen by
//!   `PRAGMA data_version`.
//!
//! What lost: one that is begun anew at each commit (the committer would pay for it); read transactions
//! that readers keep after their query (each would have to be found and ended for a checkpoint).

use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU32};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use rusqlite::Connection;

use super::wal::Wal;

/// How old the mark gets.
const TICK: Duration = Duration::from_millis(1);

/// Readers that tell nothing for so many ticks have paused.
const PAUSE: u32 = 5;

/// The pool's writer tells a moment after its commit can be seen: when it loses its core just then,
/// after so many ticks.
const PATIENCE: u32 = 20;

/// The pause after a commit of somebody else's was seen, or after a failure.
const AWAY: Duration = Duration::from_secs(1);

/// A reading connection tells of one checkout in so many.
pub(super) const TELL_EACH: u32 = 32;

/// What readers tell.
#[derive(Debug)]
pub(crate) struct Reads {
    told: AtomicU32,
    /// Somebody sleeps who wants to be woken.
    asleep: AtomicBool,
    wake: Sender<()>,
}

impl Reads {
    /// To be called for one checkout in [`TELL_EACH`] of a connection.
    pub(super) fn tell(&self) {
        self.told.fetch_add(1, Relaxed);
        if self.asleep.load(Relaxed) && self.asleep.swap(false, Acquire) {
            // Full means that it is being woken.
            let _ = self.wake.try_send(());
        }
    }
}

/// What the mark does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Readers are idle: the next that is busy wakes it.
    Asleep,
    /// Readers have been busy; if they still are at the next tick, the mark is taken.
    Watching,
    Held,
    /// Others write, or it failed: not before then.
    AwayUntil(Instant),
}

/// What is known about those who commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Commits {
    /// The pool's.
    own: u32,
    /// Of the database, as the connection sees it: another after each commit.
    version: i64,
}

/// The mark, for the thread that makes the checkpoints.
pub(super) struct ReadMark {
    reads: Arc<Reads>,
    woken: Receiver<()>,
    wal: Arc<Wal>,
    state: State,
    /// As readers had told at the latest tick.
    told: u32,
    /// For so many ticks they have told nothing.
    silent: u32,
    /// At the latest tick, if there was one on this connection.
    commits: Option<Commits>,
    /// For so many ticks a commit is known that the pool's writer has not told of.
    unexplained: u32,
}

impl ReadMark {
    pub(super) fn new(wal: Arc<Wal>) -> Self {
        let (wake, woken) = bounded(1);
        let reads = Reads { told: AtomicU32::new(0), asleep: AtomicBool::new(true), wake };
        Self {
            reads: Arc::new(reads),
            woken,
            wal,
            state: State::Asleep,
            told: 0,
            silent: 0,
            commits: None,
            unexplained: 0,
        }
    }

    pub(super) fn reads(&self) -> &Arc<Reads> {
        &self.reads
    }

    /// Receives when busy readers wake it.
    pub(super) fn woken(&self) -> &Receiver<()> {
        &self.woken
    }

    /// Readers are busy.
    pub(super) fn wake(&mut self) {
        if self.state == State::Asleep {
            self.state = State::Watching;
            self.told = self.reads.told.load(Relaxed);
            self.silent = 0;
        }
    }

    /// The next tick; `None` = when it is woken.
    pub(super) fn next_tick(&self) -> Option<Duration> {
        match self.state {
            State::Asleep => None,
            State::Watching | State::Held => Some(TICK),
            State::AwayUntil(end) => Some(end.saturating_duration_since(Instant::now())),
        }
    }

    /// Whether [`tick`](Self::tick) is to be called; if not, readers have become idle.
    pub(super) fn is_wanted(&mut self) -> bool {
        let before = std::mem::replace(&mut self.told, self.reads.told.load(Relaxed));
        match self.state {
            State::Asleep | State::AwayUntil(_) => false,
            State::Watching => before != self.told,
            State::Held => {
                self.silent = if before == self.told { self.silent + 1 } else { 0 };
                self.silent < PAUSE
            }
        }
    }

    /// Takes the mark, or takes the newest instead of the one that is held. After an error the
    /// connection is not to be used any more.
    pub(super) fn tick(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        self.end(connection)?;
        let own = self.wal.commits();
        connection.prepare_cached("BEGIN")?.execute([])?;
        self.state = State::Held;
        // It begins the transaction in truth, which BEGIN does not.
        let version = connection
            .prepare_cached("PRAGMA main.data_version")?
            .query_row([], |row| row.get(0))?;
        let now = Commits { own, version };
        if self.is_beside_others(now) {
            self.end(connection)?;
            self.stay_away();
        }
        Ok(())
    }

    /// For a while readers cannot wake it. To be called when the mark has been given back, or the
    /// connection closed.
    pub(super) fn stay_away(&mut self) {
        self.commits = None;
        self.unexplained = 0;
        self.state = State::AwayUntil(Instant::now() + AWAY);
    }

    /// Whether somebody has committed who is not the pool's writer.
    fn is_beside_others(&mut self, now: Commits) -> bool {
        let Some(before) = self.commits.replace(now) else { return false };
        if now.own != before.own {
            self.unexplained = 0;
        } else if self.unexplained > 0 || now.version != before.version {
            self.unexplained += 1;
        }
        self.unexplained > PATIENCE
    }

    /// Gives the mark back, until readers are found to be busy once more.
    pub(super) fn let_go(&mut self, connection: Option<&Connection>) -> rusqlite::Result<()> {
        let ended = connection.map_or(Ok(()), |connection| self.end(connection));
        // Commits are not looked at meanwhile.
        self.commits = None;
        self.unexplained = 0;
        if matches!(self.state, State::AwayUntil(end) if Instant::now() < end) {
            return ended;
        }
        self.state = State::Asleep;
        self.reads.asleep.store(true, Release);
        ended
    }

    fn end(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        if self.state != State::Held {
            return Ok(());
        }
        connection.prepare_cached("COMMIT")?.execute([]).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    /// A database with the connection of a mark, and one of somebody else.
    struct Beside {
        _directory: TempDir,
        mark: ReadMark,
        connection: Connection,
        other: Connection,
    }

    impl Beside {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let open = || Connection::open(directory.path().join("app.db")).unwrap();
            let (connection, other) = (open(), open());
            other.busy_timeout(Duration::ZERO).unwrap();
            let tables = "PRAGMA journal_mode = WAL; CREATE TABLE task (n)";
            other.execute_batch(tables).unwrap();
            let (calls, _) = bounded(1);
            let wal = Arc::new(Wal::new(1 << 20, 4096, calls));
            let mut mark = ReadMark::new(wal);
            mark.wake();
            Self { _directory: directory, mark, connection, other }
        }

        /// Readers are busy for a tick.
        fn tick(&mut self) {
            self.mark.reads.tell();
            if self.mark.is_wanted() {
                self.mark.tick(&self.connection).unwrap();
            }
        }

        fn commit(&self) {
            self.other.execute("INSERT INTO task VALUES (1)", []).unwrap();
        }

        fn is_in_the_way(&self) -> bool {
            let truncate = "PRAGMA wal_checkpoint(TRUNCATE)";
            self.other.query_row(truncate, [], |row| row.get(0)).unwrap()
        }
    }

    #[test]
    fn a_checkpoint_gets_through_at_the_next_tick() {
        let mut beside = Beside::new();
        beside.tick();
        assert!(beside.is_in_the_way());
        beside.tick();
        assert!(!beside.is_in_the_way());
        assert_eq!(beside.mark.state, State::Held);
    }

    #[test]
    fn it_is_not_wanted_when_readers_pause() {
        let mut beside = Beside::new();
        beside.tick();
        for _ in 1..PAUSE {
            assert!(beside.mark.is_wanted());
        }
        assert!(!beside.mark.is_wanted());
        beside.mark.let_go(Some(&beside.connection)).unwrap();
        assert!(!beside.is_in_the_way());
        beside.mark.reads.tell();
        assert!(beside.mark.woken().try_recv().is_ok());
    }

    #[test]
    fn it_stays_away_beside_commits_that_the_writer_has_not_told_of() {
        let mut beside = Beside::new();
        beside.tick();
        beside.commit();
        for _ in 0..=PATIENCE {
            assert_eq!(beside.mark.state, State::Held);
            beside.tick();
        }
        assert!(matches!(beside.mark.state, State::AwayUntil(_)));
        assert!(!beside.is_in_the_way());
        beside.mark.let_go(Some(&beside.connection)).unwrap();
        assert!(matches!(beside.mark.state, State::AwayUntil(_)), "nor does a checkpoint end that");
    }

    #[test]
    fn it_goes_on_beside_the_pools_writer() {
        let mut beside = Beside::new();
        beside.tick();
        beside.commit();
        beside.tick();
        beside.mark.wal.committed(1, || false);
        for _ in 0..=PATIENCE {
            beside.tick();
        }
        assert_eq!(beside.mark.state, State::Held);
    }
}
