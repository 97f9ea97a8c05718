//! The version gate: which SQLite may be trusted with a WAL.
//!
//! From 3.7.0 to 3.51.2 two connections that write and checkpoint at the same moment could reset the
//! WAL under each other and lose committed pages (<https://sqlite.org/wal.html#walresetbug>). A pool
//! is exactly that situation, so those versions are refused, not warned about. 3.50.7 and 3.44.6 have
//! the correction; 3.52.0, which was withdrawn, has not.

use crate::error::OpenError;

/// First version with the correction, as `sqlite3_libversion_number` counts.
const FIXED: i32 = 3_051_003;
const FIXED_IN_BRANCHES: [i32; 2] = [3_050_007, 3_044_006];
const WITHDRAWN: i32 = 3_052_000;

pub(crate) fn check_wal_is_safe() -> Result<(), OpenError> {
    if is_safe(rusqlite::version_number()) {
        return Ok(());
    }
    Err(OpenError::UnsafeSqlite { version: rusqlite::version().to_owned() })
}

fn is_safe(version: i32) -> bool {
    FIXED_IN_BRANCHES.contains(&version) || (version >= FIXED && version != WITHDRAWN)
}

#[cfg(test)]
mod tests {
    use super::is_safe;

    #[test]
    fn versions_with_the_wal_reset_bug_are_refused() {
        for version in [3_007_000, 3_040_001, 3_044_005, 3_050_006, 3_051_002, 3_052_000] {
            assert!(!is_safe(version), "{version}");
        }
        for version in [3_044_006, 3_050_007, 3_051_003, 3_052_001, 3_053_002] {
            assert!(is_safe(version), "{version}");
        }
    }
}
