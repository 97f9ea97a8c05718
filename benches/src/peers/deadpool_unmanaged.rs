//! deadpool's unmanaged pool, which is filled from outside: tasks that await `get()` and call SQLite
//! on their own thread.

use ::deadpool::unmanaged::Pool;
use harness::protocol::Recipe;
use harness::tasks::Async;
use rusqlite::Connection;

use super::connection::{Habits, open_all};

pub(super) struct Unmanaged {
    pool: Pool<Connection>,
    habits: Habits,
}

impl Unmanaged {
    pub(super) async fn open(recipe: &Recipe) -> anyhow::Result<Self> {
        let pool = Pool::from(open_all(recipe)?);
        Ok(Self { pool, habits: Habits::of(recipe) })
    }
}

impl Async for Unmanaged {
    async fn hold(&self, held: impl FnOnce() + Send) -> anyhow::Result<()> {
        let _connection = self.pool.get().await?;
        held();
        Ok(())
    }

    async fn query(&self, id: i64) -> anyhow::Result<i64> {
        let connection = self.pool.get().await?;
        Ok(self.habits.query(&connection, id)?)
    }
}
