//! The database file: where it is, whether it can be one, and creating it.
//!
//! The crate never opens an existing database file itself: closing any descriptor of it would cancel
//! all the locks that this process holds on it (SQLite, "How To Corrupt", 2.2). It looks with `stat`
//! and leaves the rest to SQLite. A new file is made readable and writable for its owner only, under a
//! temporary name, and gets its own name when its descriptor is closed already.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::config::{Access, ConfigError, PoolConfig};
use crate::error::OpenError;

/// The absolute path of the file, which exists when this returns.
pub(crate) fn locate(config: &PoolConfig) -> Result<PathBuf, OpenError> {
    let path = config.database.as_deref().ok_or_else(ConfigError::no_database)?;
    if path.as_os_str().is_empty() || path == Path::new(":memory:") {
        return Err(OpenError::InMemory);
    }
    let inaccessible = |source| OpenError::Inaccessible { path: path.to_owned(), source };
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => {}
        Ok(_) => {
            return Err(OpenError::NotAFile { path: path.to_owned() });
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if fs::symlink_metadata(path).is_ok() {
                return Err(OpenError::DanglingLink { path: path.to_owned() });
            }
            if !config.create || config.access == Access::ReadOnly {
                return Err(OpenError::Missing { path: path.to_owned() });
            }
            create(path)?;
        }
        Err(error) => return Err(inaccessible(error)),
    }
    fs::canonicalize(path).map_err(inaccessible)
}

fn create(path: &Path) -> Result<(), OpenError> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    if !directory.is_dir() {
        return Err(OpenError::MissingDirectory { path: path.to_owned() });
    }
    let inaccessible = |source| OpenError::Inaccessible { path: path.to_owned(), source };
    let nameless = NamedTempFile::new_in(directory).map_err(inaccessible)?.into_temp_path();
    match nameless.persist_noclobber(path) {
        Ok(()) => Ok(()),
        // Somebody else was quicker; theirs is as good.
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(inaccessible(error.error)),
    }
}

/// A pool's name, if it was given none: the file's, without its extension.
pub(crate) fn default_name(path: &Path) -> String {
    path.file_stem().map_or_else(|| "tenure".to_owned(), |stem| stem.to_string_lossy().into_owned())
}
