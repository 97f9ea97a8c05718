//! A vector of connections under a mutex, with a condition variable for who finds it empty. A floor
//! to look at: it has no guards, no deadlines and no counts.

use harness::protocol::Recipe;
use harness::threads::Blocking;
use parking_lot::{Condvar, Mutex};
use rusqlite::Connection;

use super::connection::{Habits, open_all};

#[derive(Debug)]
pub(super) struct MutexVec {
    idle: Mutex<Vec<Connection>>,
    returned: Condvar,
    habits: Habits,
}

impl MutexVec {
    pub(super) fn open(recipe: &Recipe) -> anyhow::Result<Self> {
        let idle = Mutex::new(open_all(recipe)?);
        Ok(Self { idle, returned: Condvar::new(), habits: Habits::of(recipe) })
    }

    #[inline]
    fn take(&self) -> Connection {
        let mut idle = self.idle.lock();
        loop {
            match idle.pop() {
                Some(connection) => return connection,
                None => self.returned.wait(&mut idle),
            }
        }
    }

    #[inline]
    fn put(&self, connection: Connection) {
        self.idle.lock().push(connection);
        self.returned.notify_one();
    }
}

impl Blocking for MutexVec {
    #[inline]
    fn hold(&self, held: impl FnOnce()) -> anyhow::Result<()> {
        let connection = self.take();
        held();
        self.put(connection);
        Ok(())
    }

    #[inline]
    fn query(&self, id: i64) -> anyhow::Result<i64> {
        let connection = self.take();
        let number = self.habits.query(&connection, id);
        self.put(connection);
        Ok(number?)
    }
}
