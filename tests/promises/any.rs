//! The pool for any manager of r2d2's lends what is no database with the same strictness.

use std::cell::Cell;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use tenure::checkout::{Builder, Pool};
use tenure::{CheckoutErrorKind, CloseError};

use crate::until::until;

/// Makes numbered cells; one that holds 0 when it comes back has broken.
#[derive(Default)]
struct Cells {
    made: Arc<AtomicUsize>,
}

impl r2d2::ManageConnection for Cells {
    type Connection = Cell<usize>;
    type Error = io::Error;

    fn connect(&self) -> io::Result<Cell<usize>> {
        Ok(Cell::new(self.made.fetch_add(1, SeqCst) + 1))
    }

    fn is_valid(&self, _: &mut Cell<usize>) -> io::Result<()> {
        panic!("nobody asks at checkout")
    }

    fn has_broken(&self, cell: &mut Cell<usize>) -> bool {
        cell.get() == 0
    }
}

fn pool(limit: usize) -> Pool<Cells> {
    Builder::default().limit(limit).build(Cells::default()).unwrap()
}

#[test]
fn nobody_shares_a_connection_and_everybody_is_served() {
    let pool = pool(3);
    let out = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..500 {
                    let cell = pool.get().unwrap();
                    assert!(out.fetch_add(1, SeqCst) < 3);
                    cell.set(cell.get() + 10);
                    out.fetch_sub(1, SeqCst);
                }
            });
        }
    });
    let cells = [pool.get().unwrap(), pool.get().unwrap(), pool.get().unwrap()];
    let sum: usize = cells.iter().map(|cell| cell.get()).sum();
    assert_eq!(sum, 1 + 2 + 3 + 8 * 500 * 10, "each was changed by its holder alone");
}

#[test]
fn what_has_broken_is_replaced() {
    let pool = pool(1);
    pool.get().unwrap().set(0);
    assert_eq!(pool.get().unwrap().get(), 2, "the second one that was made");
}

#[test]
fn waiting_in_vain_detaching_and_closing() {
    let pool = pool(1);
    let guard = pool.get_owned().unwrap();
    assert_eq!(pool.try_get().unwrap_err().kind(), CheckoutErrorKind::Unavailable);
    let error = pool.get().unwrap_err();
    assert_eq!(error.kind(), CheckoutErrorKind::WouldDeadlock, "{error}");
    let detached = guard.detach();
    let error = pool.get_timeout(Duration::from_millis(1)).unwrap_err();
    assert_eq!(error.kind(), CheckoutErrorKind::Timeout);
    assert!(error.to_string().starts_with("any checkout timed out"), "{error}");
    thread::spawn(move || detached.attach().set(5)).join().unwrap();
    let guard = pool.get().unwrap();
    assert_eq!(guard.get(), 5);

    let error = pool.close(Duration::ZERO).unwrap_err();
    assert!(error.to_string().contains("any for"), "{error}");
    let CloseError::StillOut { any, read, write, .. } = error else { panic!("{error}") };
    assert_eq!((any.len(), read.len() + write.len()), (1, 0));
    assert_eq!(pool.get().unwrap_err().kind(), CheckoutErrorKind::Closed);
    drop(guard);
    until("the last one is closed", || pool.close(Duration::ZERO).is_ok());
}
