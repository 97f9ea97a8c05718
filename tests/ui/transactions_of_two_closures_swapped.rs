// Each pool then ends the other's transaction: one is committed before its closure has returned, and
// the other's connection is given back with a transaction open.
//@ error: E0521

use tenure::{Error, Pool};

pub fn copy(from: &Pool, to: &Pool) -> Result<(), Error> {
    from.transaction(|source| {
        to.transaction(|target| {
            #[cfg(misuse)]
            std::mem::swap(source, target);
            #[cfg(not(misuse))]
            let (source, target) = (target, source);

            let title: String = source.query_one("SELECT title FROM task", [], |row| row.get(0))?;
            target.execute("INSERT INTO task (title) VALUES (?1)", [title])?;
            Ok(())
        })
    })
}
