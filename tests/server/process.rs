//! The server as a child process.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::client::Client;

/// No step takes so long, unless it hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The settings of most tests. They are about what the server says and does, not about power cuts:
/// with `synchronous = "full"` they would spend their time waiting for the disk.
pub(crate) const SETTINGS: &str =
    "database = \"board.db\"\nname = \"board\"\nsynchronous = \"normal\"\n";

/// Brought up to date first: `cargo test --test server` alone does not build examples.
pub(crate) fn server_binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let test = std::env::current_exe().expect("the test has a path");
        let profile_directory = test.ancestors().nth(2).expect("it is in <profile>/deps");
        let binary = profile_directory.join("examples").join("server");
        let Some(cargo) = std::env::var_os("CARGO") else {
            assert!(binary.exists(), "no server at {binary:?}: run `cargo build --example server`");
            return binary;
        };
        let profile = profile_directory.file_name().expect("a profile").to_str().expect("a name");
        let profile = if profile == "debug" { "dev" } else { profile };
        let mut build = Command::new(cargo);
        build.current_dir(env!("CARGO_MANIFEST_DIR"));
        build.args(["build", "--quiet", "--example", "server", "--profile", profile]);
        if !cfg!(feature = "bundled") {
            build.arg("--no-default-features");
        }
        let built = build.status().expect("cargo can be run");
        assert!(built.success(), "the example server does not build");
        binary
    })
}

/// A server on a database of its own. It is killed when this is dropped.
pub(crate) struct Running {
    pub(crate) child: Child,
    pub(crate) address: String,
    pub(crate) lines: Receiver<String>,
    pub(crate) directory: TempDir,
}

impl Running {
    pub(crate) fn start(settings: &str, options: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let config = directory.path().join("pool.toml");
        std::fs::write(&config, settings).expect("the settings can be written");
        let log = File::create(directory.path().join("log")).expect("a log file");
        let mut child = Command::new(server_binary())
            .args(["--listen", "127.0.0.1:0", "--config"])
            .arg(&config)
            .args(options)
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("the server starts");
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let mut running = Self { child, address: String::new(), lines, directory };
        running.address = loop {
            let line = running.lines.recv_timeout(PATIENCE).expect("the server says where it is");
            if let Some((_, address)) = line.split_once("board     http://") {
                break address.trim_end_matches('/').to_owned();
            }
        };
        running
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.directory.path().join("board.db")
    }

    pub(crate) fn signal(&self) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status().expect("kill can be run");
        assert!(sent.success());
    }

    /// Waits for its end; returns how it ended and the last line that it printed.
    pub(crate) fn wait(&mut self) -> (ExitStatus, String) {
        let deadline = Instant::now() + PATIENCE;
        let mut last = String::new();
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => last = line,
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("the server does not end"),
            }
        }
        (self.child.wait().expect("it ended"), last)
    }

    /// Stops it, and checks that it leaves nothing behind. Returns how many requests it answered.
    pub(crate) fn stop(&mut self) -> u64 {
        self.signal();
        let (status, last) = self.wait();
        assert!(status.success(), "{status}");
        assert!(last.ends_with(" is closed"), "{last}");
        for suffix in ["-wal", "-shm"] {
            let left = self.directory.path().join(format!("board.db{suffix}"));
            assert!(!left.exists(), "{left:?} is left over");
        }
        let count = last.strip_prefix("stopped: ").and_then(|rest| rest.split(' ').next());
        count.and_then(|count| count.parse().ok()).unwrap_or_else(|| panic!("{last}"))
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(&self.address)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("the server's log:\n{}", self.log());
        }
    }
}
