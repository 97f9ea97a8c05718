// Two guards exchange their connections: statements meant for one file run on the other, and each
// gives back what belongs to the other pool.
//@ error: E0596

use std::mem;

use tenure::{Error, Pool};

pub fn swap(first: &Pool, second: &Pool) -> Result<(), Error> {
    let mut a = first.write()?;
    let mut b = second.write()?;
    #[cfg(misuse)]
    mem::swap(&mut *a, &mut *b);
    #[cfg(not(misuse))]
    mem::swap(&mut a, &mut b);
    a.execute("DELETE FROM cache", [])?;
    b.execute("DELETE FROM cache", [])?;
    Ok(())
}
