// A statement prepared before the transaction writes into it from outside, whoever holds it, and
// one in the middle of its rows keeps its read lock past the COMMIT.
//@ error: E0502

use tenure::{Error, Pool};

pub fn rename(pool: &Pool) -> Result<(), Error> {
    const LOG: &str = "INSERT INTO log (text) VALUES ('renamed')";
    let mut writer = pool.write()?;

    #[cfg(misuse)]
    let mut log = writer.prepare(LOG)?;
    let tx = writer.transaction()?;
    #[cfg(not(misuse))]
    let mut log = tx.prepare(LOG)?;

    tx.execute("UPDATE project SET name = 'tenure'", [])?;
    log.execute([])?;
    #[cfg(not(misuse))]
    drop(log);
    tx.commit()?;
    Ok(())
}
