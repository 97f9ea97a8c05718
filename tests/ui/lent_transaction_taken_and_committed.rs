// A closure that takes the transaction it was lent, leaving another one in its place, and commits it
// itself: the pool would end the one that was left instead.
//@ error: E0521

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (pool, other) = (tenure::testing::temporary()?, tenure::testing::temporary()?);
    let guard = Box::leak(Box::new(other.write_owned()?));
    let foreign = guard.transaction()?;
    pool.transaction(move |tx| {
        #[cfg(misuse)]
        {
            std::mem::replace(tx, foreign).commit()?;
        }
        #[cfg(not(misuse))]
        {
            foreign.commit()?;
        }
        tx.execute("INSERT INTO task (title) VALUES ('write')", [])?;
        Ok(())
    })?;
    Ok(())
}
