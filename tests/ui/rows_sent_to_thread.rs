// Rows are read while the first thread goes on with the connection: they change or end under the
// reader's hands.
//@ error: E0277
//@ mentions: Rows

use std::thread;

use tenure::{Error, Pool};

pub fn sum_in_background(pool: &Pool) -> Result<(), Error> {
    let reader = pool.read()?;
    let mut statement = reader.prepare("SELECT amount FROM invoice")?;

    #[cfg(misuse)]
    let mut amounts = statement.query([])?;
    #[cfg(not(misuse))]
    let amounts = statement.query_map([], |row| row.get(0))?.collect::<Result<Vec<i64>, _>>()?;

    thread::scope(|scope| {
        scope.spawn(move || -> Result<i64, Error> {
            let mut sum = 0;
            #[cfg(misuse)]
            while let Some(row) = amounts.next()? {
                sum += row.get::<_, i64>(0)?;
            }
            #[cfg(not(misuse))]
            for amount in amounts {
                sum += amount;
            }
            Ok(sum)
        });
    });
    Ok(())
}
