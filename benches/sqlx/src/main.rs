//! sqlx: tasks that await `acquire()`, which pings the connection's own thread, and send their SQL
//! there.

use harness::protocol::{Recipe, Settings};
use harness::sql::{BODY, INSERT, QUERY};
use harness::tasks::{Async, Tasks};
use harness::versions::locked;
use harness::worker::serve;
use sqlx::SqlitePool;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};

struct Sqlx {
    pool: SqlitePool,
}

impl Sqlx {
    async fn open(recipe: Recipe) -> anyhow::Result<Self> {
        // Statements are kept and BUSY is waited for 5 s by default.
        let mut connect = SqliteConnectOptions::new().filename(&recipe.database);
        if let Settings::Equal(synchronous) = recipe.settings {
            for (key, value) in recipe.settings.pairs(synchronous) {
                connect = connect.pragma(key, value);
            }
        }
        let mut options = SqlitePoolOptions::new();
        if let Some(connections) = recipe.connections {
            let connections = u32::try_from(connections)?;
            options = options.max_connections(connections).min_connections(connections);
        }
        Ok(Self { pool: options.connect_with(connect).await? })
    }
}

impl Async for Sqlx {
    async fn hold(&self, held: impl FnOnce() + Send) -> anyhow::Result<()> {
        let _connection = self.pool.acquire().await?;
        held();
        Ok(())
    }

    async fn query(&self, id: i64) -> anyhow::Result<i64> {
        Ok(sqlx::query_scalar(QUERY).bind(id).fetch_one(&self.pool).await?)
    }

    async fn snapshot(&self, ids: Vec<i64>) -> anyhow::Result<i64> {
        let mut transaction = self.pool.begin().await?;
        let mut sum = 0;
        for id in ids {
            sum +=
                sqlx::query_scalar::<_, i64>(QUERY).bind(id).fetch_one(&mut *transaction).await?;
        }
        transaction.commit().await?;
        Ok(sum)
    }

    async fn write(&self, caller: u32) -> anyhow::Result<()> {
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        sqlx::query(INSERT).bind(caller).bind(BODY).execute(&mut *transaction).await?;
        Ok(transaction.commit().await?)
    }
}

/// What is linked into this program.
fn versions() -> anyhow::Result<Vec<(String, String)>> {
    let lock = include_str!("../Cargo.lock");
    let mut versions = vec![locked(lock, "sqlx"), locked(lock, "tokio")];
    let sqlite =
        tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
            let pool = SqlitePool::connect("sqlite::memory:").await?;
            sqlx::query_scalar("SELECT sqlite_version()").fetch_one(&pool).await
        });
    versions.push(("SQLite".to_owned(), sqlite?));
    Ok(versions)
}

fn main() -> anyhow::Result<()> {
    serve(versions()?, |recipe| {
        Ok(Box::new(Tasks::open(recipe.items, || Sqlx::open(recipe.clone()))?))
    })
}
