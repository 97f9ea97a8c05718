//! The versions that are linked, from the lock file that a worker was built with.

/// The version of the package `name` in the text of a `Cargo.lock`.
pub fn locked(lock: &str, name: &str) -> (String, String) {
    let wanted = format!("name = \"{name}\"");
    let mut lines = lock.lines().skip_while(|line| *line != wanted).skip(1);
    let version = lines.next().and_then(|line| line.strip_prefix("version = \""));
    let version = version.and_then(|line| line.strip_suffix('"')).unwrap_or("unknown");
    (name.to_owned(), version.to_owned())
}
