// The statement would run on the connection while another caller's closure has it.
//@ error: E0277

use std::sync::mpsc;

use tenure::{Error, Pool};

pub fn one(pool: &Pool) -> Result<i64, Error> {
    let (keep, kept) = mpsc::channel();
    pool.group_commit(move |tx| {
        let mut statement = tx.prepare("SELECT 1")?;
        #[cfg(misuse)]
        keep.send(statement).unwrap();
        #[cfg(not(misuse))]
        keep.send(statement.query_one([], |row| row.get(0))?).unwrap();
        Ok(())
    })?;
    #[cfg(misuse)]
    return Ok(kept.recv().unwrap().query_one([], |row| row.get(0))?);
    #[cfg(not(misuse))]
    Ok(kept.recv().unwrap())
}
