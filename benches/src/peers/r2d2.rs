//! r2d2 with r2d2_sqlite: threads that call `get()`.

use harness::protocol::Recipe;
use harness::threads::Blocking;
use r2d2_sqlite::SqliteConnectionManager;

use super::connection::Habits;

#[derive(Debug)]
pub(super) struct R2d2 {
    pool: r2d2::Pool<SqliteConnectionManager>,
    habits: Habits,
}

impl R2d2 {
    /// `tested` is r2d2's default: `SELECT 1` at every checkout.
    pub(super) fn open(recipe: &Recipe, tested: bool) -> anyhow::Result<Self> {
        let pragmas = recipe.settings.pragmas();
        let manager = SqliteConnectionManager::file(&recipe.database)
            .with_init(move |connection| connection.execute_batch(&pragmas));
        let mut builder = r2d2::Pool::builder().test_on_check_out(tested);
        if let Some(connections) = recipe.connections {
            builder = builder.max_size(u32::try_from(connections)?);
        }
        // Returns when all connections are open.
        Ok(Self { pool: builder.build(manager)?, habits: Habits::of(recipe) })
    }
}

impl Blocking for R2d2 {
    #[inline]
    fn hold(&self, held: impl FnOnce()) -> anyhow::Result<()> {
        let _connection = self.pool.get()?;
        held();
        Ok(())
    }

    #[inline]
    fn query(&self, id: i64) -> anyhow::Result<i64> {
        Ok(self.habits.query(&*self.pool.get()?, id)?)
    }

    fn snapshot(&self, ids: &[i64]) -> anyhow::Result<i64> {
        Ok(self.habits.snapshot(&mut *self.pool.get()?, ids)?)
    }

    fn write(&self, caller: u32) -> anyhow::Result<()> {
        Ok(self.habits.write(&mut *self.pool.get()?, caller)?)
    }
}
