//! What the writing connection tells, at each commit, to whoever checkpoints.
//!
//! SQLite calls a hook of the connection after a commit, with the number of frames that the WAL has
//! then. That is exact, costs a few stores, and needs no look at the file, whose size says nothing
//! once its blocks are used again. A thread is woken by the first commit after a quiet time, and by the
//! first that finds enough to checkpoint; no other commit does more than store.
//!
//! One thing can hold a commit up here: the WAL has nearly reached its limit, and the thread is at work
//! or was called. Then writers have to become as slow as the disk, or the WAL grows without bound. A
//! commit that waits here keeps everybody else from writing too, for it has the writer; the thread makes
//! use of that when the writer's turn is not to be had. When a reader is in the way, and the thread has
//! found so, commits go on.
//!
//! All of that is one state, which the thread sets, but for the calls: with a flag of its own for "at
//! work", a commit that called during the thread's pause had itself held up until the pause was over.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, TrySendError};

/// Nothing is left to checkpoint, as far as is known: any commit calls.
const QUIET: u8 = 0;
/// The thread looks by itself whether commits go on: enough to checkpoint calls.
const WATCHED: u8 = 1;
/// Something was in the way, and the thread tries again soon: only a WAL near its limit calls.
const PAUSING: u8 = 2;
/// As before, and no waiting would help: nobody calls.
const HELD: u8 = 3;
/// The thread was called because of the WAL's size, or copies: commits near the limit wait, and beyond
/// it a little.
const AT_WORK: u8 = 4;
/// All but little is in the database, and on the disk: commits near and beyond the limit wait.
const STARTING_OVER: u8 = 5;

/// So much to be checkpointed makes a checkpoint due: a sixty-fourth of the limit, but so many frames at
/// least, where that is no more than a sixteenth. Little at a time, for what is brought to the disk keeps
/// the disk and a processor for a tenth of a millisecond and more per megabyte, and whoever commits
/// meanwhile waits: with four times as much, of which only the last was brought to the disk, one commit in
/// a thousand took twice as long, and a group of 64 threads at NORMAL did three fifths of the work. (Where
/// the disk takes 10 ms each time, a group at FULL does 0.93 of it.)
const PARTS: u64 = 64;
const LEAST: u64 = 256;

/// In sixteenths of the limit: so large, the WAL is made to start over, which is early, for a file that
/// grows is slower than one whose blocks exist; twice as large from then on whenever that comes twice
/// within so little time, or readers are in the way, up to the last;
const FIRST_START_OVER: u32 = 1;
const LAST_START_OVER: u32 = 6;
const SOON: Duration = Duration::from_millis(100);
/// so much that is not in the database, and no more than so many frames, is copied before the writer's turn
/// is waited for any longer;
const LEFT_BEHIND: u32 = 2;
const MOST_LEFT_BEHIND: u64 = 4 * LEAST;
/// so large, starting over may cost the writers a little;
const LARGE: u32 = 8;
/// and so large, commits wait for the disk.
const BRAKE: u32 = 12;

/// The longest that a commit waits for the disk here, and how often it looks.
const LONGEST_BRAKE: Duration = Duration::from_secs(1);
/// The same while the thread copies a WAL that is beyond its limit, after a long reader or a giant
/// transaction: that takes as long as the disk does, and it is enough that commits do not outrun it.
const BRAKE_BEYOND: Duration = Duration::from_millis(2);
const BRAKE_LOOK: Duration = Duration::from_micros(200);

/// What precedes the page in a frame, and the frames in a file.
const FRAME_HEADER: u64 = 24;
const FILE_HEADER: u64 = 32;

/// How much of the WAL is in the database.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Backfilled {
    /// Of the WAL, which starts over.
    pub(super) epoch: u32,
    pub(super) frames: u32,
}

impl Backfilled {
    fn pack(self) -> u64 {
        u64::from(self.epoch) << 32 | u64::from(self.frames)
    }

    fn unpack(packed: u64) -> Self {
        Self { epoch: (packed >> 32) as u32, frames: packed as u32 }
    }
}

/// The WAL of a pool, as its writer has seen it last.
#[derive(Debug)]
pub(crate) struct Wal {
    frames: AtomicU32,
    /// How many there have been.
    commits: AtomicU32,
    backfilled: AtomicU64,
    /// There was a commit since somebody looked.
    committed: AtomicBool,
    state: AtomicU8,
    /// A commit waits for the thread.
    commit_waits: AtomicBool,
    /// The pool ends.
    ended: AtomicBool,
    /// So large it is made to start over.
    start_over_at: AtomicU32,
    /// So many frames that are not in the database make a checkpoint due.
    due: u32,
    /// A sixteenth of the limit, in frames.
    sixteenth: u32,
    calls: Sender<()>,
}

impl Wal {
    /// A message in `calls` wakes the thread; its capacity is one.
    pub(super) fn new(limit_bytes: u64, page_size: u64, calls: Sender<()>) -> Self {
        let limit = limit_bytes.saturating_sub(FILE_HEADER) / (page_size + FRAME_HEADER);
        let sixteenth = u32::try_from(limit / 16).unwrap_or(u32::MAX / 16).max(1);
        let due = u32::try_from((limit / PARTS).max(LEAST)).unwrap_or(u32::MAX);
        Self {
            frames: AtomicU32::new(0),
            commits: AtomicU32::new(0),
            backfilled: AtomicU64::new(0),
            committed: AtomicBool::new(false),
            state: AtomicU8::new(QUIET),
            commit_waits: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            start_over_at: AtomicU32::new(FIRST_START_OVER * sixteenth),
            due: due.min(sixteenth),
            sixteenth,
            calls,
        }
    }

    /// After a commit. Called by SQLite on the committing thread, which holds no lock of it then. `reads`
    /// = the connection itself has a read open.
    pub(super) fn committed(&self, frames: u32, reads: impl FnOnce() -> bool) {
        // As many as before are so by chance, of a WAL that has started over: a commit writes one at least.
        // In one order with the look at the state, and with the thread's looks the other way round (see
        // `rest`): one of the two sees the other.
        if frames <= self.frames.swap(frames, SeqCst) {
            let epoch = Backfilled::unpack(self.backfilled.load(Relaxed)).epoch;
            let none = Backfilled { epoch: epoch.wrapping_add(1), frames: 0 };
            self.backfilled.store(none.pack(), SeqCst);
        }
        // One thread at a time commits, so no atomic addition is needed.
        self.commits.store(self.commits.load(Relaxed).wrapping_add(1), Relaxed);
        self.committed.store(true, Release);
        match self.state.load(SeqCst) {
            QUIET => self.call(QUIET, WATCHED),
            WATCHED if self.is_due() => self.call(WATCHED, AT_WORK),
            PAUSING if self.is_near_its_limit() => self.call(PAUSING, AT_WORK),
            _ => {}
        }
        // Who reads would wait for himself.
        if self.is_near_its_limit() && self.is_at_work() && !reads() {
            self.wait_for_the_disk();
        }
    }

    fn is_at_work(&self) -> bool {
        matches!(self.state.load(Acquire), AT_WORK | STARTING_OVER)
    }

    #[cold]
    fn call(&self, from: u8, to: u8) {
        if self.state.compare_exchange(from, to, AcqRel, Relaxed).is_ok() {
            // Full means that the thread has not come yet.
            if let Err(TrySendError::Disconnected(())) = self.calls.try_send(()) {
                self.let_grow();
            }
        }
    }

    #[cold]
    fn wait_for_the_disk(&self) {
        let began = Instant::now();
        self.commit_waits.store(true, Release);
        loop {
            let limit = match self.state.load(Acquire) {
                _ if self.ended.load(Acquire) => break,
                AT_WORK if self.is_over_the_limit() => BRAKE_BEYOND,
                AT_WORK | STARTING_OVER => LONGEST_BRAKE,
                _ => break,
            };
            if began.elapsed() >= limit {
                break;
            }
            thread::sleep(BRAKE_LOOK);
        }
        self.commit_waits.store(false, Release);
    }

    /// The pool ends: nobody is to wait.
    pub(super) fn end(&self) {
        self.ended.store(true, Release);
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.load(Acquire)
    }

    /// A commit waits, so nobody writes.
    pub(super) fn commit_waits(&self) -> bool {
        self.commit_waits.load(Acquire)
    }

    /// A number that is another after each commit.
    pub(super) fn commits(&self) -> u32 {
        self.commits.load(Relaxed)
    }

    pub(super) fn frames(&self) -> u32 {
        self.frames.load(SeqCst)
    }

    /// Frames that are in the database, as far as is known.
    pub(super) fn backfilled(&self) -> Backfilled {
        Backfilled::unpack(self.backfilled.load(SeqCst))
    }

    /// A checkpoint that began at `before` has brought the database so far. Not noted if the WAL has
    /// started over meanwhile.
    pub(super) fn found(&self, before: Backfilled, frames: u32) {
        // More were somebody else's, and the writer's next commit may start the WAL over with fewer.
        let now = Backfilled { epoch: before.epoch, frames: frames.min(self.frames()) };
        let _ = self.backfilled.compare_exchange(before.pack(), now.pack(), AcqRel, Relaxed);
    }

    /// Frames that are not in the database, as far as is known.
    pub(super) fn left(&self) -> u32 {
        self.frames().saturating_sub(self.backfilled().frames)
    }

    /// Whether there was a commit since this was asked last.
    pub(super) fn take_committed(&self) -> bool {
        self.committed.swap(false, Acquire)
    }

    /// The thread begins a checkpoint.
    pub(super) fn begin_work(&self) {
        self.state.store(AT_WORK, Release);
    }

    /// The thread has little left to do.
    pub(super) fn begin_to_start_over(&self) {
        self.state.store(STARTING_OVER, Release);
    }

    /// The thread goes to sleep for good: the next commit wakes it. What is left is to be looked at
    /// afterwards.
    pub(super) fn rest(&self) {
        self.state.store(QUIET, SeqCst);
    }

    /// The thread looks by itself: only a checkpoint that is due wakes it.
    pub(super) fn watch(&self) {
        self.state.store(WATCHED, Release);
    }

    /// The thread looks by itself, soon: only a WAL near its limit wakes it.
    pub(super) fn pause(&self) {
        self.state.store(PAUSING, Release);
    }

    /// The thread looks by itself, soon, and commits do not wait for it.
    pub(super) fn let_grow(&self) {
        self.state.store(HELD, Release);
    }

    /// Time for a checkpoint.
    pub(super) fn is_due(&self) -> bool {
        let left = self.left();
        left >= self.due || left > 0 && self.is_to_start_over()
    }

    /// Much more is not in the database than is copied in one go with the writer's turn.
    pub(super) fn is_left_behind(&self) -> bool {
        let most = u64::from(self.sixteenth * LEFT_BEHIND).clamp(LEAST, MOST_LEFT_BEHIND);
        u64::from(self.left()) > most
    }

    /// Large enough to be made to start over.
    pub(super) fn is_to_start_over(&self) -> bool {
        self.frames() >= self.start_over_at.load(Relaxed)
    }

    /// The next writer starts it over, so long after the last time.
    pub(super) fn will_start_over(&self, since: Duration) {
        if since < SOON {
            self.start_over_later();
        }
    }

    /// It may grow larger before it starts over.
    pub(super) fn start_over_later(&self) {
        let next = self.start_over_at.load(Relaxed).saturating_mul(2);
        self.start_over_at.store(next.min(LAST_START_OVER * self.sixteenth), Relaxed);
    }

    /// So large that it may cost its writers a little.
    pub(super) fn is_large(&self) -> bool {
        self.frames() >= self.sixteenth * LARGE
    }

    /// So large that commits wait for the disk.
    fn is_near_its_limit(&self) -> bool {
        self.frames() >= self.sixteenth * BRAKE
    }

    pub(super) fn is_over_the_limit(&self) -> bool {
        self.frames() >= self.sixteenth * 16
    }
}

#[cfg(test)]
mod tests {
    use crossbeam_channel::{Receiver, bounded};

    use super::*;

    /// A WAL of so many frames at most, nobody at work on it, and whom it calls.
    fn wal(limit: u64) -> (Wal, Receiver<()>) {
        let (calls, called) = bounded(1);
        (Wal::new(limit * (4096 + FRAME_HEADER) + FILE_HEADER, 4096, calls), called)
    }

    fn commit(wal: &Wal, frames: u32) -> Duration {
        let began = Instant::now();
        wal.committed(frames, || false);
        began.elapsed()
    }

    #[test]
    fn a_checkpoint_is_due_at_a_64th_of_the_limit_and_at_least_256_frames_if_a_16th_is_as_many() {
        for (limit, due) in [(160, 10), (16_000, 256), (64_000, 1000)] {
            let (wal, _called) = wal(limit);
            wal.start_over_later();
            let first = (1..).find(|frames| {
                commit(&wal, *frames);
                wal.is_due()
            });
            assert_eq!(first, Some(due), "of {limit}");
        }
    }

    #[test]
    fn a_commit_that_starts_it_over_with_as_many_frames_is_noticed() {
        let (wal, called) = wal(1600);
        for _ in 0..3 {
            commit(&wal, 5);
            assert!(called.try_recv().is_ok());
            assert_eq!(wal.left(), 5);
            wal.found(wal.backfilled(), 5);
            wal.rest();
        }
    }

    #[test]
    fn a_commit_after_those_of_somebody_else_is_noticed() {
        let (wal, called) = wal(1600);
        commit(&wal, 3);
        wal.found(wal.backfilled(), 50);
        wal.rest();
        let _ = called.try_recv();
        // It starts the WAL over.
        commit(&wal, 10);
        assert!(wal.left() > 0 && called.try_recv().is_ok());
    }

    #[test]
    fn what_is_beyond_the_limit_holds_no_commit_up_for_long() {
        let (wal, _called) = wal(1600);
        let all: Duration = (0..20).map(|n| commit(&wal, 100_000 + n)).sum();
        assert!(all < LONGEST_BRAKE, "{all:?}");
        assert!(all >= BRAKE_BEYOND, "the thread was called, and has not come: {all:?}");
    }

    #[test]
    fn nobody_waits_who_reads_nor_for_readers_that_are_in_the_way_nor_at_the_end() {
        let (wal, _called) = wal(1600);
        wal.begin_to_start_over();
        let began = Instant::now();
        wal.committed(1500, || true);
        wal.let_grow();
        commit(&wal, 1501);
        wal.begin_to_start_over();
        wal.end();
        commit(&wal, 1502);
        assert!(began.elapsed() < LONGEST_BRAKE, "{:?}", began.elapsed());
    }

    #[test]
    fn in_a_pause_only_what_is_near_the_limit_calls() {
        let (wal, called) = wal(1600);
        wal.pause();
        commit(&wal, 1100);
        assert!(called.try_recv().is_err());
        wal.end();
        commit(&wal, 1300);
        assert!(called.try_recv().is_ok());
    }

    #[test]
    fn it_grows_before_it_starts_over_only_where_that_comes_soon() {
        let (wal, _called) = wal(1600);
        let after = |milliseconds| {
            wal.will_start_over(Duration::from_millis(milliseconds));
            (100..).find(|frames| {
                commit(&wal, *frames);
                wal.is_to_start_over()
            })
        };
        assert_eq!(after(1000), Some(100));
        assert_eq!(after(100), Some(100));
        assert_eq!(after(99), Some(200));
        assert_eq!(after(100), Some(200));
        assert_eq!(after(10), Some(400));
        assert_eq!(after(10), Some(600));
        assert_eq!(after(10), Some(600));
    }
}
