//! The worker programs: built with cargo when they are not there or not fresh.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

use crate::variant::{Program, Variant};

/// The versions that a program links, by package.
pub(crate) type Versions = Vec<(String, String)>;

/// What `libsqlite3-sys` has set up to 0.38, and does not since.
const SHARED_CACHE: &str = "-DSQLITE_ENABLE_MEMORY_MANAGEMENT";

#[derive(Debug, Default)]
pub(crate) struct Programs {
    paths: BTreeMap<Program, PathBuf>,
    versions: BTreeMap<Program, Versions>,
}

impl Programs {
    /// Builds what `variants` run in. One build at a time, before anything is measured.
    pub(crate) fn build(&mut self, variants: impl Iterator<Item = Variant>) -> anyhow::Result<()> {
        for program in variants.map(|variant| variant.program).collect::<BTreeSet<_>>() {
            let path = match program {
                Program::Own => env::current_exe()?,
                Program::Sqlx => build("sqlx", "worker-sqlx", "peers", None)?,
                Program::AsyncSqlite => {
                    build("async_sqlite", "worker-async-sqlite", "peers", None)?
                }
                Program::AsyncSqliteShared => build(
                    "async_sqlite",
                    "worker-async-sqlite",
                    "peers-shared",
                    Some(SHARED_CACHE),
                )?,
            };
            self.paths.insert(program, path);
        }
        Ok(())
    }

    pub(crate) fn command(&self, variant: Variant) -> anyhow::Result<Command> {
        let path = self.paths.get(&variant.program).context("the program was not built")?;
        let mut command = Command::new(path);
        if variant.program == Program::Own {
            command.args(["worker", variant.name]);
        }
        Ok(command)
    }

    pub(crate) fn note_versions(&mut self, program: Program, versions: Versions) {
        self.versions.insert(program, versions);
    }

    pub(crate) fn versions(&self) -> &BTreeMap<Program, Versions> {
        &self.versions
    }
}

/// `flags` = for the build of SQLite, instead of those of the environment.
fn build(
    directory: &str,
    binary: &str,
    target: &str,
    flags: Option<&str>,
) -> anyhow::Result<PathBuf> {
    // Beside this program's own directory in the target directory, wherever that is.
    let own = env::current_exe()?;
    let target = own
        .parent()
        .and_then(Path::parent)
        .context("this program is not in a target directory")?
        .join(target);
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join(directory).join("Cargo.toml");
    eprintln!("building {binary}");
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    if let Some(flags) = flags {
        command.env("LIBSQLITE3_FLAGS", flags);
    }
    let status = command
        .args(["build", "--release", "--locked", "--quiet", "--manifest-path"])
        .arg(&manifest)
        .arg("--target-dir")
        .arg(&target)
        .status()
        .context("cargo cannot be run")?;
    ensure!(status.success(), "{} cannot be built", manifest.display());
    Ok(target.join("release").join(binary).with_extension(env::consts::EXE_EXTENSION))
}
