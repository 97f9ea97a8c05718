//! bb8 over plain connections: tasks that await `get()` and call SQLite on their own thread.

use ::bb8::{ManageConnection, Pool};
use harness::protocol::Recipe;
use harness::tasks::Async;
use rusqlite::Connection;

use super::connection::{self, Habits};

pub(super) struct Bb8 {
    pool: Pool<Opener>,
    habits: Habits,
}

struct Opener(Recipe);

impl ManageConnection for Opener {
    type Connection = Connection;
    type Error = rusqlite::Error;

    async fn connect(&self) -> rusqlite::Result<Connection> {
        connection::open(&self.0)
    }

    /// Called at every checkout, as by default; the least that a manager can do.
    async fn is_valid(&self, _: &mut Connection) -> rusqlite::Result<()> {
        Ok(())
    }

    fn has_broken(&self, _: &mut Connection) -> bool {
        false
    }
}

impl Bb8 {
    pub(super) async fn open(recipe: &Recipe) -> anyhow::Result<Self> {
        let mut builder = Pool::builder();
        if let Some(connections) = recipe.connections {
            let connections = u32::try_from(connections)?;
            builder = builder.max_size(connections).min_idle(connections);
        }
        let pool = builder.build(Opener(recipe.clone())).await?;
        Ok(Self { pool, habits: Habits::of(recipe) })
    }
}

impl Async for Bb8 {
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
