// The pool closes its connections while one is in use: the guard is left with a closed handle, or
// a connection that no limit counts.
//@ error: E0505

use tenure::{Error, Pool};

pub fn shut_down(pool: Pool) -> Result<i64, Error> {
    #[cfg(misuse)]
    let reader = pool.read()?;
    #[cfg(not(misuse))]
    let reader = pool.read_owned()?;

    drop(pool);
    Ok(reader
        .query_one("SELECT count(*) FROM job WHERE state = 'running'", [], |row| row.get(0))?)
}
