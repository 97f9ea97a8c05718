//! async-sqlite: tasks that send closures to threads, each of which has one connection. There is no
//! checkout.

use async_sqlite::rusqlite::{self, Connection, TransactionBehavior};
use async_sqlite::{Pool, PoolBuilder};
use harness::protocol::Recipe;
use harness::sql::{BODY, INSERT, QUERY};
use harness::tasks::{Async, Tasks};
use harness::versions::locked;
use harness::worker::serve;

struct AsyncSqlite {
    pool: Pool,
    keeps_statements: bool,
}

impl AsyncSqlite {
    async fn open(recipe: Recipe) -> anyhow::Result<Self> {
        let mut builder = PoolBuilder::new().path(&recipe.database);
        if let Some(connections) = recipe.connections {
            builder = builder.num_conns(connections);
        }
        let pool = builder.open().await?;
        let pragmas = recipe.settings.pragmas();
        for done in pool.conn_for_each(move |connection| connection.execute_batch(&pragmas)).await {
            done?;
        }
        Ok(Self { pool, keeps_statements: recipe.settings.keeps_statements() })
    }
}

fn query(connection: &Connection, keep: bool, id: i64) -> rusqlite::Result<i64> {
    if keep {
        connection.prepare_cached(QUERY)?.query_row([id], |row| row.get(0))
    } else {
        connection.query_row(QUERY, [id], |row| row.get(0))
    }
}

impl Async for AsyncSqlite {
    async fn hold(&self, _held: impl FnOnce() + Send) -> anyhow::Result<()> {
        anyhow::bail!("async-sqlite has no checkout")
    }

    async fn query(&self, id: i64) -> anyhow::Result<i64> {
        let keep = self.keeps_statements;
        Ok(self.pool.conn(move |connection| query(connection, keep, id)).await?)
    }

    async fn snapshot(&self, ids: Vec<i64>) -> anyhow::Result<i64> {
        let keep = self.keeps_statements;
        let work = move |connection: &mut Connection| {
            let transaction = connection.transaction()?;
            let numbers = ids.iter().map(|&id| query(&transaction, keep, id));
            let sum = numbers.sum::<rusqlite::Result<_>>()?;
            transaction.finish()?;
            Ok(sum)
        };
        Ok(self.pool.conn_mut(work).await?)
    }

    async fn write(&self, caller: u32) -> anyhow::Result<()> {
        let keep = self.keeps_statements;
        let work = move |connection: &mut Connection| {
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            if keep {
                transaction.prepare_cached(INSERT)?.execute((caller, BODY))?;
            } else {
                transaction.execute(INSERT, (caller, BODY))?;
            }
            transaction.commit()
        };
        Ok(self.pool.conn_mut(work).await?)
    }
}

/// What is linked into this program.
fn versions() -> Vec<(String, String)> {
    let lock = include_str!("../Cargo.lock");
    let mut versions: Vec<_> =
        ["async-sqlite", "rusqlite", "tokio"].iter().map(|name| locked(lock, name)).collect();
    versions.push(("SQLite".to_owned(), rusqlite::version().to_owned()));
    versions
}

fn main() -> anyhow::Result<()> {
    serve(versions(), |recipe| {
        Ok(Box::new(Tasks::open(recipe.items, || AsyncSqlite::open(recipe.clone()))?))
    })
}
