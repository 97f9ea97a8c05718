//! Many callers share one COMMIT, and each of them is as well off as with one of its own.

mod hooks;
mod leftovers;
mod sharing;
mod stress;
mod undone;
mod waiting;

use std::any::Any;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tenure::{Builder, CheckoutErrorKind, CommitError, Error, Pool, Savepoint, rusqlite};

use crate::recorded::Recorded;
use crate::until::{LONG, until};

type Outcome<T> = thread::Result<Result<T, Error>>;

/// Batches that only their number of closures can end.
fn builder() -> Builder {
    Pool::builder()
        .readers(2)
        .checkout_timeout(LONG)
        .group_commit_max_time(LONG)
        .setup(|connection| Ok(connection.execute_batch("CREATE TABLE task (title UNIQUE)")?))
}

fn pool() -> Recorded {
    Recorded::with(builder())
}

fn insert(session: &tenure::Session, title: &str) -> rusqlite::Result<usize> {
    session.execute("INSERT INTO task VALUES (?1)", [title])
}

/// A closure that writes one row.
fn writes(
    title: &'static str,
) -> impl FnOnce(&mut Savepoint<'_>) -> Result<&'static str, Error> + Send + 'static {
    move |tx| {
        insert(tx, title)?;
        Ok(title)
    }
}

fn titles(pool: &Pool) -> String {
    let sql = "SELECT coalesce(group_concat(title, ' '), '') FROM (SELECT title FROM task ORDER BY rowid)";
    pool.read().unwrap().query_one(sql, [], |row| row.get(0)).unwrap()
}

/// A caller in a thread of its own; it has been let in when this returns.
fn caller<T: Send + 'static>(
    pool: &Pool,
    work: impl FnOnce(&mut Savepoint<'_>) -> Result<T, Error> + Send + 'static,
) -> JoinHandle<Result<T, Error>> {
    let before = pool.status().group_commit.callers;
    let own = pool.clone();
    let caller = thread::spawn(move || own.group_commit(work));
    until("the caller is in", || {
        pool.status().group_commit.callers == before + 1 || caller.is_finished()
    });
    caller
}

/// Callers that have come while a plain writer had the writer, so that they share one batch.
struct Gathered<'p> {
    writer: tenure::WriteGuard<'p>,
    pool: &'p Pool,
}

impl<'p> Gathered<'p> {
    fn on(pool: &'p Pool) -> Self {
        Self { writer: pool.write().unwrap(), pool }
    }

    fn caller<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Savepoint<'_>) -> Result<T, Error> + Send + 'static,
    ) -> JoinHandle<Result<T, Error>> {
        caller(self.pool, work)
    }

    fn go(self) {
        drop(self.writer);
    }
}

fn panics_with<T>(outcome: Outcome<T>) -> String {
    let panic = outcome.err().expect("it panics");
    (*panic.downcast_ref::<&str>().expect("the panic is its own")).to_owned()
}

fn checkout_refusal<T>(result: Result<T, Error>) -> CheckoutErrorKind {
    match result.err().expect("it is refused") {
        Error::Checkout(error) => error.kind(),
        other => panic!("{other}"),
    }
}

fn is_aborted<T>(result: &Result<T, Error>) -> bool {
    matches!(result, Err(Error::Commit(error @ CommitError::AbortedWithBatch { .. })) if error.is_undone())
}

/// How many batches there were, and how many closures in all of them.
fn batches(pool: &Recorded) -> (f64, f64) {
    let value = |what| pool.value(&format!("tenure_group_commit_size_{what}"), &[]);
    (value("count"), value("sum"))
}

/// So many closures ended like that.
fn ended(pool: &Recorded, outcome: &str) -> f64 {
    pool.value("tenure_group_commits_total", &[("outcome", outcome)])
}

fn panic(what: &'static str) -> ! {
    std::panic::resume_unwind(Box::new(what) as Box<dyn Any + Send>)
}

/// A closure that waits in the middle until it is told to go on.
struct Paused {
    goes_on: mpsc::Sender<()>,
    caller: JoinHandle<Result<&'static str, Error>>,
}

impl Paused {
    /// It is running when this returns.
    fn begin(pool: &Pool, title: &'static str) -> Self {
        let ((running, runs), (goes_on, told)) = (mpsc::channel(), mpsc::channel());
        let caller = caller(pool, move |tx| {
            insert(tx, title)?;
            running.send(()).unwrap();
            told.recv_timeout(LONG).unwrap();
            Ok(title)
        });
        runs.recv_timeout(LONG).unwrap();
        Self { goes_on, caller }
    }

    fn end(self) -> Result<&'static str, Error> {
        self.goes_on.send(()).unwrap();
        self.caller.join().unwrap()
    }
}

const SHORT: Duration = Duration::from_millis(50);
