// The connection is on its way to another thread and the first one goes on using it: two owners at
// once.
//@ error: E0382

use std::thread;

use tenure::{Error, Pool};

pub fn hand_over(pool: &Pool) -> Result<(), Error> {
    const STARTED: &str = "UPDATE job SET state = 'started'";
    let writer = pool.write()?;
    #[cfg(not(misuse))]
    writer.execute(STARTED, [])?;
    let detached = writer.detach();
    thread::spawn(move || detached.attach().execute("UPDATE job SET state = 'done'", []));
    #[cfg(misuse)]
    writer.execute(STARTED, [])?;
    Ok(())
}
