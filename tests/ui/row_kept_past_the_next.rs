// A row is the statement's present position, not a copy: after the next step, a text taken from it
// points to freed memory.
//@ error: E0499

use tenure::{Error, Pool};

pub fn first_and_second(pool: &Pool) -> Result<bool, Error> {
    let reader = pool.read()?;
    let mut statement = reader.prepare("SELECT title FROM task ORDER BY id LIMIT 2")?;
    let mut rows = statement.query([])?;

    let Some(row) = rows.next()? else { return Ok(false) };
    #[cfg(misuse)]
    let first = row.get_ref(0)?;
    #[cfg(not(misuse))]
    let first: String = row.get(0)?;

    let Some(row) = rows.next()? else { return Ok(false) };
    #[cfg(misuse)]
    let second = row.get_ref(0)?;
    #[cfg(not(misuse))]
    let second: String = row.get(0)?;
    Ok(first == second)
}
