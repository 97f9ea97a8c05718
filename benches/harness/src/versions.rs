//! The versions that are linked, from the lock file that a worker was built with.

/// The version of the package `name` in the text of a `Cargo.lock`.
pub fn locked(lock: &str, name: &str) -> (String, String) {
    let wanted = format!("name = \"{name}\"");
    let mut lines = lock.lines().skip_while(|line| *line != wanted).skip(1);
    let version = lines.next().and_then(|line| line.strip_prefix("version = \""));
    let version = version.and_then(|line| line.strip_suffix('"')).unwrap_or("unknown");
    (name.to_owned(), version.to_owned())
}

#[cfg(test)]
mod tests {
    use super::locked;

    #[test]
    fn the_version_is_found_by_the_whole_name() {
        let lock = "[[package]]\nname = \"r2d2_sqlite\"\nversion = \"0.35.0\"\n\n\
                    [[package]]\nname = \"r2d2\"\nversion = \"0.8.10\"\n";
        assert_eq!(locked(lock, "r2d2"), ("r2d2".to_owned(), "0.8.10".to_owned()));
        assert_eq!(locked(lock, "none").1, "unknown");
    }
}
