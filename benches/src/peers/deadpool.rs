//! deadpool's managed pool over plain connections: tasks that await `get()` and call SQLite on their
//! own thread.

use ::deadpool::managed::{Manager, Metrics, Pool, RecycleResult};
use harness::protocol::Recipe;
use harness::tasks::Async;
use rusqlite::Connection;

use super::connection::{self, Habits};

pub(super) struct Deadpool {
    pool: Pool<Opener>,
    habits: Habits,
}

struct Opener(Recipe);

impl Manager for Opener {
    type Type = Connection;
    type Error = rusqlite::Error;

    async fn create(&self) -> rusqlite::Result<Connection> {
        connection::open(&self.0)
    }

    /// No test at checkout, which is the least that a manager can do.
    async fn recycle(&self, _: &mut Connection, _: &Metrics) -> RecycleResult<rusqlite::Error> {
        Ok(())
    }
}

impl Deadpool {
    pub(super) async fn open(recipe: &Recipe) -> anyhow::Result<Self> {
        let mut builder = Pool::builder(Opener(recipe.clone()));
        if let Some(connections) = recipe.connections {
            builder = builder.max_size(connections);
        }
        let pool: Pool<Opener> = builder.build()?;
        // It opens a connection when one is wanted and none is idle, so all are wanted at once.
        let mut all = Vec::new();
        while all.len() < pool.status().max_size {
            all.push(pool.get().await?);
        }
        drop(all);
        Ok(Self { pool, habits: Habits::of(recipe) })
    }
}

impl Async for Deadpool {
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
