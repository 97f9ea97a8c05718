// Another caller's thread may run the closure, and count a reference while this one does.
//@ error: E0277

#[cfg(misuse)]
use std::rc::Rc as Shared;
#[cfg(not(misuse))]
use std::sync::Arc as Shared;

use tenure::{Error, Pool};

pub fn write(pool: &Pool, title: Shared<str>) -> Result<usize, Error> {
    pool.group_commit(move |tx| Ok(tx.execute("INSERT INTO task VALUES (?1)", [&*title])?))
}
