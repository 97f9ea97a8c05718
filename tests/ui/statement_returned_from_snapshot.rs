// A statement of a view that has ended runs on whatever the connection shows its next borrower.
//@ error: none
//@ says: lifetime

use tenure::{Error, Pool};

pub fn titles(pool: &Pool) -> Result<Vec<String>, Error> {
    const TITLES: &str = "SELECT title FROM task";

    #[cfg(misuse)]
    let titles = pool
        .snapshot(|snapshot| Ok(snapshot.prepare(TITLES)?))?
        .query_map([], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    #[cfg(not(misuse))]
    let titles = pool.snapshot(|snapshot| {
        Ok(snapshot.prepare(TITLES)?.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?)
    })?;
    Ok(titles)
}
