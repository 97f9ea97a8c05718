// Running a cursor again resets it: the rows that the first caller is still reading become the
// second caller's.
//@ error: E0499

use tenure::{Error, Pool};

pub fn lists(pool: &Pool) -> Result<(), Error> {
    let reader = pool.read()?;
    let mut statement = reader.prepare("SELECT title FROM task WHERE owner = ?1")?;

    let mut mine = statement.query([1])?;
    let first = mine.next()?.map(|row| row.get::<_, String>(0)).transpose()?;
    #[cfg(not(misuse))]
    drop(mine);
    let theirs = statement.query_one([2], |row| row.get::<_, String>(0))?;
    #[cfg(misuse)]
    let second = mine.next()?.map(|row| row.get::<_, String>(0)).transpose()?;
    #[cfg(not(misuse))]
    let second: Option<String> = None;
    println!("mine: {first:?}, {second:?}; theirs: {theirs:?}");
    Ok(())
}
