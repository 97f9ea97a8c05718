//! Checkpoints off the commit path: moving the WAL into the database while others write.
//!
//! SQLite by itself has the committer do it whose commit makes the WAL reach 1000 pages: some
//! milliseconds, in which everybody waits who wants to write. Here a thread of the pool does it, on a
//! connection of its own. It takes two steps, because a WAL is used again from its start only when all
//! of it is in the database at the moment somebody writes:
//!
//! 1. PASSIVE, beside those who read and write, until little is left: often, and each time to the disk;
//! 2. with the writer's turn, taken in the queue like anybody's: PASSIVE once more, for what was
//!    committed meanwhile. Whoever writes next starts the WAL over. Without this step a WAL under load
//!    never starts over and grows to hundreds of megabytes in a second.
//!
//! Readers that began before keep the WAL from starting over until they have ended. So the second step
//! asks whether any is left, by a RESTART checkpoint without a busy handler, which waits for nobody.
//! While the WAL is small it is content with the answer and comes again later. When the WAL has grown
//! to half of its limit it asks again for up to [`LINGER`]: many short reads that overlap would
//! otherwise never leave a gap. No mode that waits for readers is ever used (FULL, RESTART and TRUNCATE
//! with a busy handler hold the lock for writing meanwhile), and the WAL is not truncated, unless
//! it has outgrown its limit and nobody writes: appending to a file is slower than to use its blocks again.
//!
//! Who keeps the writer for many transactions gives no turn. When the WAL is near its limit a commit
//! waits for this thread (see [`wal`](super::wal)), which then takes the second step beside it, for
//! nobody else can write. It waits for short reads, and not for long ones (see
//! [`patience`](super::patience)): then commits go on, and the WAL grows.
//!
//! The thread's connection also keeps the read mark (see [`read_mark`](super::read_mark)), which is
//! given back before anything is done here.
//!
//! **The first commit.** As long as nothing was committed to a WAL, SQLite does not know how many pages the
//! database has, and asks the system for the size of the file in each read transaction: some 500 ns, as
//! much as all else in a cached point query. So once readers are busy this thread commits something that
//! changes nothing, if nobody has committed since the WAL was made, and nobody has the writer or waits for
//! it. Not when the pool is opened: a file that is hardly read is not touched.
//!
//! A thread of its own, because a checkpoint takes as long as the disk does, and housekeeping has
//! connections to reopen for which somebody waits. It holds the pool weakly, and sleeps while nothing
//! is written.

use std::cell::Cell;
use std::convert::Infallible;
use std::mem;
use std::panic::Location;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, after, never, select};
use rusqlite::Connection;

use super::checkpoint_connection::{CheckpointConnection, Failed, Found};
use super::checkpointing::Running;
use super::manager::{Manager, Recipe};
use super::patience::{Patience, SHORT_READ};
use super::read_mark::ReadMark;
use super::wal::Wal;
use crate::checkout::WeakPool;
use crate::error::{caught, quietly};
use crate::metrics::CheckpointMode;
use crate::status::Holder;

/// After so long without a commit the rest is checkpointed.
const IDLE: Duration = Duration::from_secs(1);

/// So many frames are written quickly, with the writer's turn: a mebibyte.
const LITTLE: u32 = 256;

/// How often the first step is repeated to leave little; more often only while each time leaves half.
const ROUNDS: u32 = 3;

/// The longest that the second step looks for the end of reads, when the WAL is large.
const LINGER: Duration = Duration::from_millis(2);
/// The pause between two looks, doubled each time.
const FIRST_LOOK: Duration = Duration::from_micros(50);
const LAST_LOOK: Duration = Duration::from_millis(1);

/// How often to look at the WAL while waiting for the writer's turn: a commit that waits for this thread
/// keeps its turn meanwhile. The place in the queue is not given up for a look, or where the queue is
/// longer than that a turn would never come, and only a WAL near its limit would start over.
const TURN: Duration = Duration::from_millis(10);

/// Who keeps the writer and commits nothing for so long is not waited for: readers would do without the read
/// mark, and this thread would be shown as a waiter, for as long as he does.
const UNUSED_TURN: Duration = Duration::from_millis(500);

/// The pause after a failure.
const AFTER_FAILURE: Duration = Duration::from_secs(1);

/// When to look again.
#[derive(Clone, Copy, Debug)]
enum Rest {
    UntilCalled,
    AtMost(Duration),
}

/// The thread, with its connection.
pub(super) struct Checkpointer {
    recipe: Arc<Recipe>,
    wal: Arc<Wal>,
    mark: Option<ReadMark>,
    connection: CheckpointConnection,
    writer: WeakPool<Manager>,
    readers: WeakPool<Manager>,
    patience: Patience,
    /// Not before then; `None` = not any more: the WAL has one, or it was refused for good.
    first_commit: Option<Instant>,
    /// When the WAL was made to start over last, or the thread began.
    started_over: Instant,
    /// The log has named who is in the way.
    said: bool,
}

impl Checkpointer {
    pub(super) fn new(
        wal: Arc<Wal>,
        mark: Option<ReadMark>,
        recipe: &Arc<Recipe>,
        running: &Arc<Running>,
        writer: WeakPool<Manager>,
        readers: WeakPool<Manager>,
    ) -> Self {
        Self {
            recipe: Arc::clone(recipe),
            connection: CheckpointConnection::new(recipe, &wal, running),
            wal,
            mark,
            writer,
            readers,
            patience: Patience::new(),
            first_commit: Some(Instant::now()),
            started_over: Instant::now(),
            said: false,
        }
    }

    /// Until it is told to stop; returns its connection.
    pub(super) fn run(
        mut self,
        called: &Receiver<()>,
        stopped: &Receiver<Infallible>,
    ) -> Option<Connection> {
        let mut rest = Rest::UntilCalled;
        loop {
            if !self.sleep(rest, called, stopped) {
                break;
            }
            self.let_go();
            // What goes wrong once must not end it for good.
            rest = caught(|| self.look()).unwrap_or_else(|_| {
                self.wal.let_grow();
                let pool = self.recipe.metrics.name();
                quietly(|| tracing::error!(pool, "a checkpoint panicked"));
                Rest::AtMost(AFTER_FAILURE)
            });
        }
        self.let_go();
        self.connection.end()
    }

    /// Waits until it is time for a look; `false` = for the end. Keeps the read mark meanwhile.
    fn sleep(&mut self, rest: Rest, called: &Receiver<()>, stopped: &Receiver<Infallible>) -> bool {
        let over = match rest {
            Rest::UntilCalled => never(),
            Rest::AtMost(time) => after(time),
        };
        loop {
            let mark = self.mark.as_ref();
            let tick = mark.and_then(ReadMark::next_tick).map_or_else(never, after);
            let woken = mark.map_or_else(never, |mark| mark.woken().clone());
            select! {
                recv(stopped) -> _ => return false,
                recv(called) -> _ => return true,
                recv(over) -> _ => return true,
                recv(woken) -> _ => self.mark.iter_mut().for_each(ReadMark::wake),
                recv(tick) -> _ => {
                    // `on_connect` is the caller's.
                    let ticked = caught(|| self.tick());
                    if !ticked.is_ok_and(|kept| kept) {
                        // Who reads is told what is wrong.
                        self.connection.close();
                        self.mark.iter_mut().for_each(ReadMark::stay_away);
                    }
                }
            }
        }
    }

    /// Takes the read mark while readers are busy, and else gives it back; `false` = it failed.
    fn tick(&mut self) -> bool {
        let wanted = self.mark.as_mut().is_some_and(ReadMark::is_wanted);
        if !wanted || self.recipe.damage.get().is_some() || self.wal.has_ended() {
            self.let_go();
            return true;
        }
        if self.connection.get().is_err() {
            return false;
        }
        if self.first_commit.is_some_and(|at| at <= Instant::now()) {
            self.commit_first();
        }
        let Ok(connection) = self.connection.get() else { return false };
        self.mark.as_mut().is_some_and(|mark| mark.tick(connection).is_ok())
    }

    /// See the head of this file. With the connection open: to open it may take long.
    fn commit_first(&mut self) {
        self.first_commit = None;
        let Some(writer) = self.writer.upgrade() else { return };
        if !self.is_wal_new() {
            return;
        }
        let made = match writer.try_turn(Location::caller()) {
            // Who had it before may have committed.
            Some(_turn) if self.is_wal_new() => {
                self.let_go();
                self.connection.commit_nothing()
            }
            Some(_turn) => Ok(()),
            None => Err(Failed::Busy),
        };
        if let Err(Failed::Busy) = made {
            // Who writes may also commit nothing.
            self.first_commit = Some(Instant::now() + AFTER_FAILURE);
        }
    }

    /// Whether nothing was committed to the WAL, as far as is known: what is in it may have been rolled
    /// back, after which reads are as dear as before.
    fn is_wal_new(&self) -> bool {
        self.wal.commits() == 0 && self.recipe.wal_bytes() == 0
    }

    /// Gives the read mark back.
    fn let_go(&mut self) {
        let Some(mark) = &mut self.mark else { return };
        if mark.let_go(self.connection.if_open()).is_err() {
            self.connection.close();
        }
    }

    /// Does what is to be done now, and says when to look again.
    fn look(&mut self) -> Rest {
        if self.recipe.damage.get().is_some() {
            self.wal.let_grow();
            return Rest::UntilCalled;
        }
        if self.wal.is_due() {
            self.wal.begin_work();
            return self.make_room();
        }
        if self.wal.take_committed() {
            self.wal.watch();
            return Rest::AtMost(IDLE);
        }
        // First, so that a commit during the checkpoint calls.
        self.wal.rest();
        let is_complete = self.wal.left() == 0
            || self.connection.checkpoint(CheckpointMode::Passive).is_ok_and(Found::is_complete);
        if is_complete && self.cut_back() {
            Rest::UntilCalled
        } else {
            // A reader is in the way, or somebody else checkpoints.
            Rest::AtMost(IDLE)
        }
    }

    /// Makes a WAL that has outgrown its limit as small as can be; `false` = somebody is in the way.
    ///
    /// Nobody writes now. To leave it to the commit that starts the WAL over (`PRAGMA
    /// journal_size_limit`) would make that one wait, a millisecond for each megabyte.
    fn cut_back(&mut self) -> bool {
        if self.recipe.wal_bytes() <= u64::from(self.recipe.config.wal_limit_mib) << 20 {
            return true;
        }
        // Or it could meet the lock of this who begins to write.
        let Some(writer) = self.writer.upgrade() else { return true };
        let Ok(_turn) = writer.take_turn(TURN, || false, Location::caller()) else { return false };
        self.connection.truncate().unwrap_or(false)
    }

    /// Both steps.
    fn make_room(&mut self) -> Rest {
        match self.copy_beside_others() {
            Ok(true) if self.wal.is_to_start_over() => self.start_over(),
            // There is time yet, in which more of the same pages will be written.
            made => self.go_on(made),
        }
    }

    /// The first step, until little is left, or what is left does not become less; `false` = readers are
    /// in the way, and will be.
    fn copy_beside_others(&mut self) -> Result<bool, Failed> {
        let mut left = u32::MAX;
        for round in 1.. {
            let before = self.wal.backfilled();
            let found = self.connection.checkpoint(CheckpointMode::Passive)?;
            let held_back = found.frames.saturating_sub(found.backfilled);
            if held_back > LITTLE && found.backfilled <= before.frames {
                // Short reads that overlap look the same as a long one, until it is tried.
                let is_to_be_tried = self.wal.is_large() && self.patience.is_fresh();
                return Ok(is_to_be_tried || self.may_hold_a_commit_up());
            }
            if self.wal.has_ended() {
                return Ok(false);
            }
            self.connection.sync()?;
            let more = self.wal.left();
            if more <= LITTLE || round >= ROUNDS && more > left / 2 {
                break;
            }
            left = more;
        }
        Ok(true)
    }

    /// The second step, beside a commit that waits or with the writer's turn.
    fn start_over(&mut self) -> Rest {
        if self.of_commits().is_some() {
            self.wal.begin_to_start_over();
        } else {
            self.wal.let_grow();
        }
        if self.may_hold_a_commit_up() {
            self.start_over_beside_a_commit()
        } else {
            self.start_over_in_turn()
        }
    }

    /// The second step, with the writer's turn.
    fn start_over_in_turn(&mut self) -> Rest {
        let Some(writer) = self.writer.upgrade() else {
            self.wal.let_grow();
            return Rest::UntilCalled;
        };
        let latest = Cell::new((self.wal.commits(), Instant::now()));
        let nobody_writes = || {
            let (commits, since) = latest.get();
            if commits != self.wal.commits() {
                latest.set((self.wal.commits(), Instant::now()));
            }
            commits == self.wal.commits() && since.elapsed() >= UNUSED_TURN
        };
        let goes_on = || self.goes_on_waiting() && !nobody_writes();
        let Ok(_turn) = writer.take_turn(TURN, goes_on, Location::caller()) else {
            if self.may_hold_a_commit_up() {
                return self.start_over_beside_a_commit();
            }
            if nobody_writes() {
                // The next commit calls.
                self.wal.watch();
                return Rest::AtMost(IDLE);
            }
            return self.go_on(Err(Failed::Busy));
        };
        if self.recipe.damage.get().is_some() {
            self.wal.let_grow();
            return Rest::UntilCalled;
        }
        let limit = if self.wal.is_large() { LINGER } else { Duration::ZERO };
        let made = self.wait_for_readers(limit, false);
        if let Ok(false) = made {
            self.wal.start_over_later();
        }
        // Before the turn is given to somebody who would commit as if nothing was.
        self.go_on(made)
    }

    /// Whether the turn is waited for although it did not come yet.
    fn goes_on_waiting(&self) -> bool {
        let is_stopped = self.wal.has_ended() || self.recipe.damage.get().is_some();
        !(is_stopped || self.may_hold_a_commit_up() || self.wal.is_left_behind())
    }

    /// The second step, while a commit waits for it: nobody else writes then.
    fn start_over_beside_a_commit(&mut self) -> Rest {
        let snapshot = self.recipe.views.oldest();
        let is_old = snapshot.is_some_and(|snapshot| snapshot.held >= SHORT_READ);
        let limit = self.of_commits().filter(|_| !is_old).unwrap_or(LINGER);
        let began = Instant::now();
        let made = self.wait_for_readers(limit, true);
        if let Ok(false) = made {
            let backfilled = self.wal.backfilled();
            self.patience.in_vain(backfilled, began.elapsed(), Instant::now());
        }
        self.go_on(made)
    }

    fn may_hold_a_commit_up(&self) -> bool {
        self.wal.commit_waits() && self.of_commits().is_some()
    }

    /// How long a commit may wait for readers.
    fn of_commits(&self) -> Option<Duration> {
        self.patience.of_commits(self.wal.backfilled(), Instant::now())
    }

    /// What follows from how it went: whether commits wait and call, and when to look again.
    fn go_on(&mut self, made: Result<bool, Failed>) -> Rest {
        if let Ok(true) = made {
            self.patience = Patience::new();
            self.said = false;
            self.wal.watch();
            return Rest::AtMost(IDLE);
        }
        match made {
            Err(Failed::Error) => {
                self.wal.let_grow();
                return Rest::AtMost(AFTER_FAILURE);
            }
            Ok(_) => self.say_who_is_in_the_way(),
            Err(Failed::Busy) => {}
        }
        if self.of_commits().is_some() {
            self.wal.pause();
        } else {
            self.wal.let_grow();
        }
        Rest::AtMost(self.patience.pause())
    }

    /// Brings the last into the database, and sees whether anybody still reads from the WAL; for so long
    /// at most. To be called when nobody writes, be it as long as a commit waits.
    fn wait_for_readers(&mut self, limit: Duration, commit: bool) -> Result<bool, Failed> {
        let (mut began, mut pause) = (None, FIRST_LOOK);
        loop {
            let found = self.connection.checkpoint(CheckpointMode::InTurn)?;
            let began = *began.get_or_insert_with(Instant::now);
            if commit && !self.wal.commit_waits() || self.wal.has_ended() {
                return Ok(false);
            }
            if found.is_complete() && self.connection.has_no_readers()? {
                let last = mem::replace(&mut self.started_over, Instant::now());
                self.wal.will_start_over(last.elapsed());
                return Ok(true);
            }
            if began.elapsed() >= limit {
                return Ok(false);
            }
            thread::sleep(pause);
            pause = (pause * 2).min(LAST_LOOK);
        }
    }

    /// If it has made the WAL too large that readers are in the way, the log says which.
    fn say_who_is_in_the_way(&mut self) {
        let since = self.patience.held_up_since();
        if self.wal.is_over_the_limit() && !self.said {
            self.said = true;
            let limit = self.recipe.config.wal_limit_mib;
            self.recipe.log.wal_held(
                self.in_the_way(since.elapsed()).as_ref(),
                self.recipe.wal_bytes(),
                limit,
            );
        }
    }

    /// The oldest snapshot, or else who has held a reading connection longest; of those that are as old
    /// as that.
    fn in_the_way(&self, age: Duration) -> Option<Holder> {
        let snapshot = self.recipe.views.oldest();
        let reader = || self.readers.upgrade()?.status().held.into_iter().next();
        let before = |holder: &Holder| holder.held >= age;
        snapshot.filter(before).or_else(|| reader().filter(before))
    }
}
