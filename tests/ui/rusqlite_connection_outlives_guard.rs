// A reference to the bare connection that outlives the checkout is a second owner beside the next
// borrower.
//@ error: E0505

use tenure::{Error, Pool};

pub fn vacuum(pool: &Pool) -> Result<(), Error> {
    let writer = pool.write()?;
    let connection = writer.rusqlite();
    #[cfg(misuse)]
    {
        drop(writer);
        connection.execute_batch("VACUUM")?;
    }
    #[cfg(not(misuse))]
    {
        connection.execute_batch("VACUUM")?;
        drop(writer);
    }
    Ok(())
}
