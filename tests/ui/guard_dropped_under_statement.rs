// Giving the connection back early to be polite, with a statement still open on it, puts two users
// on one connection.
//@ error: E0505

use tenure::{Error, Pool};

pub fn newest(pool: &Pool) -> Result<String, Error> {
    let reader = pool.read()?;
    let mut statement = reader.prepare("SELECT title FROM post ORDER BY id DESC LIMIT 1")?;

    #[cfg(misuse)]
    drop(reader);
    let title = statement.query_one([], |row| row.get(0))?;
    #[cfg(not(misuse))]
    drop(statement);
    #[cfg(not(misuse))]
    drop(reader);
    Ok(title)
}
