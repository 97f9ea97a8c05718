//! What the writing connection tells, at each commit, to whoever checkpoints.
//!
//! SQLite calls a hook of the connection after a commit, with the number of frames that the WAL has
//! then. That is exact, costs a few stores, and needs no look at the file, whose size says nothing
//! once its blocks are used again. A thread is woken by the first commit after a quiet time, and by the
//! first that finds the WAL large; no other commit does more than store.
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
/// The thread looks by itself whether commits go on: a large WAL calls.
const WATCHED: u8 = 1;
/// Something was in the way, and the thread tries again soon: only a WAL near its limit calls.
const PAUSING: u8 = 2;
/// As before, and no waiting would help: nobody calls.
const HELD: u8 = 3;
/// The thread was called because of the WAL's size, or is at work on a checkpoint: commits near the
/// limit wait.
const AT_WORK: u8 = 4;

/// In sixteenths of the limit: so much to be checkpointed makes a checkpoint due, little at a time, for
/// to send a megabyte to the disk keeps a processor for a tenth of a millisecond, and whoever commits
/// there waits;
const BEGIN: u32 = 1;
/// so large, the WAL is made to start over for the first time, which is early, for a file that grows is
/// slower than one whose blocks exist; twice as large the next time, and so on up to the last;
const FIRST_START_OVER: u32 = 1;
const LAST_START_OVER: u32 = 6;
/// so large, starting over may cost the writers a little;
const LARGE: u32 = 8;
/// and so large, commits wait for the disk.
const BRAKE: u32 = 12;

/// The longest that a commit waits for the disk here, and how often it looks.
const LONGEST_BRAKE: Duration = Duration::from_secs(1);
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
    /// So large it is made to start over.
    start_over_at: AtomicU32,
    /// A sixteenth of the limit, in frames.
    sixteenth: u32,
    calls: Sender<()>,
}

impl Wal {
    /// A message in `calls` wakes the thread; its capacity is one.
    pub(super) fn new(limit_bytes: u64, page_size: u64, calls: Sender<()>) -> Self {
        let limit = limit_bytes.saturating_sub(FILE_HEADER) / (page_size + FRAME_HEADER);
        let sixteenth = u32::try_from(limit / 16).unwrap_or(u32::MAX / 16).max(1);
        Self {
            frames: AtomicU32::new(0),
            commits: AtomicU32::new(0),
            backfilled: AtomicU64::new(0),
            committed: AtomicBool::new(false),
            state: AtomicU8::new(QUIET),
            commit_waits: AtomicBool::new(false),
            start_over_at: AtomicU32::new(FIRST_START_OVER * sixteenth),
            sixteenth,
            calls,
        }
    }

    /// After a commit. Called by SQLite on the committing thread, which holds no lock of it then.
    pub(super) fn committed(&self, frames: u32) {
        // In one order with the look at the state, and with the thread's looks the other way round (see
        // `rest`): one of the two sees the other.
        if frames < self.frames.swap(frames, SeqCst) {
            let epoch = Backfilled::unpack(self.backfilled.load(Relaxed)).epoch;
            let none = Backfilled { epoch: epoch.wrapping_add(1), frames: 0 };
            self.backfilled.store(none.pack(), Release);
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
        if self.is_near_its_limit() {
            self.wait_for_the_disk();
        }
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
        while self.state.load(Acquire) == AT_WORK && began.elapsed() < LONGEST_BRAKE {
            thread::sleep(BRAKE_LOOK);
        }
        self.commit_waits.store(false, Release);
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
        Backfilled::unpack(self.backfilled.load(Acquire))
    }

    /// A checkpoint that began at `before` has brought the database so far. Not noted if the WAL has
    /// started over meanwhile.
    pub(super) fn found(&self, before: Backfilled, frames: u32) {
        let now = Backfilled { epoch: before.epoch, frames };
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

    /// The thread goes to sleep for good: the next commit wakes it. What is left is to be looked at
    /// afterwards.
    pub(super) fn rest(&self) {
        self.state.store(QUIET, SeqCst);
    }

    /// The thread looks by itself: only a large WAL wakes it.
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
        left >= self.sixteenth * BEGIN || left > 0 && self.is_to_start_over()
    }

    /// Large enough to be made to start over.
    pub(super) fn is_to_start_over(&self) -> bool {
        self.frames() >= self.start_over_at.load(Relaxed)
    }

    /// The next writer starts it over.
    pub(super) fn will_start_over(&self) {
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
