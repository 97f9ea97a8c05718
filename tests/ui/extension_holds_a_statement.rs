// A statement kept with its connection is one that nobody can finalize before the connection is
// closed, and a borrow of the connection by itself.
//@ error: E0277
//@ mentions: Statement

use tenure::{Error, Pool};

#[cfg(misuse)]
#[derive(Default)]
struct Prepared(Option<tenure::rusqlite::Statement<'static>>);
#[cfg(not(misuse))]
#[derive(Default)]
struct Prepared(Option<String>);

pub fn prepared(pool: &Pool) -> Result<bool, Error> {
    Ok(pool.read()?.with_extension(|prepared: &mut Prepared| prepared.0.is_some()))
}
