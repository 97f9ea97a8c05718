// A BLOB handle reads and writes its connection directly: kept after check-in, it does so in the
// middle of the next borrower's work.
//@ error: E0505

use std::io::Read as _;

use tenure::{Error, Pool};

pub fn thumbnail(pool: &Pool, id: i64) -> Result<Vec<u8>, Error> {
    let reader = pool.read()?;
    let mut blob = reader.blob_open("main", "picture", "thumbnail", id, true)?;
    let mut bytes = Vec::new();

    #[cfg(misuse)]
    drop(reader);
    blob.read_to_end(&mut bytes).map_err(Error::other)?;
    #[cfg(not(misuse))]
    {
        drop(blob);
        drop(reader);
    }
    Ok(bytes)
}
