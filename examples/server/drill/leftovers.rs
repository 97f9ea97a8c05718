//! Connections that come back with something left over, of every kind that check-in tells apart.

use std::mem::ManuallyDrop;

use tenure::rusqlite::functions::FunctionFlags;
use tenure::rusqlite::limits::Limit;
use tenure::{Pool, ReadGuard};

use super::Until;

/// What each leaves behind.
const LEAVE: &[fn(&ReadGuard<'_>)] = &[
    |reader| drop(reader.rusqlite().execute_batch("BEGIN; SELECT count(*) FROM sqlite_schema")),
    |reader| {
        let statement = reader.prepare("SELECT name FROM sqlite_schema");
        let mut statement = ManuallyDrop::new(statement.expect("a statement"));
        let mut rows = ManuallyDrop::new(statement.query([]).expect("rows"));
        drop(rows.next().map(drop));
    },
    |reader| drop(reader.rusqlite().execute_batch("ATTACH ':memory:' AS drill")),
    |reader| {
        drop(reader.rusqlite().execute_batch("PRAGMA query_only = 0; CREATE TEMP TABLE mine (n)"));
    },
    |reader| drop(reader.rusqlite().execute_batch("PRAGMA cache_size = 77")),
    |reader| drop(reader.rusqlite().busy_timeout(std::time::Duration::from_millis(1))),
    |reader| drop(reader.rusqlite().set_limit(Limit::SQLITE_LIMIT_ATTACHED, 1)),
    |reader| drop(reader.rusqlite().update_hook(Some(|_, _: &str, _: &str, _| {}))),
    |reader| {
        let flags = FunctionFlags::SQLITE_UTF8;
        drop(reader.rusqlite().create_scalar_function("mine", 0, flags, |_| Ok(1)));
    },
];

pub(super) fn run(pool: &Pool, until: Until<'_>) {
    while until.pause(100) {
        for leave in LEAVE {
            drop(pool.read().map(|reader| leave(&reader)));
        }
    }
}
