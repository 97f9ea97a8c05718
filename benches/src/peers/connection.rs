//! What the peers that hand out plain rusqlite connections do with them.

use harness::protocol::Recipe;
use harness::sql::{BODY, INSERT, QUERY};
use rusqlite::{Connection, TransactionBehavior};

/// The connections of a pool that makes none itself.
pub(super) fn open_all(recipe: &Recipe) -> rusqlite::Result<Vec<Connection>> {
    let count = recipe.connections.unwrap_or_else(default_count);
    (0..count).map(|_| open(recipe)).collect()
}

pub(super) fn open(recipe: &Recipe) -> rusqlite::Result<Connection> {
    let connection = Connection::open(&recipe.database)?;
    connection.execute_batch(&recipe.settings.pragmas())?;
    Ok(connection)
}

fn default_count() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// How a caller of rusqlite reads and writes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Habits {
    keeps_statements: bool,
}

impl Habits {
    pub(super) fn of(recipe: &Recipe) -> Self {
        Self { keeps_statements: recipe.settings.keeps_statements() }
    }

    #[inline]
    pub(super) fn query(self, connection: &Connection, id: i64) -> rusqlite::Result<i64> {
        if self.keeps_statements {
            connection.prepare_cached(QUERY)?.query_row([id], |row| row.get(0))
        } else {
            connection.query_row(QUERY, [id], |row| row.get(0))
        }
    }

    pub(super) fn snapshot(
        self,
        connection: &mut Connection,
        ids: &[i64],
    ) -> rusqlite::Result<i64> {
        let transaction = connection.transaction()?;
        let sum =
            ids.iter().map(|&id| self.query(&transaction, id)).sum::<rusqlite::Result<_>>()?;
        transaction.finish()?;
        Ok(sum)
    }

    pub(super) fn write(self, connection: &mut Connection, caller: u32) -> rusqlite::Result<()> {
        // DEFERRED, rusqlite's default, would do the same here: the first statement writes.
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        if self.keeps_statements {
            transaction.prepare_cached(INSERT)?.execute((caller, BODY))?;
        } else {
            transaction.execute(INSERT, (caller, BODY))?;
        }
        transaction.commit()
    }
}
