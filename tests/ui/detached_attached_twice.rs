// Two guards on one connection: both write, and both give it back, so that it is lent out twice
// from then on.
//@ error: E0382

use tenure::{Detached, Error, WriteGuard};

pub fn receive(detached: Detached<WriteGuard<'static>>) -> Result<(), Error> {
    let first = detached.attach();
    first.execute("UPDATE job SET state = 'taken'", [])?;
    #[cfg(misuse)]
    let second = detached.attach();
    #[cfg(not(misuse))]
    let second = first.detach().attach();
    second.execute("UPDATE job SET state = 'done'", [])?;
    Ok(())
}
