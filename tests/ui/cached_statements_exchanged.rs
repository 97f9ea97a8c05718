// Two connections exchange the statements that they keep: each runs, long after, what belongs to the
// other, whoever has that one by then.
//@ error: E0596

use std::mem;

use tenure::{Error, Pool};

pub fn exchange(first: &Pool, second: &Pool) -> Result<(), Error> {
    let a = first.read()?;
    let b = second.read()?;
    let mut of_a = a.prepare_cached("SELECT 1")?;
    let mut of_b = b.prepare_cached("SELECT 2")?;
    #[cfg(misuse)]
    mem::swap(&mut *of_a, &mut *of_b);
    #[cfg(not(misuse))]
    mem::swap(&mut of_a, &mut of_b);
    of_a.exists([])?;
    of_b.exists([])?;
    Ok(())
}
