//! A path that cannot be a database is refused with its own reason and remedy, and nothing is touched.

use std::fs;
use std::path::Path;

use tenure::rusqlite::Connection;
use tenure::{Access, FileProblem, OpenError, Pool};

/// The text of the error, with the directory of the test written as `DIR`.
fn refused(path: impl AsRef<Path>) -> String {
    text(Pool::open(path))
}

fn text(result: Result<Pool, OpenError>) -> String {
    let text = result.unwrap_err().to_string();
    let Some(start) = text.find("\"/") else { return text };
    let end = text[start..].find("\" ").map_or(text.len(), |end| start + end);
    let name = text[start..end].rsplit('/').next().unwrap_or_default().to_owned();
    format!("{}\"DIR/{name}{}", &text[..start], &text[end..])
}

fn directory() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn what_is_no_path_of_a_file() {
    let in_memory = "an in-memory database cannot be pooled: every connection would see another, \
                     empty one; for tests use tenure::testing::temporary(), a file that deletes itself";
    assert_eq!(refused(""), in_memory);
    assert_eq!(refused(":memory:"), in_memory);
    assert_eq!(refused(" "), in_memory);
    assert_eq!(refused(" :memory:"), in_memory);
    let nul =
        "the database file \"a\\0b\" has a NUL byte in its path; look at where the path comes from";
    assert_eq!(refused("a\0b"), nul);
    let uri = "is given as a URI, which is not interpreted here; give the path alone, and what the URI \
               asks for as settings of the pool (\"./file:..\" is a file of that name)";
    for path in ["file:app.db?mode=ro", "file::memory:?cache=shared", "sqlite://app.db"] {
        assert_eq!(
            Pool::open(path).unwrap_err().to_string(),
            format!("the database file {path:?} {uri}")
        );
        assert!(!Path::new(path).exists());
    }
}

#[test]
fn nor_is_it_one_beside_a_configuration_file() {
    let dir = directory();
    let config = dir.path().join("pool.toml");
    for name in ["", ":memory:", "file:app.db?mode=ro", "file::memory:?cache=shared"] {
        fs::write(&config, format!("database = '{name}'")).unwrap();
        let error = Pool::from_config_file(&config).unwrap_err().to_string();
        assert_eq!(error, Pool::open(name).unwrap_err().to_string());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "{name}");
    }
}

#[test]
fn what_the_system_says_is_in_the_text() {
    let dir = directory();
    let says = refused(dir.path().join("x".repeat(300)));
    assert!(says.contains("cannot be used (File name too long"), "{says}");
}

#[test]
fn what_is_too_long_for_sqlite() {
    let dir = directory();
    let deep = dir.path().join("d".repeat(200)).join("d".repeat(200));
    fs::create_dir_all(&deep).unwrap();
    let length = |name: usize| deep.as_os_str().len() + 1 + name;
    let longest = 504 - length(0);
    let says = refused(deep.join("x".repeat(longest + 1)));
    assert!(says.contains("a longer path than SQLite takes"), "{says}");
    assert_eq!(fs::read_dir(&deep).unwrap().count(), 0, "something was created");
    Pool::open(deep.join("x".repeat(longest))).unwrap();
    // What counts is where it is, and not how that is said.
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(&deep, &link).unwrap();
    let says = refused(link.join("x".repeat(longest + 1)));
    assert!(says.contains("a longer path than SQLite takes"), "{says}");
    Pool::open(dir.path().join(format!("{}short", "./".repeat(300)))).unwrap();
}

#[test]
fn what_is_not_there() {
    let dir = directory();
    let missing = Pool::builder().create(false).database(dir.path().join("app.db")).open();
    let says = "the database file \"DIR/app.db\" does not exist; create it, or open the pool with \
                `create = true` and `access = \"read-write\"`";
    assert_eq!(text(missing), says);
    let builder = Pool::builder().access(Access::ReadOnly).database(dir.path().join("app.db"));
    assert_eq!(text(builder.open()), says);

    let says = "the database file \"DIR/app.db\" cannot be created: its directory does not exist; \
                create the directory first";
    assert_eq!(refused(dir.path().join("missing/app.db")), says);
    fs::write(dir.path().join("file"), "").unwrap();
    assert_eq!(refused(dir.path().join("file/app.db")), says);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "something was created");
}

#[test]
fn what_is_not_a_regular_file() {
    let dir = directory();
    fs::create_dir(dir.path().join("sub")).unwrap();
    let says = "the database file \"DIR/sub\" is a directory; give the path of a file in it";
    assert_eq!(refused(dir.path().join("sub")), says);
    #[cfg(unix)]
    {
        let says = "the database file \"DIR/null\" is not a regular file; give the path of a database file";
        assert_eq!(refused("/dev/null"), says);
    }
}

#[cfg(unix)]
#[test]
fn links() {
    let dir = directory();
    let (file, link) = (dir.path().join("app.db"), dir.path().join("link.db"));
    std::os::unix::fs::symlink(&file, &link).unwrap();
    let says = "the database file \"DIR/link.db\" is a symbolic link to a file that does not exist; \
                create that file, or remove the link";
    assert_eq!(refused(&link), says);

    drop(Pool::open(&file).unwrap());
    let pool = Pool::open(&link).unwrap();
    let opened = pool.read().unwrap().rusqlite().path().unwrap().to_owned();
    assert!(opened.ends_with("app.db"), "a link to a file is followed: {opened}");
    drop(pool);

    fs::hard_link(&file, dir.path().join("other.db")).unwrap();
    let says = "the database file \"DIR/app.db\" has more than one name (hard links), of which SQLite's \
                journal would follow only one; keep one of them";
    assert_eq!(refused(&file), says);
}

#[test]
fn what_stands_in_the_way_of_the_journal() {
    let dir = directory();
    let file = dir.path().join("app.db");
    drop(Pool::open(&file).unwrap());
    for companion in ["app.db-wal", "app.db-shm", "app.db-journal"] {
        fs::create_dir(dir.path().join(companion)).unwrap();
        let says = "the database file \"DIR/app.db\" has something beside it, called like its `-wal`, \
                    `-shm` or `-journal`, that is not a regular file; move that away";
        assert_eq!(refused(&file), says, "{companion}");
        fs::remove_dir(dir.path().join(companion)).unwrap();
    }
    assert!(Pool::open(&file).is_ok());
}

#[test]
fn what_is_no_database_or_a_damaged_one_is_left_as_it_is() {
    let dir = directory();
    let file = dir.path().join("app.db");
    let no_database = "the database file \"DIR/app.db\" is not a SQLite database, or is encrypted; give \
                       another path, or give the key in `on_connect`";
    let damaged = "the database file \"DIR/app.db\" is a damaged database; restore a backup, or save \
                   what can be read with `.recover` of the sqlite3 shell";

    let connection = Connection::open(&file).unwrap();
    connection.execute_batch("CREATE TABLE task (title TEXT)").unwrap();
    connection.close().unwrap();
    let whole = fs::read(&file).unwrap();
    let mut bad_page = whole.clone();
    // The type of the first page's tree.
    bad_page[100] = 0xff;

    let cases = [
        (b"a text of some length, not a database ".repeat(40), no_database),
        ((0..8192_u32).map(|n| (n * 31 % 251) as u8).collect(), no_database),
        (bad_page, damaged),
    ];
    for (content, says) in cases {
        fs::write(&file, &content).unwrap();
        assert_eq!(refused(&file), says);
        assert_eq!(fs::read(&file).unwrap(), content, "the file was touched");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "something was created");
    }
}

#[test]
fn a_file_of_no_length_becomes_a_database() {
    let dir = directory();
    let file = dir.path().join("app.db");
    fs::write(&file, "").unwrap();
    let pool = Pool::open(&file).unwrap();
    pool.write().unwrap().execute_batch("CREATE TABLE task (title TEXT)").unwrap();
}

/// What `who_may_not` runs as a user who may not do everything.
#[cfg(target_os = "linux")]
#[test]
#[ignore = "started by who_may_not"]
fn as_another_user() {
    let Ok(path) = std::env::var("TENURE_TEST_DATABASE") else { return };
    match Pool::open(path) {
        Err(OpenError::File { problem: FileProblem::Forbidden, .. }) => {}
        other => panic!("{other:?}"),
    }
}

#[cfg(target_os = "linux")]
#[test]
fn who_may_not() {
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::process::CommandExt as _;

    let dir = directory();
    let set = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    let file = dir.path().join("app.db");
    drop(Pool::open(&file).unwrap());
    // Another user may look into the directory, read the file, and do nothing else.
    for (directory_mode, file_mode) in [(0o755, 0o600), (0o755, 0o644), (0o555, 0o666)] {
        set(dir.path(), directory_mode);
        set(&file, file_mode);
        // The test's own executable may lie where that user cannot see it.
        let program = dir.path().join("test");
        set(dir.path(), 0o755);
        if !program.exists() {
            fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
        }
        set(dir.path(), directory_mode);
        let mut command = std::process::Command::new(&program);
        command.args(["--exact", "paths::as_another_user", "--ignored"]);
        command.env("TENURE_TEST_DATABASE", &file).current_dir("/");
        if rustix::process::geteuid().is_root() {
            command.uid(65534).gid(65534);
        }
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("1 passed"), "{file_mode:o}: {said}");
        set(dir.path(), 0o755);
    }
}
