//! In a child that was forked from the process that opened a pool, nothing of that pool does anything,
//! and the parent does not notice.
//!
//! The tests run one at a time, so that no thread of another test holds a lock of the C library's, of
//! the test harness's or of a crate's at the moment of a fork: only threads that the test has started
//! do, and the child must get by without what they hold.

#![cfg(unix)]
#![allow(unsafe_code)]

use std::io::{PipeReader, PipeWriter, Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use metrics_exporter_prometheus::PrometheusBuilder;
use tenure::{
    Access, BeginError, CheckoutError, CheckoutErrorKind, CloseError, CommitError, Error, Pool,
    ResizeError, testing,
};

/// A child that has not ended by then is killed, which fails its test.
const LIMIT_SECONDS: u32 = 30;

fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The parent's view of its child.
struct Child {
    process: libc::pid_t,
    report: PipeReader,
}

/// The child's view of itself. Dropping it ends the child, so that neither a panic nor a return can
/// let it go on with its parent's work.
struct InChild {
    report: PipeWriter,
    checks: usize,
}

/// Forks. `Err` is seen in the child.
fn fork() -> Result<Child, InChild> {
    let (report, writer) = std::io::pipe().unwrap();
    // SAFETY: the child runs only what is below and what its test does there, all of which is meant
    // not to take a lock of another thread: that is under test. It is killed if it hangs.
    match unsafe { libc::fork() } {
        -1 => panic!("cannot fork: {}", std::io::Error::last_os_error()),
        0 => {
            // SAFETY: sets a timer.
            unsafe { libc::alarm(LIMIT_SECONDS) };
            drop(report);
            Err(InChild { report: writer, checks: 0 })
        }
        process => Ok(Child { process, report }),
    }
}

impl Child {
    /// Waits for its end and for what it has found wrong.
    fn join(mut self) {
        let mut said = String::new();
        self.report.read_to_string(&mut said).unwrap();
        let mut status = 0;
        // SAFETY: `status` is valid for the call; the process is a child that nobody has waited for.
        let ended = unsafe { libc::waitpid(self.process, &raw mut status, 0) };
        assert_eq!(ended, self.process);
        assert!(libc::WIFEXITED(status), "the child was killed ({status:#x}), having said: {said}");
        assert!(said.starts_with("done") && !said.contains("wrong"), "the child said: {said}");
    }
}

impl InChild {
    /// In place of an assertion: a panic would ask for locks of the standard library.
    fn check(&mut self, what: &str, holds: bool) {
        self.checks += 1;
        if !holds {
            let _ = writeln!(self.report, "wrong: {what}");
        }
    }

    fn refused<T>(&mut self, what: &str, result: Result<T, CheckoutError>) {
        let forked = match &result {
            Err(error) => {
                error.kind() == CheckoutErrorKind::Forked && error.to_string().contains("forked")
            }
            Ok(_) => false,
        };
        self.check(what, forked);
    }

    fn done(mut self) -> ! {
        let checks = self.checks;
        let _ = write!(self.report, "done {checks}");
        drop(self);
        unreachable!("the child has ended")
    }
}

impl Drop for InChild {
    fn drop(&mut self) {
        // SAFETY: ends the process at once, without the destructors of its parent's values.
        unsafe { libc::_exit(0) }
    }
}

fn integrity(pool: &Pool) -> String {
    pool.read().unwrap().query_one("PRAGMA integrity_check", [], |row| row.get(0)).unwrap()
}

fn rows(pool: &Pool) -> i64 {
    pool.read().unwrap().query_one("SELECT count(*) FROM task", [], |row| row.get(0)).unwrap()
}

fn companion(database: &Path, suffix: &str) -> bool {
    let mut name = database.as_os_str().to_owned();
    name.push(suffix);
    Path::new(&name).exists()
}

/// Threads that read and write until they are told to stop.
struct Workers {
    stop: Arc<AtomicBool>,
    written: Arc<AtomicI64>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Workers {
    fn start(pool: &Pool) -> Self {
        let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicI64::new(0)));
        let threads = (0..6).map(|number| {
            let (pool, stop, written) = (pool.clone(), Arc::clone(&stop), Arc::clone(&written));
            thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    if number % 2 == 0 {
                        rows(&pool);
                        pool.status();
                        pool.publish_metrics();
                    } else {
                        match number {
                            1 => pool.transaction(|tx| Ok(tx.execute(INSERT, [])?)).unwrap(),
                            _ => pool.group_commit(|tx| Ok(tx.execute(INSERT, [])?)).unwrap(),
                        };
                        written.fetch_add(1, Ordering::Relaxed);
                    }
                }
            })
        });
        let threads = threads.collect();
        Self { stop, written, threads }
    }

    fn stop(self) -> i64 {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().unwrap();
        }
        self.written.load(Ordering::Relaxed)
    }
}

/// What is no database.
struct Numbers;

impl r2d2::ManageConnection for Numbers {
    type Connection = u32;
    type Error = std::io::Error;

    fn connect(&self) -> std::io::Result<u32> {
        Ok(7)
    }

    fn is_valid(&self, _: &mut u32) -> std::io::Result<()> {
        Ok(())
    }

    fn has_broken(&self, _: &mut u32) -> bool {
        false
    }
}

#[test]
fn a_child_can_do_nothing_with_its_parents_pool_and_harms_nothing() {
    let _alone = alone();
    let recorder = PrometheusBuilder::new().build_recorder();
    let metrics = recorder.handle();
    let builder = Pool::builder().readers(6).setup(|connection| {
        connection.execute_batch("CREATE TABLE task (n)")?;
        Ok(())
    });
    let pool =
        metrics::with_local_recorder(&recorder, || testing::temporary_with(builder)).unwrap();
    let database = pool.config().database.clone().unwrap();

    let busy_readers: Vec<_> = (0..2)
        .map(|_| {
            let (pool, (stop, stopped)) = (pool.clone(), mpsc::channel::<()>());
            let thread = thread::spawn(move || {
                while stopped.try_recv() == Err(mpsc::TryRecvError::Empty) {
                    rows(&pool);
                }
            });
            (stop, thread)
        })
        .collect();
    let mut reader = pool.read_owned().unwrap();
    let detached = pool.read_owned().unwrap().detach();
    let builder = tenure::checkout::Builder::default().name("numbers").limit(1);
    let numbers = metrics::with_local_recorder(&recorder, || builder.build(Numbers)).unwrap();
    let number = numbers.get_owned().unwrap();
    // Checking this one in would end the transaction, and count that.
    let left_open = pool.read_owned().unwrap();
    left_open.rusqlite().execute_batch("BEGIN; SELECT 1 FROM task").unwrap();
    let left_open = left_open.detach();
    let mut viewer = pool.read_owned().unwrap();
    let snapshot = viewer.snapshot().unwrap();
    let mut writer = pool.write_owned().unwrap();
    let interrupt = writer.interrupt_handle();
    let mut tx = writer.transaction().unwrap();
    tx.execute("INSERT INTO task VALUES (1)", []).unwrap();
    let waiting = pool.clone();
    let waiter = thread::spawn(move || {
        waiting.transaction(|tx| Ok(tx.execute("INSERT INTO task VALUES (2)", [])?))
    });
    while pool.status().write.unwrap().waiting.is_empty() {
        thread::yield_now();
    }

    let child = match fork() {
        Ok(child) => child,
        Err(mut child) => {
            let short = Duration::from_secs(1);
            child.refused("read", pool.read().map(drop));
            child.refused("try_read", pool.try_read().map(drop));
            child.refused("read_timeout", pool.read_timeout(short).map(drop));
            child.refused("read_owned", pool.read_owned().map(drop));
            child.refused("write", pool.write().map(drop));
            child.refused("try_write", pool.try_write().map(drop));
            child.refused("write_timeout", pool.write_timeout(short).map(drop));
            child.refused("write_owned", pool.write_owned().map(drop));
            let is_forked = |result: Result<(), Error>| matches!(result, Err(Error::Checkout(error)) if error.kind() == CheckoutErrorKind::Forked);
            child.check("transaction", is_forked(pool.transaction(|_| Ok(()))));
            child.check("group_commit", is_forked(pool.group_commit(|_| Ok(()))));
            child.check("retry", is_forked(pool.transaction_with_retry(|_| Ok(()))));
            child.check("snapshot", is_forked(pool.snapshot(|_| Ok(()))));

            let status = pool.status();
            child.check("it is said", status.state == tenure::status::PoolState::Forked);
            child.check("nobody holds or waits", {
                let write = status.write.unwrap();
                let lists = [&status.read.held, &write.held];
                lists.iter().all(|list| list.is_empty()) && write.waiting.is_empty()
            });
            pool.publish_metrics();
            child.check("close", matches!(pool.close(short), Err(CloseError::Forked)));
            child.check("resize", matches!(pool.resize(2), Err(ResizeError::Forked)));

            child.refused("get", numbers.get().map(drop));
            child.check("close of any", matches!(numbers.close(short), Err(CloseError::Forked)));
            let rendered = metrics.render();
            let of_numbers = |line: &&str| line.starts_with("tenure_forked_total{pool=\"numbers\"");
            let counted = rendered.lines().find(of_numbers);
            child.check(&format!("{counted:?}"), counted.is_some_and(|line| line.ends_with(" 2")));
            number.set_label("of the child");
            reader.set_label("of the child");

            let refused = |result: tenure::rusqlite::Result<i64>| {
                result.is_err_and(|error| error.to_string().contains("forked"))
            };
            let one = "SELECT 1";
            child.check("query", refused(reader.query_one(one, [], |row| row.get(0))));
            child.check("view", refused(snapshot.query_one(one, [], |row| row.get(0))));
            child.check("execute", refused(tx.execute("DELETE FROM task", []).map(|_| 0)));
            child.check("savepoint", tx.savepoint().is_err());
            child.check("begin", matches!(reader.snapshot(), Err(BeginError::Forked)));
            child.check("interrupt", !interrupt.interrupt());
            let attached = detached.attach();
            child.check("attached", refused(attached.query_one(one, [], |row| row.get(0))));
            let detached_again = attached.detach();
            child.check("commit", matches!(tx.commit(), Err(CommitError::Forked)));
            let rendered = metrics.render();
            let of_the_pool = |line: &&str| {
                line.starts_with("tenure_forked_total{") && !line.contains("\"numbers\"")
            };
            let counted = rendered.lines().find(of_the_pool);
            let count = counted.and_then(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
            child.check(&format!("counted: {counted:?}"), count.is_some_and(|count| count >= 18));

            drop(snapshot);
            drop((numbers, number));
            drop((detached_again, reader, viewer, writer, interrupt));
            drop(left_open);
            let counted = |line: &&str| {
                (line.starts_with("tenure_checkin_repairs_total{")
                    || line.starts_with("tenure_connections_closed_total{"))
                    && !line.ends_with(" 0")
            };
            let rendered = metrics.render();
            let checked_in = rendered.lines().find(counted);
            child.check(&format!("nothing is checked in: {checked_in:?}"), checked_in.is_none());
            let other = pool.clone();
            drop(pool);
            drop(other);
            child.check("the directory is there", database.exists());
            child.done()
        }
    };
    child.join();

    // The parent: the transaction is still open, and everything goes on.
    tx.execute("INSERT INTO task VALUES (1)", []).unwrap();
    tx.commit().unwrap();
    drop(writer);
    waiter.join().unwrap().unwrap();
    let in_view: i64 =
        snapshot.query_one("SELECT count(*) FROM task", [], |row| row.get(0)).unwrap();
    assert_eq!(in_view, 0);
    drop(snapshot);
    reader.query_one("SELECT 1", [], |row| row.get::<_, i64>(0)).unwrap();
    detached.attach().query_one("SELECT 1", [], |row| row.get::<_, i64>(0)).unwrap();
    for (stop, thread) in busy_readers {
        drop(stop);
        thread.join().unwrap();
    }
    assert_eq!((rows(&pool), integrity(&pool)), (3, "ok".to_owned()));
    assert!(companion(&database, "-wal"), "the WAL is still the parent's");
    let counted = metrics.render();
    assert!(
        counted
            .lines()
            .any(|line| { line.starts_with("tenure_forked_total{") && line.ends_with(" 0") })
    );
    drop((left_open, reader, viewer, pool));
    assert!(!database.exists(), "the parent still deletes its directory");
}

#[test]
fn a_hundred_forks_while_threads_work() {
    let _alone = alone();
    let builder = Pool::builder().readers(2).setup(|connection| {
        connection.execute_batch("CREATE TABLE task (n)")?;
        Ok(())
    });
    let pool = testing::temporary_with(builder).unwrap();
    let database = pool.config().database.clone().unwrap();
    let workers = Workers::start(&pool);
    for _ in 0..100 {
        let guard = pool.read_owned().unwrap();
        let child = match fork() {
            Ok(child) => child,
            Err(mut child) => {
                child.refused("read", pool.read().map(drop));
                child.refused("write", pool.write().map(drop));
                child.check("group_commit", pool.group_commit(|_| Ok(())).is_err());
                pool.status();
                pool.publish_metrics();
                drop(guard);
                drop(pool);
                child.check("the directory is there", database.exists());
                child.done()
            }
        };
        child.join();
        drop(guard);
        assert!(database.exists());
    }
    let written = workers.stop();
    assert!(written > 0);
    assert_eq!((rows(&pool), integrity(&pool)), (written, "ok".to_owned()));
}

#[test]
fn a_child_can_have_a_pool_of_its_own() {
    let _alone = alone();
    let builder = Pool::builder().name("own").readers(1).setup(|connection| {
        connection.execute_batch("CREATE TABLE task (n)")?;
        Ok(())
    });
    let pool = testing::temporary_with(builder).unwrap();
    let database = pool.config().database.clone().unwrap();
    // So that the parent's clock runs at the moment of the fork.
    rows(&pool);
    rows(&pool);
    let child = match fork() {
        Ok(child) => child,
        Err(mut child) => {
            thread::sleep(Duration::from_millis(300));
            // Its parent's names are not in its way.
            let own = match Pool::builder().name("own").database(&database).readers(1).open() {
                Ok(own) => own,
                Err(error) => {
                    child.check(&error.to_string(), false);
                    child.done()
                }
            };
            let written = own.transaction(|tx| Ok(tx.execute("INSERT INTO task VALUES (3)", [])?));
            child.check("written", written.is_ok());
            // The second hold is not timed, so its start is told by the coarse clock.
            drop(own.read());
            let began = Instant::now();
            let guard = own.read();
            let held = own.status().read.held.first().map(|holder| holder.held);
            let limit = began.elapsed() + Duration::from_millis(250);
            child.check(&format!("held for {held:?}"), held.is_some_and(|held| held < limit));
            // A child of the child cannot use it either.
            match fork() {
                Ok(grandchild) => grandchild.join(),
                Err(mut grandchild) => {
                    grandchild.refused("the child's", own.read().map(drop));
                    grandchild.refused("the parent's", pool.read().map(drop));
                    grandchild.done()
                }
            }
            drop(guard);
            drop(own);
            child.refused("the parent's", pool.read().map(drop));
            // Nobody else in this process has it: were anything of it dropped, its directory were too.
            drop(pool);
            child.check("the directory is there", database.exists());
            child.done()
        }
    };
    child.join();
    assert_eq!((rows(&pool), integrity(&pool)), (1, "ok".to_owned()));
    pool.transaction(|tx| Ok(tx.execute("INSERT INTO task VALUES (4)", [])?)).unwrap();
    assert_eq!(rows(&pool), 2);
}

#[test]
fn a_child_removes_nothing_beside_a_read_only_database() {
    let _alone = alone();
    let directory = tempfile::tempdir().unwrap();
    let database = directory.path().join("app.db");
    drop(Pool::open(&database).unwrap());
    assert!(!companion(&database, "-shm"));
    let pool =
        Pool::builder().database(&database).access(Access::ReadOnly).readers(2).open().unwrap();
    let guard = pool.read_owned().unwrap();
    guard.query_one("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0)).unwrap();
    assert!(companion(&database, "-shm"));
    let child = match fork() {
        Ok(child) => child,
        Err(mut child) => {
            child.refused("read", pool.read().map(drop));
            child.refused("write", pool.write().map(drop));
            drop(guard);
            drop(pool);
            child.check("the files are there", companion(&database, "-shm"));
            child.done()
        }
    };
    child.join();
    assert!(companion(&database, "-shm"));
    guard.query_one("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0)).unwrap();
    drop((guard, pool));
    assert!(!companion(&database, "-shm"), "the parent still leaves no trace");
}

/// Belongs to a caller of the parent's; how many were dropped in this process.
struct Belonging;

static DROPPED: AtomicI64 = AtomicI64::new(0);

impl Drop for Belonging {
    fn drop(&mut self) {
        DROPPED.fetch_add(1, Ordering::Relaxed);
    }
}

const INSERT: &str = "INSERT INTO task VALUES (1)";

/// A pool whose batches only their callers end, and nothing dropped so far.
fn group_pool() -> Pool {
    DROPPED.store(0, Ordering::Relaxed);
    let builder = Pool::builder().readers(1).group_commit_max_time(Duration::from_secs(60));
    let create = builder.setup(|connection| Ok(connection.execute_batch("CREATE TABLE task (n)")?));
    testing::temporary_with(create).unwrap()
}

fn until_inside(pool: &Pool, callers: usize) {
    while pool.status().group_commit.callers < callers {
        thread::yield_now();
    }
}

/// A caller whose closure owns what a child must not drop.
fn caller_with_belonging(pool: &Pool) -> thread::JoinHandle<Result<usize, Error>> {
    let own = pool.clone();
    thread::spawn(move || {
        let belonging = Belonging;
        own.group_commit(move |tx| {
            let _belonging = &belonging;
            Ok(tx.execute(INSERT, [])?)
        })
    })
}

#[test]
fn a_closure_of_a_group_that_forks_leaves_the_group_to_its_parent() {
    let _alone = alone();
    let pool = group_pool();
    let inside = |callers| until_inside(&pool, callers);
    let writer = pool.write().unwrap();
    // In the child it is this thread that goes on: it leads, and has the work of the others in hand.
    let (to_child, in_child) = mpsc::channel::<InChild>();
    let leading = pool.clone();
    let leader = thread::spawn(move || {
        let result = leading.group_commit(move |tx| Ok(tx.execute(INSERT, [])?));
        if let Ok(mut child) = in_child.try_recv() {
            child.check("result", matches!(result, Err(Error::Commit(CommitError::Forked))));
            child.check("again", leading.group_commit(|_| Ok(())).is_err());
            child.check("nobody", leading.status().group_commit.callers == 0);
            child.check("nothing is dropped", DROPPED.load(Ordering::Relaxed) == 0);
            child.done()
        }
        result.unwrap();
    });
    inside(1);
    let own = pool.clone();
    let before = thread::spawn(move || {
        let result = own.group_commit(move |tx| Ok((tx.execute(INSERT, [])?, Belonging)));
        drop(result.unwrap());
    });
    inside(2);
    let (give, take) = mpsc::channel();
    let own = pool.clone();
    let forking = thread::spawn(move || {
        own.group_commit(move |_| {
            match fork() {
                Ok(child) => give.send(child).unwrap(),
                Err(child) => to_child.send(child).unwrap(),
            }
            Ok(())
        })
    });
    inside(3);
    let after = caller_with_belonging(&pool);
    inside(4);
    drop(writer);
    take.recv().unwrap().join();
    leader.join().unwrap();
    before.join().unwrap();
    forking.join().unwrap().unwrap();
    after.join().unwrap().unwrap();
    assert_eq!(DROPPED.load(Ordering::Relaxed), 2);
    assert_eq!((rows(&pool), integrity(&pool)), (3, "ok".to_owned()));
}

#[test]
fn the_first_closure_of_a_group_that_forks_leaves_the_group_to_its_parent() {
    let _alone = alone();
    let pool = group_pool();
    let inside = |callers| until_inside(&pool, callers);
    let writer = pool.write().unwrap();
    let (to_child, in_child) = mpsc::channel::<InChild>();
    let (give, take) = mpsc::channel();
    let leading = pool.clone();
    let leader = thread::spawn(move || {
        let result = leading.group_commit(move |_| {
            match fork() {
                Ok(child) => give.send(child).unwrap(),
                Err(child) => to_child.send(child).unwrap(),
            }
            Ok(())
        });
        if let Ok(mut child) = in_child.try_recv() {
            child.check("result", matches!(result, Err(Error::Commit(CommitError::Forked))));
            child.check("nothing is dropped", DROPPED.load(Ordering::Relaxed) == 0);
            child.done()
        }
        result.unwrap();
    });
    inside(1);
    let after = caller_with_belonging(&pool);
    inside(2);
    drop(writer);
    take.recv().unwrap().join();
    leader.join().unwrap();
    after.join().unwrap().unwrap();
    assert_eq!(DROPPED.load(Ordering::Relaxed), 1);
    assert_eq!((rows(&pool), integrity(&pool)), (1, "ok".to_owned()));
}
