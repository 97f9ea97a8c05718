//! Five systems kept a connection, or something that depends on one, where two actors could reach it.
//! Each module repeats the load that broke one of them: through a pool, where nothing may go wrong,
//! and beside it a control that shares the way that system did, and does go wrong.

mod cursors_shared_by_threads;
mod file_locks_of_a_process;
mod half_loaded_objects;
mod state_checked_then_used;
mod transaction_object_shared;

use std::path::Path;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use tenure::rusqlite::Connection;
use tenure::{Builder, Pool, Synchronous};

/// Longer than any of these tests lasts, so that a slow machine is no failure.
const PATIENCE: Duration = Duration::from_secs(60);

/// Settings for tests about isolation: what a power cut would leave is not their subject, so commits
/// do not wait for the disk.
fn settings() -> Builder {
    Pool::builder()
        .synchronous(Synchronous::Off)
        .checkout_timeout(PATIENCE)
        .busy_timeout(PATIENCE)
        .readers(4)
}

/// A pool on a new file with this schema.
fn pool(schema: &'static str) -> Pool {
    let setup = move |connection: &mut Connection| Ok(connection.execute_batch(schema)?);
    tenure::testing::temporary_with(settings().setup(setup)).unwrap()
}

/// A connection of no pool, which does not wait for locks.
fn bare_connection(database: &Path) -> Connection {
    let connection = Connection::open(database).unwrap();
    connection.busy_timeout(Duration::ZERO).unwrap();
    connection
}

/// Where the control of a test keeps its database: in WAL mode, as a pool's.
fn bare_database(directory: &Path, schema: &str) -> Connection {
    let connection = bare_connection(&directory.join("control.db"));
    connection.pragma_update(None, "journal_mode", "wal").unwrap();
    connection.execute_batch(schema).unwrap();
    connection
}

/// Runs `work` on threads that start together; returns what they return, in their order.
fn at_once<T: Send>(threads: u32, work: impl Fn(u32) -> T + Sync) -> Vec<T> {
    let start = Barrier::new(threads as usize);
    let run = |number| {
        start.wait();
        work(number)
    };
    thread::scope(|scope| {
        let run = &run;
        let threads: Vec<_> = (0..threads).map(|number| scope.spawn(move || run(number))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// Runs `work` on another thread while this one waits.
fn on_another_thread<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| scope.spawn(work).join().unwrap())
}

/// Waits for a state of the pool that no thread can announce, because it is one of waiting.
fn wait_until(reached: impl Fn() -> bool) {
    let began = Instant::now();
    while !reached() {
        assert!(began.elapsed() < PATIENCE, "waited in vain");
        thread::yield_now();
    }
}

/// How many threads wait for the writer.
fn waiting_writers(pool: &Pool) -> usize {
    pool.status().write.map_or(0, |role| role.waiting.len())
}
