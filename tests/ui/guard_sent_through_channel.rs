// A connection sent to a worker while the sender's code still counts on what it set up there is
// used by two threads in turn without either knowing.
//@ error: E0277
//@ mentions: GuardBelongsToTheThreadThatCheckedItOut

use std::sync::mpsc;
use std::thread;

use tenure::{Error, Pool, WriteGuard};

#[cfg(misuse)]
type Job = WriteGuard<'static>;
#[cfg(not(misuse))]
type Job = tenure::Detached<WriteGuard<'static>>;

pub fn hand_over(pool: &Pool) -> Result<(), Error> {
    let (sender, receiver) = mpsc::channel::<Job>();
    thread::spawn(move || {
        for job in receiver {
            #[cfg(misuse)]
            let writer = job;
            #[cfg(not(misuse))]
            let writer = job.attach();
            writer.execute("UPDATE job SET state = 'done'", []).expect("the table exists");
        }
    });
    let writer = pool.write_owned()?;
    #[cfg(misuse)]
    let job = writer;
    #[cfg(not(misuse))]
    let job = writer.detach();
    sender.send(job).expect("the worker waits for jobs");
    Ok(())
}
