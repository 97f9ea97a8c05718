//! The task board: every SQL statement of the server, and what each means for a task.
//!
//! Whatever changes a task is one IMMEDIATE transaction, mostly of [`Pool::transaction`]: the decision
//! and the write see the same state, and nothing comes between. What belongs together in an answer is
//! read in one [`Pool::snapshot`]. Events are counted in hooks that run after COMMIT, so that a
//! counter never shows what was rolled back.

use std::time::{SystemTime, UNIX_EPOCH};

use rusqlite_migration::{M, Migrations};
use serde::Serialize;
use tenure::rusqlite::{ErrorCode, OptionalExtension};
use tenure::{Error, OpenError, Pool, PoolConfig, ReadSession};

use super::metrics::{Event, count};
use super::task::{Claim, Completion, NewTask, State, Task};

/// Rules that SQLite itself keeps, whoever writes to the file.
const SCHEMA: &str = "
    CREATE TABLE tasks (
        id INTEGER PRIMARY KEY,
        title TEXT NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('open', 'claimed', 'done')),
        claimed_by TEXT CHECK ((claimed_by IS NULL) = (state = 'open')),
        claim_expires_at INTEGER CHECK ((claim_expires_at IS NULL) = (state <> 'claimed')),
        created_at INTEGER NOT NULL,
        completed_at INTEGER CHECK ((completed_at IS NULL) = (state <> 'done')),
        result TEXT CHECK (result IS NULL OR state = 'done')
    ) STRICT;
    CREATE INDEX tasks_by_state ON tasks (state);
    CREATE INDEX claims_by_expiry ON tasks (claim_expires_at) WHERE state = 'claimed';

    CREATE TABLE dependencies (
        task_id INTEGER NOT NULL REFERENCES tasks (id),
        depends_on_id INTEGER NOT NULL REFERENCES tasks (id),
        PRIMARY KEY (task_id, depends_on_id)
    ) STRICT, WITHOUT ROWID;";

/// Whether something that the task `tasks.id` depends on is not done yet.
const BLOCKED: &str = "EXISTS (
    SELECT 1 FROM dependencies JOIN tasks AS needed ON needed.id = depends_on_id
    WHERE task_id = tasks.id AND needed.state <> 'done')";

/// Opens the pool, with the tables of the board in the file.
pub(crate) fn open(config: PoolConfig) -> Result<Pool, OpenError> {
    let migrations = Migrations::new(vec![M::up(SCHEMA)]);
    Pool::builder()
        .config(config)
        .setup(move |connection| Ok(migrations.to_latest(connection)?))
        .open()
}

/// Why the board does not do what it was asked; nothing was changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("there is no task {0}")]
    NoSuchTask(i64),
    #[error("there is no task {0} to depend on")]
    NoSuchDependency(i64),
    #[error("task {id} is claimed by {worker:?}")]
    Claimed { id: i64, worker: String },
    #[error("task {0} is done")]
    Done(i64),
    #[error("task {id} depends on task {on}, which is not done")]
    Blocked { id: i64, on: i64 },
    #[error("task {id} is not claimed by {worker:?}: its state is {state}")]
    NotYours { id: i64, worker: String, state: State },
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Error::other(refusal)
    }
}

pub(crate) fn create(pool: &Pool, new: &NewTask) -> Result<Task, Error> {
    pool.transaction(|tx| {
        tx.prepare_cached("INSERT INTO tasks (title, state, created_at) VALUES (?1, 'open', ?2)")?
            .execute((new.title.as_str(), now()))?;
        let id = tx.last_insert_rowid();
        for &on in &new.depends_on {
            // A task can only depend on older ones, so there are no cycles.
            if on >= id {
                return Err(Refusal::NoSuchDependency(on).into());
            }
            tx.prepare_cached("INSERT OR IGNORE INTO dependencies VALUES (?1, ?2)")?
                .execute((id, on))
                .map_err(|error| match error.sqlite_error_code() {
                    Some(ErrorCode::ConstraintViolation) => Refusal::NoSuchDependency(on).into(),
                    _ => Error::from(error),
                })?;
        }
        tx.on_commit(|| count(Event::Created, 1));
        find(tx, id)
    })
}

/// A page of tasks, and how many there are in all.
#[derive(Debug, Serialize)]
pub(crate) struct Listing {
    total: i64,
    tasks: Vec<Task>,
    /// To ask for the next page with; `None` on the last.
    next_after: Option<i64>,
}

/// Which tasks to list, in the order of their ids.
#[derive(Debug)]
pub(crate) struct Filter {
    pub(crate) state: Option<State>,
    pub(crate) after: i64,
    pub(crate) limit: usize,
}

pub(crate) fn list(pool: &Pool, filter: &Filter) -> Result<Listing, Error> {
    // Two texts, because SQLite would not use the index for `?1 IS NULL OR state = ?1`.
    let chosen = if filter.state.is_some() { "state = ?1" } else { "?1 IS NULL" };
    pool.snapshot(|view| {
        let mut counting =
            view.prepare_cached(&format!("SELECT count(*) FROM tasks WHERE {chosen}"))?;
        let total = counting.query_one([filter.state], |row| row.get(0))?;
        let mut page = view.prepare_cached(&format!(
            "SELECT {} FROM tasks WHERE {chosen} AND id > ?2 ORDER BY id LIMIT ?3",
            Task::COLUMNS
        ))?;
        let one_more = filter.limit + 1;
        let rows = page.query_map((filter.state, filter.after, one_more as i64), Task::from_row)?;
        let mut tasks = rows.collect::<Result<Vec<_>, _>>()?;
        let more = tasks.len() == one_more;
        tasks.truncate(filter.limit);
        let next_after = tasks.last().filter(|_| more).map(|task| task.id);
        Ok(Listing { total, tasks, next_after })
    })
}

/// How many tasks are in each state, and the newest ones.
#[derive(Debug)]
pub(crate) struct Overview {
    pub(crate) counts: Vec<(State, i64)>,
    pub(crate) newest: Vec<Task>,
}

pub(crate) fn overview(pool: &Pool) -> Result<Overview, Error> {
    pool.snapshot(|view| {
        let mut counting = view.prepare_cached("SELECT count(*) FROM tasks WHERE state = ?1")?;
        let counts = State::ALL
            .into_iter()
            .map(|state| Ok((state, counting.query_one([state], |row| row.get(0))?)))
            .collect::<Result<_, Error>>()?;
        let mut newest = view.prepare_cached(&format!(
            "SELECT {} FROM tasks ORDER BY id DESC LIMIT 50",
            Task::COLUMNS
        ))?;
        let newest = newest.query_map([], Task::from_row)?.collect::<Result<_, _>>()?;
        Ok(Overview { counts, newest })
    })
}

pub(crate) fn task(pool: &Pool, id: i64) -> Result<Task, Error> {
    let reader = pool.read()?;
    find(&reader, id)
}

/// Works on a reader, in a snapshot and in a transaction: each is a [`ReadSession`].
fn find(session: &ReadSession, id: i64) -> Result<Task, Error> {
    session
        .prepare_cached(&format!("SELECT {} FROM tasks WHERE id = ?1", Task::COLUMNS))?
        .query_one([id], Task::from_row)
        .optional()?
        .ok_or_else(|| Refusal::NoSuchTask(id).into())
}

/// Compare and set: claims the task if it is open and everything it depends on is done.
pub(crate) fn claim(pool: &Pool, id: i64, claim: &Claim) -> Result<Task, Error> {
    pool.transaction(|tx| {
        let changed = tx
            .prepare_cached(&format!(
                "UPDATE tasks SET state = 'claimed', claimed_by = ?2, claim_expires_at = ?3
                 WHERE id = ?1 AND state = 'open' AND NOT {BLOCKED}"
            ))?
            .execute((id, claim.worker.as_str(), expiry(claim)))?;
        if changed == 0 {
            return Err(why_not_claimable(tx, id)?.into());
        }
        tx.on_commit(|| count(Event::Claimed, 1));
        find(tx, id)
    })
}

fn why_not_claimable(session: &ReadSession, id: i64) -> Result<Refusal, Error> {
    let task = find(session, id)?;
    if task.state == State::Done {
        return Ok(Refusal::Done(id));
    }
    if let Some(worker) = task.claimed_by {
        return Ok(Refusal::Claimed { id, worker });
    }
    let on = session.query_row(
        "SELECT depends_on_id FROM dependencies JOIN tasks ON id = depends_on_id
         WHERE task_id = ?1 AND state <> 'done' ORDER BY depends_on_id",
        [id],
        |row| row.get(0),
    )?;
    Ok(Refusal::Blocked { id, on })
}

/// Claims the oldest task that can be claimed; `None` when there is none.
pub(crate) fn claim_next(pool: &Pool, claim: &Claim) -> Result<Option<Task>, Error> {
    pool.transaction(|tx| {
        let id = tx
            .prepare_cached(&format!(
                "UPDATE tasks SET state = 'claimed', claimed_by = ?1, claim_expires_at = ?2
                 WHERE id = (SELECT id FROM tasks WHERE state = 'open' AND NOT {BLOCKED}
                             ORDER BY id LIMIT 1)
                 RETURNING id"
            ))?
            .query_one((claim.worker.as_str(), expiry(claim)), |row| row.get(0))
            .optional()?;
        let Some(id) = id else { return Ok(None) };
        tx.on_commit(|| count(Event::Claimed, 1));
        find(tx, id).map(Some)
    })
}

/// Lets a claim hold for longer.
pub(crate) fn heartbeat(pool: &Pool, id: i64, claim: &Claim) -> Result<Task, Error> {
    pool.transaction(|tx| {
        let changed = tx
            .prepare_cached(
                "UPDATE tasks SET claim_expires_at = ?3
                 WHERE id = ?1 AND state = 'claimed' AND claimed_by = ?2",
            )?
            .execute((id, claim.worker.as_str(), expiry(claim)))?;
        let task = find(tx, id)?;
        if changed == 0 { Err(not_yours(task, claim.worker.as_str())) } else { Ok(task) }
    })
}

/// Refused when the claim expired and the task was taken back meanwhile: somebody else may be at it.
pub(crate) fn complete(pool: &Pool, id: i64, completion: &Completion) -> Result<Task, Error> {
    let worker = completion.worker.as_str();
    pool.transaction(|tx| {
        let changed = tx
            .prepare_cached(
                "UPDATE tasks
                 SET state = 'done', claim_expires_at = NULL, completed_at = ?3, result = ?4
                 WHERE id = ?1 AND state = 'claimed' AND claimed_by = ?2",
            )?
            .execute((id, worker, now(), completion.result.as_ref().map(|text| text.as_str())))?;
        let task = find(tx, id)?;
        if changed == 0 {
            return Err(not_yours(task, worker));
        }
        tx.on_commit(|| count(Event::Completed, 1));
        Ok(task)
    })
}

fn not_yours(task: Task, worker: &str) -> Error {
    Refusal::NotYours { id: task.id, worker: worker.to_owned(), state: task.state }.into()
}

/// Opens again what is claimed by workers who have not been heard of in time; returns how many.
pub(crate) fn reclaim(pool: &Pool) -> Result<usize, Error> {
    let mut writer = pool.write()?;
    // It goes through all claims: whoever waits for it meanwhile is to see what for.
    writer.set_label("taking back expired claims");
    let tx = writer.transaction()?;
    let reclaimed = tx
        .prepare_cached(
            "UPDATE tasks SET state = 'open', claimed_by = NULL, claim_expires_at = NULL
             WHERE state = 'claimed' AND claim_expires_at <= ?1",
        )?
        .execute([now()])?;
    tx.on_commit(move || count(Event::Reclaimed, reclaimed as u64));
    tx.commit()?;
    Ok(reclaimed)
}

/// Whether [`reclaim`] would find something: a read, which needs no turn at the writer.
pub(crate) fn has_expired_claims(pool: &Pool) -> Result<bool, Error> {
    let reader = pool.read()?;
    let mut expired = reader.prepare_cached(
        "SELECT EXISTS (SELECT 1 FROM tasks WHERE state = 'claimed' AND claim_expires_at <= ?1)",
    )?;
    Ok(expired.query_one([now()], |row| row.get(0))?)
}

fn now() -> i64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX)
}

fn expiry(claim: &Claim) -> i64 {
    now().saturating_add(claim.lease_seconds.milliseconds())
}
