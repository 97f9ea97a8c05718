// A guard in a static lock is taken out by whichever thread comes first, so state that one thread
// left on the connection is met by another.
//@ error: E0277
//@ mentions: GuardBelongsToTheThreadThatCheckedItOut

use std::sync::Mutex;

use tenure::{Error, Pool, ReadGuard};

#[cfg(misuse)]
static CURRENT: Mutex<Option<ReadGuard<'static>>> = Mutex::new(None);
#[cfg(not(misuse))]
static CURRENT: Mutex<Option<tenure::Detached<ReadGuard<'static>>>> = Mutex::new(None);

pub fn remember(pool: &Pool) -> Result<(), Error> {
    let reader = pool.read_owned()?;
    #[cfg(misuse)]
    let kept = reader;
    #[cfg(not(misuse))]
    let kept = reader.detach();

    *CURRENT.lock().unwrap() = Some(kept);
    Ok(())
}
