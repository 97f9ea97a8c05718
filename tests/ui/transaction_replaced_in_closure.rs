// The pool commits what was put in place of its transaction and answers `Ok`; the work of the
// closure was rolled back.
//@ error: E0597

use tenure::{Error, Pool};

pub fn record(pool: &Pool, log: &Pool) -> Result<(), Error> {
    pool.transaction(|tx| {
        tx.execute("UPDATE account SET balance = 0", [])?;
        let mut writer = log.write_owned()?;
        #[cfg(misuse)]
        {
            *tx = writer.transaction()?;
            tx.execute("INSERT INTO log (text) VALUES ('emptied')", [])?;
        }
        #[cfg(not(misuse))]
        {
            let entry = writer.transaction()?;
            entry.execute("INSERT INTO log (text) VALUES ('emptied')", [])?;
            entry.commit()?;
        }
        Ok(())
    })
}
