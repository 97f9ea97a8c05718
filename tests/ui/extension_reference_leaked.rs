// A cache of rows reached after check-in belongs to the next borrower: readers see objects that
// are half loaded.
//@ error: E0521

use std::collections::HashMap;

use tenure::{Error, Pool};

#[derive(Default)]
struct Names(HashMap<i64, String>);

pub fn names(pool: &Pool) -> Result<usize, Error> {
    let mut known = None;
    pool.read()?.with_extension(|names: &mut Names| {
        #[cfg(misuse)]
        let result = names;
        #[cfg(not(misuse))]
        let result = Names(names.0.clone());
        known = Some(result);
    });
    Ok(known.map_or(0, |names| names.0.len()))
}
