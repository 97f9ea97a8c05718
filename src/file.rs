//! The database file: where it is, whether it can be one, and creating it.
//!
//! The crate never opens an existing database file itself: closing any descriptor of it would cancel
//! all the locks that this process holds on it (SQLite, "How To Corrupt", 2.2). It looks with `stat`,
//! `statfs` and `access`, which need no descriptor, and leaves the rest to SQLite. A new file is made
//! readable and writable for its owner only, under a temporary name, and gets its own name when its
//! descriptor is closed already.
//!
//! SQLite answers most of what is looked for here with one error, "unable to open database file", and
//! some of it with nothing at all until the data is gone.

use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;
use tempfile::NamedTempFile;

use crate::config::{Access, ConfigError, PoolConfig};
use crate::error::{BoxError, ConnectError, FileProblem, OpenError};

/// SQLite has room for 512 bytes there, and appends the name of a companion.
const LONGEST_PATH: Option<usize> = if cfg!(unix) { Some(504) } else { None };

/// What SQLite keeps beside a database.
const COMPANIONS: [&str; 3] = ["-wal", "-shm", "-journal"];

/// The longest name of a pool, in characters.
const LONGEST_NAME: usize = 64;

/// Where SQLite looks for what belongs to the database at `path`.
pub(crate) fn companions(path: &Path) -> impl Iterator<Item = PathBuf> {
    COMPANIONS.iter().map(move |suffix| {
        let mut companion = path.as_os_str().to_owned();
        companion.push(suffix);
        companion.into()
    })
}

fn is_in_memory(path: &Path) -> bool {
    let name = path.as_os_str().as_encoded_bytes().trim_ascii();
    name.is_empty() || name == b":memory:"
}

fn is_uri(path: &Path) -> bool {
    let name = path.as_os_str().as_encoded_bytes();
    [&b"file:"[..], b"sqlite:"].iter().any(|scheme| name.starts_with(scheme))
}

/// Whether it is a name of another kind than a file's, which is to be refused as it stands.
pub(crate) fn is_no_file(path: &Path) -> bool {
    is_in_memory(path) || is_uri(path)
}

/// Whether SQLite would take what is at this path for its own, of a database that is beside it.
pub(crate) fn is_companion(path: &Path) -> bool {
    let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
    let mut databases = COMPANIONS.iter().filter_map(|suffix| name.strip_suffix(suffix));
    databases.any(|database| path.with_file_name(database).exists())
}

/// The absolute path of the file, which exists and looks usable when this returns.
pub(crate) fn locate(config: &PoolConfig) -> Result<PathBuf, OpenError> {
    let path = config.database.as_deref().ok_or_else(ConfigError::no_database)?;
    if is_in_memory(path) {
        return Err(OpenError::InMemory);
    }
    if is_uri(path) {
        return Err(problem(path, FileProblem::Uri));
    }
    if path.as_os_str().as_encoded_bytes().contains(&0) {
        return Err(problem(path, FileProblem::NulByte));
    }
    match fs::metadata(path) {
        Ok(metadata) => check(path, &metadata)?,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            if fs::symlink_metadata(path).is_ok() {
                return Err(problem(path, FileProblem::DanglingLink));
            }
            if !config.create || config.access == Access::ReadOnly {
                return Err(problem(path, FileProblem::Missing));
            }
            create(path)?;
        }
        Err(error) => return Err(refused(path, error)),
    }
    let path = fs::canonicalize(path).map_err(|error| refused(path, error))?;
    check_length(&path)?;
    check_place(&path, config.access)?;
    Ok(path)
}

/// What opening the first connection has shown of the file, if it is that.
pub(crate) fn problem_shown_by(error: &ConnectError) -> Option<FileProblem> {
    let (ConnectError::Open { source } | ConnectError::Setting { source, .. }) = error else {
        return None;
    };
    match source.sqlite_error_code()? {
        ErrorCode::NotADatabase => Some(FileProblem::NotADatabase),
        ErrorCode::DatabaseCorrupt => Some(FileProblem::Damaged),
        ErrorCode::PermissionDenied | ErrorCode::ReadOnly => Some(FileProblem::Forbidden),
        _ => None,
    }
}

/// Whether SQLite could not open a file because the process has too many: it does not say so. What the
/// system says of it; nothing where it cannot be asked.
pub(crate) fn no_descriptor_left() -> Option<std::io::Error> {
    // A copy of another descriptor: to open the database and close it would give up SQLite's locks.
    #[cfg(unix)]
    return unix::no_descriptor_left();
    #[cfg(not(unix))]
    None
}

/// A pool's name, if it was given none: the file's, without its extension and as far as a name goes.
pub(crate) fn default_name(path: &Path) -> String {
    let stem = path.file_stem().map(OsStr::to_string_lossy);
    stem.map_or_else(|| "tenure".to_owned(), |stem| stem.chars().take(LONGEST_NAME).collect())
}

fn check(path: &Path, metadata: &Metadata) -> Result<(), OpenError> {
    if metadata.is_dir() {
        return Err(problem(path, FileProblem::Directory));
    }
    if !metadata.is_file() {
        return Err(problem(path, FileProblem::NotAFile));
    }
    #[cfg(unix)]
    if std::os::unix::fs::MetadataExt::nlink(metadata) > 1 {
        return Err(problem(path, FileProblem::HardLinked));
    }
    Ok(())
}

fn check_place(path: &Path, access: Access) -> Result<(), OpenError> {
    for companion in companions(path) {
        if fs::symlink_metadata(companion).is_ok_and(|found| !found.is_file()) {
            return Err(problem(path, FileProblem::CompanionInTheWay));
        }
    }
    #[cfg(unix)]
    unix::check(path, access)?;
    #[cfg(not(unix))]
    let _ = access;
    Ok(())
}

/// Of a path without links, as SQLite is given it.
fn check_length(path: &Path) -> Result<(), OpenError> {
    match LONGEST_PATH {
        Some(longest) if path.as_os_str().len() > longest => {
            Err(problem(path, FileProblem::TooLong))
        }
        _ => Ok(()),
    }
}

fn create(path: &Path) -> Result<(), OpenError> {
    let directory = directory_of(path);
    if !directory.is_dir() {
        return Err(problem(path, FileProblem::MissingDirectory));
    }
    if let (Ok(place), Some(name)) = (fs::canonicalize(directory), path.file_name()) {
        check_length(&place.join(name))?;
    }
    let made = NamedTempFile::new_in(directory).map_err(|error| refused(path, error))?;
    match made.into_temp_path().persist_noclobber(path) {
        Ok(()) => Ok(()),
        // Somebody else was quicker; theirs is as good.
        Err(error) if error.error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(refused(path, error.error)),
    }
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn problem(path: &Path, problem: FileProblem) -> OpenError {
    OpenError::File { path: path.to_owned(), problem, source: None }
}

fn refused(path: &Path, error: io::Error) -> OpenError {
    let problem = match error.kind() {
        ErrorKind::PermissionDenied => FileProblem::Forbidden,
        ErrorKind::ReadOnlyFilesystem => FileProblem::ReadOnlyFileSystem,
        // A part of the path is a file.
        ErrorKind::NotADirectory => FileProblem::MissingDirectory,
        _ => FileProblem::Other,
    };
    OpenError::File { path: path.to_owned(), problem, source: Some(BoxError::from(error)) }
}

#[cfg(unix)]
mod unix {
    use std::io;
    use std::os::fd::AsFd;
    use std::path::Path;

    use rustix::fs::{self, Access as Permission};

    use super::{directory_of, problem, refused};
    use crate::config::Access;
    use crate::error::{FileProblem, OpenError};

    pub(super) fn check(path: &Path, access: Access) -> Result<(), OpenError> {
        let asked = match access {
            Access::ReadWrite => Permission::READ_OK | Permission::WRITE_OK,
            Access::ReadOnly => Permission::READ_OK,
        };
        fs::access(path, asked).map_err(|error| refused(path, error.into()))?;
        if access == Access::ReadWrite {
            // For the journal.
            let directory = fs::access(directory_of(path), Permission::WRITE_OK);
            directory.map_err(|error| refused(path, error.into()))?;
        }
        #[cfg(target_os = "linux")]
        if fs::statfs(path).is_ok_and(|found| super::is_network(found.f_type as u64)) {
            return Err(problem(path, FileProblem::NetworkFileSystem));
        }
        #[cfg(not(target_os = "linux"))]
        let _ = (problem, FileProblem::NetworkFileSystem);
        Ok(())
    }

    pub(super) fn no_descriptor_left() -> Option<io::Error> {
        let error = io::stderr().as_fd().try_clone_to_owned().err()?;
        let too_many = rustix::io::Errno::MFILE.raw_os_error();
        (error.raw_os_error() == Some(too_many)).then_some(error)
    }
}

/// Whether `statfs` has named a file system that other machines share, by the numbers in statfs(2).
#[cfg(target_os = "linux")]
fn is_network(kind: u64) -> bool {
    const AFS: u64 = 0x5346_414f;
    const CEPH: u64 = 0x00c3_6400;
    const CIFS: u64 = 0xff53_4d42;
    const NCP: u64 = 0x564c;
    const NFS: u64 = 0x6969;
    const SMB: u64 = 0x517b;
    const SMB2: u64 = 0xfe53_4d42;
    // The field is signed and 32 bits wide in places.
    [AFS, CEPH, CIFS, NCP, NFS, SMB, SMB2].contains(&(kind & 0xffff_ffff))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #[test]
    fn network_file_systems_are_told_from_local_ones() {
        let signed = i64::from(0xff53_4d42_u32 as i32) as u64;
        for network in [0x6969, 0x517b, 0xff53_4d42, signed] {
            assert!(super::is_network(network), "{network:#x}");
        }
        // ext4, tmpfs, btrfs, xfs, overlayfs.
        for local in [0xef53, 0x0102_1994, 0x9123_683e, 0x5846_5342, 0x794c_7630] {
            assert!(!super::is_network(local), "{local:#x}");
        }
    }
}
