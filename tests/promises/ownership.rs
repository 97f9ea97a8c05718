//! A guard belongs to one thread, and moves to another only by detaching. What must not compile is
//! in `tests/ui`; this is the same said as types, and what happens while it runs.

use std::sync::mpsc;
use std::thread;

use tenure::{
    Detached, Error, Pool, ReadGuard, Savepoint, Snapshot, Transaction, WriteGuard, testing,
};

/// Whether a type has an auto trait, told by which of two methods the compiler prefers.
macro_rules! has {
    ($type:ty: $auto:ident) => {{
        struct Probe<T: ?Sized>(std::marker::PhantomData<T>);
        #[allow(dead_code)]
        trait Otherwise {
            fn answer(&self) -> bool {
                false
            }
        }
        impl<T: ?Sized> Otherwise for &Probe<T> {}
        #[allow(dead_code)]
        impl<T: ?Sized + $auto> Probe<T> {
            fn answer(&self) -> bool {
                true
            }
        }
        (&Probe::<$type>(std::marker::PhantomData)).answer()
    }};
}

#[test]
fn only_pools_and_detached_connections_can_travel() {
    assert!(has!(Pool: Send) && has!(Pool: Sync));
    assert!(has!(Detached<ReadGuard<'static>>: Send));
    assert!(has!(Detached<WriteGuard<'static>>: Send));
    assert!(has!(Error: Send) && has!(Error: Sync));

    assert!(!has!(ReadGuard<'static>: Send) && !has!(ReadGuard<'static>: Sync));
    assert!(!has!(WriteGuard<'static>: Send) && !has!(WriteGuard<'static>: Sync));
    assert!(!has!(Transaction<'static>: Send) && !has!(Transaction<'static>: Sync));
    assert!(!has!(Savepoint<'static>: Send) && !has!(Savepoint<'static>: Sync));
    assert!(!has!(Snapshot<'static>: Send) && !has!(Snapshot<'static>: Sync));
}

#[test]
fn a_detached_connection_is_the_same_one_where_it_arrives() {
    let pool = testing::temporary().unwrap();
    let writer = pool.write().unwrap();
    writer.execute("CREATE TABLE mine (n)", []).unwrap();
    writer.execute("INSERT INTO mine VALUES (7), (8)", []).unwrap();
    let detached = writer.detach();

    let status = pool.status().write.unwrap();
    assert!(status.held[0].detached, "{status:?}");

    let found = thread::scope(|scope| {
        let other = scope.spawn(move || {
            let writer = detached.attach();
            writer.last_insert_rowid()
        });
        other.join().unwrap()
    });
    assert_eq!(found, 2, "the rowid that only this connection has seen");
    assert_eq!(pool.status().write.unwrap().idle, 1);
}

#[test]
fn the_holder_is_the_thread_that_attached() {
    let pool = testing::temporary().unwrap();
    let detached = pool.read().unwrap().detach();
    let (attached, told) = mpsc::channel();
    let (done, wait) = mpsc::channel::<()>();
    let other = thread::Builder::new().name("second owner".to_owned()).spawn(move || {
        let reader = detached.attach();
        attached.send(()).unwrap();
        wait.recv().unwrap();
        drop(reader);
    });
    told.recv().unwrap();
    let held = pool.status().read.held;
    assert_eq!((held[0].thread.as_str(), held[0].detached), ("second owner", false));
    assert!(held[0].place.contains("ownership.rs"), "{}", held[0].place);
    done.send(()).unwrap();
    other.unwrap().join().unwrap();
}

#[test]
fn dropping_what_is_detached_gives_the_connection_back() {
    let pool = testing::temporary().unwrap();
    drop(pool.write().unwrap().detach());
    assert!(pool.try_write().is_ok());
}

#[test]
fn an_owned_guard_outlives_the_pool() {
    let pool = testing::temporary().unwrap();
    let writer = pool.write_owned().unwrap();
    drop(pool);
    writer.execute_batch("CREATE TABLE task (title TEXT)").unwrap();
    assert!(writer.table_exists(None, "task").unwrap());
}
