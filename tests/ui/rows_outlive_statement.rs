// Rows that are read after their statement was finalized come from freed memory, or end early
// without an error.
//@ error: E0597

use tenure::{Error, Pool};

pub fn titles(pool: &Pool) -> Result<Vec<String>, Error> {
    let reader = pool.read()?;
    let mut titles = Vec::new();

    #[cfg(misuse)]
    let mut rows = {
        let mut statement = reader.prepare("SELECT title FROM task")?;
        statement.query([])?
    };
    #[cfg(not(misuse))]
    let mut statement = reader.prepare("SELECT title FROM task")?;
    #[cfg(not(misuse))]
    let mut rows = statement.query([])?;

    while let Some(row) = rows.next()? {
        titles.push(row.get(0)?);
    }
    Ok(titles)
}
