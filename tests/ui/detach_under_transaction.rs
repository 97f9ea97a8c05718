// The connection travels with a transaction open that the sender still means to end: it does so in
// the middle of what the receiver does.
//@ error: E0505

use std::thread;

use tenure::{Error, Pool};

pub fn hand_over(pool: &Pool) -> Result<(), Error> {
    let mut writer = pool.write()?;
    let tx = writer.transaction()?;
    tx.execute("UPDATE job SET state = 'started'", [])?;

    #[cfg(not(misuse))]
    tx.commit()?;
    let detached = writer.detach();
    thread::spawn(move || detached.attach().execute("UPDATE job SET state = 'done'", []));
    #[cfg(misuse)]
    tx.commit()?;
    Ok(())
}
