// Text that is not copied out of its row lies in memory that SQLite frees at the next step, long
// before the snapshot's caller looks at it.
//@ error: none
//@ says: lifetime

use tenure::{Error, Pool};

pub fn name_length(pool: &Pool) -> Result<usize, Error> {
    const NAME: &str = "SELECT name FROM customer WHERE id = 1";

    let name = pool.snapshot(|snapshot| {
        #[cfg(misuse)]
        let name = snapshot.query_one(NAME, [], |row| Ok(row.get_ref(0)?.as_str()?))?;
        #[cfg(not(misuse))]
        let name = snapshot.query_one(NAME, [], |row| row.get::<_, String>(0))?;
        Ok(name)
    })?;
    Ok(name.len())
}
