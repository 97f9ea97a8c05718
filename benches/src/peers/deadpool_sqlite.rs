//! deadpool-sqlite: tasks that await `get()`, which tests the connection on a blocking thread, and
//! run SQL there with `interact()`.

use ::deadpool_sqlite::{Config, Hook, HookError, Object, Pool, Runtime};
use anyhow::anyhow;
use harness::protocol::Recipe;
use harness::tasks::Async;
use rusqlite::Connection;

use super::connection::Habits;

pub(super) struct DeadpoolSqlite {
    pool: Pool,
    habits: Habits,
}

impl DeadpoolSqlite {
    pub(super) async fn open(recipe: &Recipe) -> anyhow::Result<Self> {
        let pragmas = recipe.settings.pragmas();
        let prepare = Hook::async_fn(move |connection, _| {
            let pragmas = pragmas.clone();
            Box::pin(async move {
                let done =
                    connection.interact(move |connection| connection.execute_batch(&pragmas));
                done.await
                    .map_err(|error| HookError::message(error.to_string()))?
                    .map_err(HookError::Backend)?;
                Ok(())
            })
        });
        let mut builder =
            Config::new(&recipe.database).builder(Runtime::Tokio1)?.post_create(prepare);
        if let Some(connections) = recipe.connections {
            builder = builder.max_size(connections);
        }
        let pool = builder.build()?;
        // It opens a connection when one is wanted and none is idle, so all are wanted at once.
        let mut all: Vec<Object> = Vec::new();
        while all.len() < pool.status().max_size {
            all.push(pool.get().await?);
        }
        drop(all);
        Ok(Self { pool, habits: Habits::of(recipe) })
    }
}

async fn interact<T: Send + 'static>(
    connection: &Object,
    work: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    Ok(connection.interact(work).await.map_err(|error| anyhow!("{error}"))??)
}

impl Async for DeadpoolSqlite {
    async fn hold(&self, held: impl FnOnce() + Send) -> anyhow::Result<()> {
        let _connection = self.pool.get().await?;
        held();
        Ok(())
    }

    async fn query(&self, id: i64) -> anyhow::Result<i64> {
        let (connection, habits) = (self.pool.get().await?, self.habits);
        interact(&connection, move |connection| habits.query(connection, id)).await
    }

    async fn snapshot(&self, ids: Vec<i64>) -> anyhow::Result<i64> {
        let (connection, habits) = (self.pool.get().await?, self.habits);
        interact(&connection, move |connection| habits.snapshot(connection, &ids)).await
    }

    async fn write(&self, caller: u32) -> anyhow::Result<()> {
        let (connection, habits) = (self.pool.get().await?, self.habits);
        interact(&connection, move |connection| habits.write(connection, caller)).await
    }
}
