// A connection that a helper thread set up comes back with what the helper left on it, and is
// accounted for under a thread that has ended.
//@ error: E0277
//@ mentions: GuardBelongsToTheThreadThatCheckedItOut

use std::thread;

use tenure::{CheckoutError, Pool};

pub fn check_out_elsewhere(pool: &Pool) -> Result<(), CheckoutError> {
    let pool = pool.clone();
    #[cfg(misuse)]
    let helper = thread::spawn(move || pool.read_owned());
    #[cfg(not(misuse))]
    let helper = thread::spawn(move || Ok(pool.read_owned()?.detach()));

    let reader = helper.join().expect("checking out does not panic")?;
    #[cfg(not(misuse))]
    let reader = reader.attach();
    drop(reader);
    Ok(())
}
