//! Connections that are nothing but their books: who uses them, how many there are, what fails.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use parking_lot::Mutex;

/// What a connection does when it comes back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fault {
    None,
    Broken,
    InspectionPanics,
    /// It is broken, and to close it panics.
    DropPanics,
}

/// Of one pool.
#[derive(Default)]
pub(crate) struct Books {
    pub(crate) open: AtomicUsize,
    /// The most that may be open now.
    pub(crate) allowed: AtomicUsize,
    /// What must never happen, and did: on threads whose panics nobody sees.
    pub(crate) violations: Mutex<Vec<String>>,
}

impl Books {
    fn must(&self, holds: bool, what: &str) {
        if !holds {
            self.violations.lock().push(what.to_owned());
        }
    }
}

pub(crate) struct Connection {
    in_use: AtomicBool,
    pub(crate) fault: Mutex<Fault>,
    books: Arc<Books>,
}

impl Connection {
    /// To be called by whoever has checked it out.
    pub(crate) fn begin_use(&self) {
        self.books.must(!self.in_use.swap(true, SeqCst), "two threads share a connection");
        self.books.must(*self.fault.lock() == Fault::None, "a broken connection was lent again");
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.books.open.fetch_sub(1, SeqCst);
        self.books.must(!*self.in_use.get_mut(), "a connection was closed while it was in use");
        if *self.fault.get_mut() == Fault::DropPanics && !std::thread::panicking() {
            std::panic::resume_unwind(Box::new("when it is dropped"));
        }
    }
}

pub(crate) struct Manager(pub(crate) Arc<Books>);

impl r2d2::ManageConnection for Manager {
    type Connection = Connection;
    type Error = io::Error;

    fn connect(&self) -> io::Result<Connection> {
        let books = Arc::clone(&self.0);
        let open = books.open.fetch_add(1, SeqCst) + 1;
        books.must(open <= books.allowed.load(SeqCst), "more are open than the limit allows");
        let fault = Mutex::new(Fault::None);
        Ok(Connection { in_use: AtomicBool::new(false), fault, books })
    }

    fn is_valid(&self, _: &mut Connection) -> io::Result<()> {
        panic!("nobody asks at checkout")
    }

    fn has_broken(&self, connection: &mut Connection) -> bool {
        let used = std::mem::replace(connection.in_use.get_mut(), false);
        self.0.must(used, "a connection came back that nobody had");
        match *connection.fault.get_mut() {
            Fault::None => false,
            Fault::InspectionPanics => std::panic::resume_unwind(Box::new("when it is inspected")),
            Fault::Broken | Fault::DropPanics => true,
        }
    }
}
