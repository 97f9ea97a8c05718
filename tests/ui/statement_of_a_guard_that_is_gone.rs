// A checkout in the middle of an expression is given back at its semicolon, and the statement goes
// on on a connection that somebody else has by then.
//@ error: E0716

use tenure::{Error, Pool};

pub fn overdue(pool: &Pool) -> Result<Vec<i64>, Error> {
    const OVERDUE: &str = "SELECT id FROM loan WHERE due < unixepoch()";

    #[cfg(misuse)]
    let mut statement = pool.read()?.prepare(OVERDUE)?;

    #[cfg(not(misuse))]
    let reader = pool.read()?;
    #[cfg(not(misuse))]
    let mut statement = reader.prepare(OVERDUE)?;

    let ids = statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    Ok(ids)
}
