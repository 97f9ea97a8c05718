// What is kept with a connection goes to other threads with it: a counted reference without a lock
// is then counted by two threads.
//@ error: E0277
//@ mentions: Rc

#[cfg(misuse)]
use std::rc::Rc as Shared;
#[cfg(not(misuse))]
use std::sync::Arc as Shared;

use tenure::{Error, Pool};

#[derive(Default)]
struct Title(Shared<str>);

pub fn title(pool: &Pool) -> Result<Shared<str>, Error> {
    Ok(pool.read()?.with_extension(|title: &mut Title| Shared::clone(&title.0)))
}
