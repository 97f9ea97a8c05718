// A closure that puts another transaction, one that lives for ever, in the place of the one it was
// lent: the pool would commit the wrong one and report the closure's own work as done.
//@ error: E0521

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (pool, other) = (tenure::testing::temporary()?, tenure::testing::temporary()?);
    let guard = Box::leak(Box::new(other.write_owned()?));
    let foreign = guard.transaction()?;
    pool.transaction(move |tx| {
        tx.execute("INSERT INTO task (title) VALUES ('write')", [])?;
        #[cfg(misuse)]
        {
            *tx = foreign;
        }
        #[cfg(not(misuse))]
        {
            drop(foreign);
        }
        Ok(())
    })?;
    Ok(())
}
