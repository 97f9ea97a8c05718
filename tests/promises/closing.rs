//! A pool that is closed lends nothing more, waits for what is out, and says who has it. One that is
//! dropped instead, wherever that is, neither hangs nor panics.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use tenure::{AfterRaw, CheckoutErrorKind, CloseError, Pool, testing};

use crate::recorded::Recorded;
use crate::until::{LONG, until};

const SHORT: Duration = Duration::from_millis(20);

fn waiting(pool: &Pool) -> usize {
    pool.status().write.unwrap().waiting.len()
}

#[test]
fn a_closed_pool_lends_nothing_and_has_nothing_open() {
    let pool = Recorded::with(Pool::builder().readers(2));
    let database = pool.config().database.clone().unwrap();
    let wal = database.with_file_name("temporary.db-wal");
    assert!(wal.exists());
    let clone = pool.clone();
    pool.close(LONG).unwrap();
    assert!(!wal.exists(), "the last connection to be closed has removed it");
    assert_eq!(pool.read().unwrap_err().kind(), CheckoutErrorKind::Closed);
    assert_eq!(clone.try_write().unwrap_err().kind(), CheckoutErrorKind::Closed);
    assert_eq!(pool.status().read.open, 0);
    let closed = |role| {
        pool.value("tenure_connections_closed_total", &[("role", role), ("reason", "pool_closed")])
    };
    assert_eq!((closed("read"), closed("write")), (2.0, 1.0));
    pool.close(LONG).unwrap();
    clone.close(Duration::MAX).unwrap();
}

#[test]
fn a_read_only_pool_is_closed_as_well() {
    let directory = tempfile::tempdir().unwrap();
    let database = directory.path().join("app.db");
    drop(Pool::open(&database).unwrap());
    let builder = Pool::builder().database(&database).access(tenure::Access::ReadOnly);
    let pool = builder.open().unwrap();
    let reader = pool.read().unwrap();
    assert!(pool.close(Duration::ZERO).is_err());
    drop(reader);
    pool.close(LONG).unwrap();
}

#[test]
fn who_waits_is_told_at_once() {
    let pool = testing::temporary().unwrap();
    let _writer = pool.write().unwrap();
    thread::scope(|scope| {
        let waiters: Vec<_> =
            (0..3).map(|_| scope.spawn(|| pool.write_timeout(LONG).map(drop))).collect();
        until("they wait", || waiting(&pool) == 3);
        let began = Instant::now();
        assert!(pool.close(Duration::ZERO).is_err());
        for waiter in waiters {
            let error = waiter.join().unwrap().unwrap_err();
            assert_eq!(error.kind(), CheckoutErrorKind::Closed);
        }
        assert!(began.elapsed() < LONG / 2);
    });
}

#[test]
fn it_waits_for_what_is_out_on_threads_and_between_them() {
    let pool = testing::temporary_with(Pool::builder().readers(2)).unwrap();
    let (writer, detached) = (pool.write().unwrap(), pool.read().unwrap().detach());
    thread::scope(|scope| {
        let closers: Vec<_> = (0..2).map(|_| scope.spawn(|| pool.close(LONG))).collect();
        until("it is closed", || {
            pool.try_read().is_err_and(|error| error.kind() == CheckoutErrorKind::Closed)
        });
        writer.execute_batch("CREATE TABLE task (n)").unwrap();
        drop(writer);
        assert!(closers.iter().all(|closer| !closer.is_finished()));
        scope.spawn(move || drop(detached.attach()));
        let began = Instant::now();
        for closer in closers {
            closer.join().unwrap().unwrap();
        }
        assert!(began.elapsed() < LONG / 2, "told, not found out at the deadline");
    });
}

#[test]
fn it_names_who_is_still_out_and_what_they_hold_stays_good() {
    let pool = Recorded::with(Pool::builder().readers(2));
    pool.write().unwrap().execute_batch("CREATE TABLE task (n)").unwrap();
    let mut writer = pool.write().unwrap();
    let tx = writer.transaction().unwrap();
    let detached = pool.read().unwrap().detach();
    let began = Instant::now();
    let error = pool.close(SHORT).unwrap_err();
    assert!(began.elapsed() >= SHORT);
    let text = error.to_string();
    let me = thread::current().name().unwrap().to_owned();
    for part in ["write for", "read for", ", detached", "closing.rs:", &me, "end the work"] {
        assert!(text.contains(part), "{part:?} is missing in: {text}");
    }
    let CloseError::StillOut { waited, read, write, .. } = error else { panic!("{error}") };
    assert!(waited >= SHORT);
    assert_eq!((read.len(), write.len()), (1, 1));
    assert!(read[0].detached && !write[0].detached, "each by its role");

    tx.execute("INSERT INTO task VALUES (1)", []).unwrap();
    tx.commit().unwrap();
    let reader = detached.attach();
    let count: i64 = reader.query_one("SELECT count(*) FROM task", [], |row| row.get(0)).unwrap();
    assert_eq!(count, 1);
    drop((reader, writer));
    let status = pool.status();
    assert_eq!((status.read.open, status.write.unwrap().open), (0, 0), "closed on return");
    pool.close(Duration::ZERO).unwrap();
}

#[test]
fn a_connection_that_was_being_opened_is_not_lent() {
    let (slow, go_on) = (Arc::new(AtomicBool::new(false)), mpsc::channel::<()>());
    let (opening, is_opening) = mpsc::channel();
    let (is_slow, gate) = (Arc::clone(&slow), parking_lot::Mutex::new(go_on.1));
    let builder = Pool::builder().after_raw(AfterRaw::Discard).on_connect(move |_, _| {
        if is_slow.load(Ordering::Relaxed) {
            opening.send(()).unwrap();
            gate.lock().recv().unwrap();
        }
        Ok(())
    });
    let pool = testing::temporary_with(builder).unwrap();
    thread::scope(|scope| {
        let writer = pool.write().unwrap();
        writer.rusqlite();
        slow.store(true, Ordering::Relaxed);
        let waiter = scope.spawn(|| pool.write_timeout(LONG).map(drop));
        until("it waits", || waiting(&pool) == 1);
        drop(writer);
        is_opening.recv().unwrap();
        let text = pool.close(SHORT).unwrap_err().to_string();
        assert!(text.contains("being opened"), "{text}");
        slow.store(false, Ordering::Relaxed);
        go_on.0.send(()).unwrap();
        let error = waiter.join().unwrap().unwrap_err();
        assert_eq!(error.kind(), CheckoutErrorKind::Closed);
        pool.close(LONG).unwrap();
    });
}

/// Connections that count themselves, and take as long to be opened as the test says.
struct Slow {
    open: Arc<AtomicUsize>,
    slow: Arc<AtomicBool>,
    opening: mpsc::Sender<()>,
    go_on: parking_lot::Mutex<mpsc::Receiver<()>>,
}

struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        // Time for whoever does not wait for it.
        (0..100).for_each(|_| thread::yield_now());
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl r2d2::ManageConnection for Slow {
    type Connection = Counted;
    type Error = std::io::Error;

    fn connect(&self) -> std::io::Result<Counted> {
        self.open.fetch_add(1, Ordering::SeqCst);
        let counted = Counted(Arc::clone(&self.open));
        if self.slow.load(Ordering::SeqCst) {
            self.opening.send(()).unwrap();
            self.go_on.lock().recv().unwrap();
        }
        Ok(counted)
    }

    fn is_valid(&self, _: &mut Counted) -> std::io::Result<()> {
        Ok(())
    }

    fn has_broken(&self, _: &mut Counted) -> bool {
        self.slow.load(Ordering::SeqCst)
    }
}

#[test]
fn what_is_being_opened_for_somebody_who_has_given_up_is_waited_for() {
    for _ in 0..3 {
        let (open, slow) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let ((opening, is_opening), (go, go_on)) = (mpsc::channel(), mpsc::channel());
        let (counts, is_slow) = (Arc::clone(&open), Arc::clone(&slow));
        let go_on = parking_lot::Mutex::new(go_on);
        let manager = Slow { open: counts, slow: is_slow, opening, go_on };
        let pool = tenure::checkout::Builder::default().limit(1).build(manager).unwrap();
        slow.store(true, Ordering::SeqCst);
        // It has broken, and the one in its place is being opened; nobody is there to take it.
        drop(pool.get().unwrap());
        is_opening.recv().unwrap();
        until("the one who asked has given up", || pool.status().open == 0);
        let text = pool.close(SHORT).unwrap_err().to_string();
        assert!(text.contains("being opened"), "{text}");
        thread::scope(|scope| {
            let closes = scope.spawn(|| pool.close(LONG).map(|()| open.load(Ordering::SeqCst)));
            go.send(()).unwrap();
            assert_eq!(closes.join().unwrap().unwrap(), 0, "something was left open");
        });
    }
}

/// Runs it on a thread of its own, which must end by itself.
fn ends(work: impl FnOnce() + Send + 'static) {
    let thread = thread::spawn(work);
    until("it ends", || thread.is_finished());
    thread.join().unwrap();
}

#[test]
fn dropped_on_another_thread_than_it_was_opened_on() {
    let pool = testing::temporary().unwrap();
    drop(pool.write().unwrap());
    ends(move || drop(pool));
}

#[test]
fn dropped_inside_a_transaction() {
    ends(|| {
        let pool = testing::temporary().unwrap();
        let kept = RefCell::new(None);
        kept.replace(Some(pool.clone()));
        pool.transaction(|tx| {
            kept.take();
            Ok(tx.execute_batch("CREATE TABLE task (n)")?)
        })
        .unwrap();
        let mut writer = pool.write_owned().unwrap();
        let tx = writer.transaction().unwrap();
        // The last one.
        drop(pool);
        tx.execute("INSERT INTO task VALUES (1)", []).unwrap();
        tx.commit().unwrap();
        drop(writer);
    });
}

#[test]
fn closed_inside_a_transaction() {
    ends(|| {
        let pool = testing::temporary().unwrap();
        pool.transaction(|tx| {
            assert!(pool.close(Duration::ZERO).is_err());
            Ok(tx.execute_batch("CREATE TABLE task (n)")?)
        })
        .unwrap();
        pool.close(Duration::ZERO).unwrap();
    });
}

#[test]
fn dropped_while_others_wait() {
    ends(|| {
        let pool = testing::temporary().unwrap();
        let writer = pool.write_owned().unwrap();
        let waiters: Vec<_> = (0..3)
            .map(|_| {
                let pool = pool.clone();
                thread::spawn(move || {
                    let waited = pool.write_timeout(LONG).map(drop);
                    // Whoever is last drops it here.
                    drop(pool);
                    waited.is_ok()
                })
            })
            .collect();
        until("they wait", || waiting(&pool) == 3);
        drop(pool);
        drop(writer);
        for waiter in waiters {
            assert!(waiter.join().unwrap());
        }
    });
}

#[test]
fn dropped_by_the_destructor_of_a_thread_local() {
    thread_local! {
        static KEPT: RefCell<Option<(tenure::ReadGuard<'static>, Pool)>> = const { RefCell::new(None) };
    }
    let pool = testing::temporary().unwrap();
    let database = pool.config().database.clone().unwrap();
    ends(move || {
        KEPT.with(|kept| {
            let guard = pool.read_owned().unwrap();
            guard.query_one("SELECT 1", [], |row| row.get::<_, i64>(0)).unwrap();
            kept.replace(Some((guard, pool)));
        });
    });
    until("its directory is deleted", || !database.exists());
}
