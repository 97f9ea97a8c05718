//! What becomes of a commit, of its connection and of the pool when the disk is full or fails.
//!
//! SQLite is given a file system of its own for that: the usual one, whose writes and syncs fail on
//! command. It concerns the whole process, so the tests run one at a time.

#![cfg(unix)]
#![allow(unsafe_code)]

use std::ffi::{c_char, c_int, c_void};
use std::fs::{self, File};
use std::io::Read;
use std::mem::ManuallyDrop;
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tempfile::TempDir;
use tenure::rusqlite::{Connection, ErrorCode, ffi};
use tenure::{Builder, CheckoutErrorKind, Checkpoints, CommitError, Error, Pool, Synchronous};

/// What the next writes to a WAL answer, what its syncs do, and so for the database; 0 = as usual.
static WAL_WRITE: AtomicI32 = AtomicI32::new(0);
static WAL_SYNC: AtomicI32 = AtomicI32::new(0);
static MAIN_WRITE: AtomicI32 = AtomicI32::new(0);
static MAIN_SYNC: AtomicI32 = AtomicI32::new(0);

struct Shim {
    base: *mut ffi::sqlite3_vfs,
    vfs: ffi::sqlite3_vfs,
    /// The methods of WAL files and of databases, made when the first is opened.
    wal: OnceLock<ffi::sqlite3_io_methods>,
    main: OnceLock<ffi::sqlite3_io_methods>,
    /// The usual ones.
    usual: OnceLock<ffi::sqlite3_io_methods>,
}

// SAFETY: written while it is made, and read only afterwards.
unsafe impl Sync for Shim {}
// SAFETY: as above.
unsafe impl Send for Shim {}

static SHIM: OnceLock<Shim> = OnceLock::new();

/// Opens as usual, and exchanges two of the file's methods.
///
/// # Safety
///
/// As SQLite promises to every file system.
unsafe extern "C" fn open(
    _: *mut ffi::sqlite3_vfs,
    name: ffi::sqlite3_filename,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    out: *mut c_int,
) -> c_int {
    let shim = SHIM.get().expect("it is registered after it was made");
    // SAFETY: passed on as it came, to the file system it is meant for. After success the file has
    // methods, which live as long as the program.
    unsafe {
        let code =
            ((*shim.base).xOpen.expect("every one can open"))(shim.base, name, file, flags, out);
        if code != ffi::SQLITE_OK || (*file).pMethods.is_null() {
            return code;
        }
        let usual = *(*file).pMethods;
        shim.usual.get_or_init(|| usual);
        if flags & ffi::SQLITE_OPEN_WAL != 0 {
            let methods = || ffi::sqlite3_io_methods {
                xWrite: Some(write::<WalFile>),
                xSync: Some(sync::<WalFile>),
                ..usual
            };
            (*file).pMethods = shim.wal.get_or_init(methods);
        } else if flags & ffi::SQLITE_OPEN_MAIN_DB != 0 {
            let methods = || ffi::sqlite3_io_methods {
                xWrite: Some(write::<MainFile>),
                xSync: Some(sync::<MainFile>),
                ..usual
            };
            (*file).pMethods = shim.main.get_or_init(methods);
        }
        code
    }
}

trait Faults {
    const IS_MAIN: bool;
    const WRITE: &'static AtomicI32;
    const SYNC: &'static AtomicI32;
}

struct WalFile;
struct MainFile;

impl Faults for WalFile {
    const IS_MAIN: bool = false;
    const WRITE: &'static AtomicI32 = &WAL_WRITE;
    const SYNC: &'static AtomicI32 = &WAL_SYNC;
}

impl Faults for MainFile {
    const IS_MAIN: bool = true;
    const WRITE: &'static AtomicI32 = &MAIN_WRITE;
    const SYNC: &'static AtomicI32 = &MAIN_SYNC;
}

fn usual() -> &'static ffi::sqlite3_io_methods {
    SHIM.get().and_then(|shim| shim.usual.get()).expect("a file is open")
}

/// # Safety
///
/// As SQLite promises to every file.
unsafe extern "C" fn write<F: Faults>(
    file: *mut ffi::sqlite3_file,
    from: *const c_void,
    length: c_int,
    at: ffi::sqlite3_int64,
) -> c_int {
    if let Some(turn) = in_turn().filter(|_| F::IS_MAIN) {
        WRITTEN[turn].fetch_add(1, SeqCst);
    }
    match F::WRITE.load(SeqCst) {
        // SAFETY: the usual method of this very file.
        0 => unsafe { (usual().xWrite.expect("every file has it"))(file, from, length, at) },
        code => code,
    }
}

/// # Safety
///
/// As SQLite promises to every file.
unsafe extern "C" fn sync<F: Faults>(file: *mut ffi::sqlite3_file, flags: c_int) -> c_int {
    if let Some(turn) = in_turn().filter(|_| F::IS_MAIN) {
        let written = WRITTEN.each_ref().map(|written| written.swap(0, SeqCst));
        if turn == 1 {
            LEFT.fetch_max(written[0], SeqCst);
        }
        SYNCS[turn].fetch_add(1, SeqCst);
    }
    match F::SYNC.load(SeqCst) {
        // SAFETY: the usual method of this very file.
        0 => unsafe { (usual().xSync.expect("every file has it"))(file, flags) },
        code => code,
    }
}

/// What the pool's thread has written into the database since it was synced, by whether the thread had the
/// writer's turn; and the most that was written without it when a sync was made with it.
static WRITTEN: [AtomicUsize; 2] = [const { AtomicUsize::new(0) }; 2];
static LEFT: AtomicUsize = AtomicUsize::new(0);
static SYNCS: [AtomicUsize; 2] = [const { AtomicUsize::new(0) }; 2];
static WATCHED: Mutex<Option<Pool>> = Mutex::new(None);

/// Whether the pool's thread has the writer's turn; `None` = this is another thread, or nobody asks.
fn in_turn() -> Option<usize> {
    let name = "tenure-checkpoints";
    if std::thread::current().name() != Some(name) {
        return None;
    }
    let watched = WATCHED.lock().unwrap();
    let held = watched.as_ref()?.status().write?.held;
    Some(usize::from(held.iter().any(|holder| holder.thread == name)))
}

/// Sets a fault until it is dropped.
struct Fault(&'static AtomicI32);

impl Fault {
    fn set(at: &'static AtomicI32, code: c_int) -> Self {
        at.store(code, SeqCst);
        Self(at)
    }
}

impl Drop for Fault {
    fn drop(&mut self) {
        self.0.store(0, SeqCst);
    }
}

/// One test at a time, on a disk that can fail.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    if SHIM.get().is_none() {
        // SAFETY: SQLite's own file system lives as long as the program; so does the copy, which
        // differs in its name and in how it opens.
        unsafe {
            let base = ffi::sqlite3_vfs_find(ptr::null());
            let vfs = ffi::sqlite3_vfs {
                zName: c"faulty".as_ptr().cast::<c_char>(),
                xOpen: Some(open),
                pNext: ptr::null_mut(),
                ..*base
            };
            let (wal, main, usual) = Default::default();
            assert!(SHIM.set(Shim { base, vfs, wal, main, usual }).is_ok());
            let vfs = &raw const SHIM.get().unwrap().vfs;
            assert_eq!(ffi::sqlite3_vfs_register(vfs.cast_mut(), 1), ffi::SQLITE_OK);
        }
    }
    alone
}

struct Fixture {
    pool: Pool,
    metrics: PrometheusHandle,
    directory: TempDir,
    _alone: MutexGuard<'static, ()>,
}

impl Fixture {
    fn new() -> Self {
        Self::with(Pool::builder())
    }

    fn with(builder: Builder) -> Self {
        let _alone = alone();
        let directory = tempfile::tempdir().unwrap();
        let recorder = PrometheusBuilder::new().build_recorder();
        let metrics = recorder.handle();
        let builder = builder.database(directory.path().join("app.db")).readers(2);
        let pool = metrics::with_local_recorder(&recorder, || builder.open().unwrap());
        pool.write().unwrap().execute_batch("CREATE TABLE task (title TEXT, body BLOB)").unwrap();
        Self { pool, metrics, directory, _alone }
    }

    fn insert(&self, title: &str) -> Result<usize, Error> {
        let insert = "INSERT INTO task VALUES (?1, zeroblob(20000))";
        self.pool.transaction(|tx| Ok(tx.execute(insert, [title])?))
    }

    fn titles(&self) -> Vec<String> {
        titles(self.pool.read().unwrap().rusqlite())
    }

    /// What is on the disk, as one sees it who comes later.
    fn titles_at_the_end(self) -> Vec<String> {
        self.pool.close(Duration::from_secs(60)).unwrap();
        let file = self.directory.path().join("app.db");
        let connection = Connection::open(file).unwrap();
        let sound: String =
            connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(sound, "ok");
        titles(&connection)
    }

    fn metric(&self, series: &str) -> u64 {
        self.pool.publish_metrics();
        let page = self.metrics.render();
        let line = page.lines().find(|line| line.contains(series) && !line.starts_with('#'));
        let line = line.unwrap_or_else(|| panic!("{series} in\n{page}"));
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }

    /// How many connections have the WAL open.
    #[cfg(target_os = "linux")]
    fn open_wals(&self) -> usize {
        let wal = self.directory.path().join("app.db-wal");
        let open = fs::read_dir("/proc/self/fd").unwrap().map(|entry| entry.unwrap().path());
        open.filter(|open| fs::read_link(open).is_ok_and(|file| file == wal)).count()
    }

    fn writers_closed_as_broken(&self) -> u64 {
        self.metric(
            "tenure_connections_closed_total{pool=\"app\",role=\"write\",reason=\"broken\"}",
        )
    }
}

fn titles(connection: &Connection) -> Vec<String> {
    let mut statement = connection.prepare("SELECT title FROM task ORDER BY rowid").unwrap();
    statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

fn commit_error(result: Result<usize, Error>) -> CommitError {
    match result {
        Err(Error::Commit(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_full_disk_undoes_the_commit_and_the_pool_goes_on_when_there_is_room() {
    let pool = Fixture::new();
    pool.insert("before").unwrap();
    let full = Fault::set(&WAL_WRITE, ffi::SQLITE_FULL);
    for _ in 0..3 {
        let error = commit_error(pool.insert("no room"));
        assert!(matches!(error, CommitError::Full { .. }), "{error}");
        assert!(error.is_undone());
        assert!(error.to_string().contains("make room"), "{error}");
    }
    assert_eq!(pool.titles(), ["before"], "reading goes on");
    drop(full);
    pool.insert("after").unwrap();
    assert_eq!(pool.titles_at_the_end(), ["before", "after"]);
}

#[test]
fn a_database_that_may_not_grow_is_full_as_well() {
    let pool =
        Fixture::with(Pool::builder().on_connect(|connection, _| {
            Ok(connection.pragma_update(None, "max_page_count", 20)?)
        }));
    pool.insert("fits").unwrap();
    let result = (0..10).try_for_each(|_| pool.insert("more").map(drop));
    let error = match result {
        Err(Error::Sqlite(error)) => error,
        other => panic!("{other:?}"),
    };
    assert_eq!(error.sqlite_error_code(), Some(ErrorCode::DiskFull));
    pool.pool
        .transaction(|tx| Ok(tx.execute("DELETE FROM task WHERE title = 'more'", [])?))
        .unwrap();
    pool.insert("after").unwrap();
    assert_eq!(pool.titles_at_the_end(), ["fits", "after"]);
}

#[test]
fn a_failed_sync_leaves_the_outcome_unknown_and_the_connection_is_not_used_again() {
    let pool = Fixture::new();
    pool.insert("before").unwrap();
    let fault = Fault::set(&WAL_SYNC, ffi::SQLITE_IOERR_FSYNC);
    let error = commit_error(pool.insert("unknown"));
    assert!(matches!(error, CommitError::Unknown { .. }), "{error}");
    assert!(!error.is_undone());
    drop(fault);
    assert_eq!(pool.writers_closed_as_broken(), 1);
    pool.insert("after").unwrap();
    let titles = pool.titles_at_the_end();
    assert!(titles.starts_with(&["before".to_owned()]) && titles.ends_with(&["after".to_owned()]));
    // All of it or nothing.
    assert!(titles.len() == 2 || titles[1] == "unknown", "{titles:?}");
}

#[test]
fn a_statement_that_commits_by_itself_and_fails_costs_the_connection_too() {
    let pool = Fixture::new();
    let fault = Fault::set(&WAL_SYNC, ffi::SQLITE_IOERR_FSYNC);
    let writer = pool.pool.write().unwrap();
    let error = writer.execute("INSERT INTO task VALUES ('unknown', NULL)", []).unwrap_err();
    assert_eq!(error.sqlite_error_code(), Some(ErrorCode::SystemIoFailure));
    drop(writer);
    drop(fault);
    assert_eq!(pool.writers_closed_as_broken(), 1);
    pool.insert("after").unwrap();
}

#[test]
fn the_commit_of_a_statement_that_returns_a_row_fails_aloud() {
    let pool = Fixture::new();
    let insert = "INSERT INTO task VALUES ('unknown', NULL) RETURNING title";
    let fault = Fault::set(&WAL_SYNC, ffi::SQLITE_IOERR_FSYNC);
    let title = |row: &tenure::rusqlite::Row<'_>| row.get::<_, String>(0);
    let error = pool.pool.write().unwrap().query_row(insert, [], title).unwrap_err();
    assert_eq!(error.sqlite_error_code(), Some(ErrorCode::SystemIoFailure));
    let writer = pool.pool.write().unwrap();
    let error = writer.prepare_cached(insert).unwrap().query_row([], title).unwrap_err();
    assert_eq!(error.sqlite_error_code(), Some(ErrorCode::SystemIoFailure));
    drop(writer);
    drop(fault);
    assert_eq!(pool.writers_closed_as_broken(), 2);
}

#[test]
fn a_failed_write_is_not_tried_again() {
    let pool = Fixture::new();
    let fault = Fault::set(&WAL_WRITE, ffi::SQLITE_IOERR_WRITE);
    let began = Instant::now();
    let error = commit_error(pool.insert("unknown"));
    assert!(matches!(error, CommitError::Unknown { .. }), "{error}");
    assert!(began.elapsed() < pool.pool.config().busy_timeout, "{:?}", began.elapsed());
    drop(fault);
    assert_eq!(pool.writers_closed_as_broken(), 1);
    pool.insert("after").unwrap();
    assert_eq!(pool.titles_at_the_end(), ["after"]);
}

#[test]
fn a_checkpoint_that_fails_loses_nothing_and_is_made_up_for() {
    let small = Pool::builder().wal_limit_mib(4).synchronous(Synchronous::Normal);
    let pool = Fixture::with(small);
    let failed = "tenure_checkpoints_total{pool=\"app\",mode=\"passive\",outcome=\"error\"}";
    let complete = "tenure_checkpoints_total{pool=\"app\",mode=\"passive\",outcome=\"complete\"}";
    let before = pool.metric(failed);
    let fault = Fault::set(&MAIN_WRITE, ffi::SQLITE_FULL);
    let began = Instant::now();
    while pool.metric(failed) == before {
        pool.insert("kept").unwrap();
        assert!(began.elapsed() < Duration::from_secs(60), "no checkpoint was tried");
    }
    drop(fault);
    let before = pool.metric(complete);
    while pool.metric(complete) == before {
        pool.insert("kept").unwrap();
        assert!(began.elapsed() < Duration::from_secs(60), "none was made afterwards");
    }
    let rows = pool.titles().len();
    assert_eq!(pool.titles_at_the_end().len(), rows);
}

/// After an fsync that fails the next succeeds, whatever has become of what was written before.
#[test]
fn a_checkpoint_whose_sync_fails_stops_the_pool_and_leaves_the_wal() {
    let small = Pool::builder().wal_limit_mib(4).synchronous(Synchronous::Normal);
    let pool = Fixture::with(small);
    let mut acknowledged = 0;
    let fault = Fault::set(&MAIN_SYNC, ffi::SQLITE_IOERR_FSYNC);
    let database = pool.directory.path().join("app.db");
    // Closing a file takes SQLite's locks from the process.
    let mut file = ManuallyDrop::new(File::open(&database).unwrap());
    let mut on_the_disk = Vec::new();
    file.read_to_end(&mut on_the_disk).unwrap();
    let began = Instant::now();
    let error = loop {
        match pool.insert("kept") {
            Ok(_) => acknowledged += 1,
            Err(error) => break error,
        }
        assert!(began.elapsed() < Duration::from_secs(60), "no checkpoint was tried");
    };
    drop(fault);
    // At whichever step the transaction was.
    let told =
        matches!(error, Error::Checkout(_) | Error::Begin(_) | Error::Sqlite(_) | Error::Commit(_));
    assert!(told, "{error:?}");
    let error = pool.pool.read().unwrap_err();
    assert_eq!(error.kind(), CheckoutErrorKind::Damaged);
    let text = error.to_string();
    for part in ["the disk did not keep", "tenure-checkpoints", "-wal", "start anew"] {
        assert!(text.contains(part), "{text}");
    }
    assert_eq!(pool.metric("tenure_damaged{pool=\"app\"}"), 1);
    #[cfg(target_os = "linux")]
    assert_eq!(pool.open_wals(), pool.pool.status().read.idle + 2, "one was closed");
    pool.pool.close(Duration::from_secs(60)).unwrap();
    // What a disk has that has kept nothing since.
    assert_ne!(fs::read(&database).unwrap(), on_the_disk, "no page was written");
    fs::write(&database, on_the_disk).unwrap();
    assert_eq!(pool.titles_at_the_end().len(), acknowledged);
}

#[test]
fn with_the_writers_turn_only_what_was_written_with_it_is_brought_to_the_disk() {
    let small = Pool::builder().wal_limit_mib(4).synchronous(Synchronous::Normal);
    let pool = Fixture::with(small);
    *WATCHED.lock().unwrap() = Some(pool.pool.clone());
    let began = Instant::now();
    // Beside commits SQLite itself would sync with the turn only.
    while SYNCS[1].load(SeqCst) < 10 {
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..200).for_each(|_| assert_eq!(pool.insert("kept").unwrap(), 1)));
            }
        });
        assert!(began.elapsed() < Duration::from_secs(60), "the WAL did not start over");
    }
    drop(WATCHED.lock().unwrap().take());
    assert!(SYNCS[0].load(SeqCst) > 0);
    assert_eq!(LEFT.load(SeqCst), 0, "pages that were written before the turn was taken");
}

#[test]
fn what_is_copied_is_brought_to_the_disk_before_it_is_much() {
    while !a_piece_is_brought_to_the_disk() {}
}

/// `false` = it took so long to get there that all was checkpointed before.
fn a_piece_is_brought_to_the_disk() -> bool {
    let pool = Fixture::with(Pool::builder().synchronous(Synchronous::Normal));
    let frames =
        |state| pool.metric(&format!("tenure_wal_frames{{pool=\"app\",state=\"{state}\"}}"));
    let insert_up_to = |count| {
        while frames("total") < count {
            pool.insert("kept").unwrap();
        }
    };
    // Of a WAL that starts over at 1018 frames: as long as anything is left SQLite itself syncs nothing.
    insert_up_to(200);
    let mut reader = pool.pool.read().unwrap();
    let _snapshot = reader.snapshot().unwrap();
    let before = SYNCS[0].load(SeqCst);
    *WATCHED.lock().unwrap() = Some(pool.pool.clone());
    if frames("checkpointed") == 0 {
        insert_up_to(300);
        let began = Instant::now();
        while SYNCS[0].load(SeqCst) == before {
            assert!(began.elapsed() < Duration::from_secs(10), "nothing is synced");
            std::thread::yield_now();
        }
    }
    drop(WATCHED.lock().unwrap().take());
    SYNCS[0].load(SeqCst) > before
}

#[test]
fn a_backup_onto_a_full_disk_fails_and_leaves_nothing() {
    let pool = Fixture::with(Pool::builder().checkpoints(Checkpoints::Inline));
    pool.insert("a").unwrap();
    let target = tempfile::tempdir().unwrap();
    let full = Fault::set(&MAIN_WRITE, ffi::SQLITE_FULL);
    let error = pool.pool.backup_to(target.path().join("copy.db")).unwrap_err();
    assert!(matches!(error, tenure::BackupError::Copy { .. }), "{error}");
    drop(full);
    assert_eq!(std::fs::read_dir(target.path()).unwrap().count(), 0);
    pool.pool.backup_to(target.path().join("copy.db")).unwrap();
}

/// Needs the right to mount a file system.
#[test]
#[ignore = "mounts a small file system, which takes root; .ci/run does"]
fn a_disk_that_is_really_full() {
    let _alone = alone();
    let directory = tempfile::tempdir().unwrap();
    let run = |command: &mut std::process::Command| assert!(command.status().unwrap().success());
    run(std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"])
        .arg(directory.path()));
    let pool = Pool::builder().database(directory.path().join("app.db")).readers(1).open().unwrap();
    pool.write().unwrap().execute_batch("CREATE TABLE task (title TEXT, body BLOB)").unwrap();
    let insert = "INSERT INTO task VALUES ('a', zeroblob(20000))";
    let mut acknowledged = 0_i64;
    let error = loop {
        match pool.transaction(|tx| Ok(tx.execute(insert, [])?)) {
            Ok(_) => acknowledged += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::Commit(CommitError::Full { .. })), "{error}");
    let count = || {
        let count = "SELECT count(*) FROM task";
        pool.read().unwrap().query_one(count, [], |row| row.get::<_, i64>(0)).unwrap()
    };
    assert_eq!(count(), acknowledged);
    run(std::process::Command::new("mount").args(["-o", "remount,size=8m"]).arg(directory.path()));
    pool.transaction(|tx| Ok(tx.execute(insert, [])?)).unwrap();
    assert_eq!(count(), acknowledged + 1);
    pool.close(Duration::from_secs(60)).unwrap();
    run(std::process::Command::new("umount").arg(directory.path()));
}
