//! The pools that link the same SQLite as tenure, one per file, and tenure itself. sqlx and
//! async-sqlite link others and have packages of their own beside this one.

mod bb8;
mod connection;
mod crossbeam;
mod deadpool;
mod deadpool_sqlite;
mod deadpool_unmanaged;
mod mutex_vec;
mod r2d2;
mod tenure;

use harness::Runner;
use harness::protocol::Recipe;
use harness::tasks::Tasks;
use harness::threads::Threads;
use harness::versions::locked;

/// Opens the pool of a peer that [`crate::variant`] names.
pub(crate) fn open(peer: &str, recipe: &Recipe) -> anyhow::Result<Box<dyn Runner>> {
    let items = recipe.items;
    Ok(match peer {
        "r2d2" | "r2d2_per_thread" => {
            Box::new(Threads { peer: r2d2::R2d2::open(recipe, true)?, items })
        }
        "r2d2_untested" => Box::new(Threads { peer: r2d2::R2d2::open(recipe, false)?, items }),
        "crossbeam" => Box::new(Threads { peer: crossbeam::Channel::open(recipe)?, items }),
        "mutex_vec" => Box::new(Threads { peer: mutex_vec::MutexVec::open(recipe)?, items }),
        "deadpool" => Box::new(Tasks::open(items, || deadpool::Deadpool::open(recipe))?),
        "deadpool_unmanaged" => {
            Box::new(Tasks::open(items, || deadpool_unmanaged::Unmanaged::open(recipe))?)
        }
        "deadpool_sqlite" => {
            Box::new(Tasks::open(items, || deadpool_sqlite::DeadpoolSqlite::open(recipe))?)
        }
        "bb8" => Box::new(Tasks::open(items, || bb8::Bb8::open(recipe))?),
        variant => Box::new(Threads { peer: tenure::Tenure::open(recipe, variant)?, items }),
    })
}

/// What is linked into this program.
pub(crate) fn versions() -> Vec<(String, String)> {
    let lock = include_str!("../../Cargo.lock");
    let names = [
        "tenure",
        "rusqlite",
        "r2d2",
        "r2d2_sqlite",
        "deadpool",
        "deadpool-sqlite",
        "bb8",
        "crossbeam-channel",
        "parking_lot",
        "tokio",
        "metrics-exporter-prometheus",
    ];
    let mut versions: Vec<_> = names.iter().map(|name| locked(lock, name)).collect();
    versions.push(("SQLite".to_owned(), rusqlite::version().to_owned()));
    versions
}
