//! A task board: a thread-pool HTTP server on a SQLite file.
//!
//! `cargo run --release --example server` starts it; `--help` says what else it can do. Tasks are
//! created, claimed by workers for a time, and completed; a task can depend on others. Sixteen
//! threads answer requests and share one pool. Each borrows a connection for as long as its request
//! needs it, and the compiler sees to it that no two ever use the same one.
//!
//! | module | |
//! |---|---|
//! | `board` | what can be done with tasks: all the SQL |
//! | `task` | what a task is, and what clients may say about one |
//! | `http`, `route`, `answer`, `page` | from requests to answers |
//! | `serve`, `nudge` | the threads |
//! | `metrics` | what is counted |
//! | `demo` | clients to watch it with |
//! | `drill` | faults to watch it with |
//!
//! There is no authentication, and slow clients are not cut off: it is meant for the local machine, or
//! for a place behind a proxy that does both.

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, ensure};
use clap::Parser;
use crossbeam_channel::{Receiver, Sender, never, select, tick};
use signal_hook::consts::{SIGINT, SIGTERM};
use tenure::{Pool, PoolConfig};
use tiny_http::{ConfigListenAddr, Server, ServerConfig};
use tracing_subscriber::EnvFilter;

use self::drill::{Drill, Until};

#[path = "server/answer.rs"]
mod answer;
#[path = "server/board.rs"]
mod board;
#[path = "server/demo.rs"]
mod demo;
#[path = "server/drill.rs"]
mod drill;
#[path = "server/http.rs"]
mod http;
#[path = "server/metrics.rs"]
mod metrics;
#[path = "server/nudge.rs"]
mod nudge;
#[path = "server/page.rs"]
mod page;
#[path = "server/route.rs"]
mod route;
#[path = "server/serve.rs"]
mod serve;
#[path = "server/task.rs"]
mod task;

const EXAMPLES: &str = "\
Examples:
  server                              serve on http://127.0.0.1:8080/
  server --demo 10                    drive itself for ten seconds, then stop
  server --listen 127.0.0.1:0         take any free port, and print it
  server --database /tmp/board.db     keep the tasks in another file
  server --drill leak,deadlock        make faults, to see alerts and dashboards show them
  RUST_LOG=debug server               log every request

  curl -d '{\"title\": \"Water the plants\"}' http://127.0.0.1:8080/tasks
  curl -d '{\"worker\": \"anna\"}' http://127.0.0.1:8080/claim
  curl -d '{\"worker\": \"anna\", \"result\": \"watered\"}' http://127.0.0.1:8080/tasks/1/complete
  curl 'http://127.0.0.1:8080/tasks?state=done&limit=10'

Ctrl-C or SIGTERM stops it when all requests that have arrived are answered; a second one, at once.";

/// A task board on SQLite, served by a pool of threads.
#[derive(Debug, Parser)]
#[command(name = "server", version, after_help = EXAMPLES)]
struct Options {
    /// The settings of the pool [default: examples/pool.toml of this crate]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Where to listen; port 0 takes any free port
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,

    /// The database file, created when missing [default: as the settings say]
    #[arg(long, value_name = "FILE")]
    database: Option<PathBuf>,

    /// Threads that answer requests
    #[arg(long, value_name = "N", default_value_t = 16,
          value_parser = clap::value_parser!(u16).range(1..=1024))]
    workers: u16,

    /// Requests that may wait for a worker; more are answered 503
    #[arg(long, value_name = "N", default_value_t = 256)]
    queue: u16,

    /// Open expired claims again so often; 0 = only when POST /reclaim says so
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    reclaim_every: u32,

    /// Put load on itself and print what it does; without SECONDS until it is stopped
    #[arg(long, value_name = "SECONDS", num_args = 0..=1)]
    demo: Option<Option<u64>>,

    /// Make these faults until it is stopped, to see alerts and dashboards show them
    #[arg(long, value_name = "FAULTS", value_delimiter = ',')]
    drill: Vec<Drill>,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> anyhow::Result<()> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    let stop = stop_on_signals()?;

    // Before the pool is opened: it would record into nothing.
    let exporter = metrics::install()?;
    let server = listen(options.listen)?;
    let address = server.server_addr().to_string();
    let (config, config_file) = configuration(options)?;
    let pool = board::open(config).context("cannot open the database")?;
    let database = pool.config().database.clone().unwrap_or_default();
    print_places(&address, &database, &config_file);

    let (jobs, queue) = crossbeam_channel::bounded(usize::from(options.queue));
    let workers = usize::from(options.workers);
    let started = Instant::now();
    let app = http::App { pool, exporter, address, started, workers, queue };
    tracing::info!(address = app.address, workers, "started");

    let (keep, kept) = crossbeam_channel::bounded(0);
    let answered = thread::scope(|scope| -> anyhow::Result<u64> {
        spawn(scope, "upkeep", || keep_up(&app, options.reclaim_every, &kept))?;
        if !options.drill.is_empty() {
            drill::set_up(&app.pool).context("cannot set up the drill")?;
        }
        let (app, stop, kept) = (&app, &stop, &kept);
        for drill in &options.drill {
            spawn(scope, "drill", move || drill.run(&app.pool, Until(kept)))?;
        }
        let demo = options.demo.map(|seconds| {
            spawn(scope, "demo", move || {
                demo::run(&app.address, &app.pool, seconds, stop);
                stop.store(true, Ordering::Relaxed);
            })
        });
        let demo = demo.transpose()?;
        // The demo's clients go first: they wait for their answers.
        let ended = || {
            let demo_ended = demo.as_ref().is_none_or(ScopedJoinHandle::is_finished);
            demo_ended && stop.load(Ordering::Relaxed)
        };
        let answered = serve::serve(&server, app, jobs, ended);
        // Also when it has ended by itself, in an error.
        stop.store(true, Ordering::Relaxed);
        drop::<Sender<()>>(keep);
        answered.context("no connections can be accepted any more")
    })?;

    // The last connection to close writes the WAL back into the database and removes it.
    drop(app);
    tracing::info!(answered, "stopped");
    let mut wal = database.clone().into_os_string();
    wal.push("-wal");
    let left_over = PathBuf::from(wal).exists();
    let state = if left_over { "still open elsewhere" } else { "closed" };
    println!("stopped: {answered} requests answered, {} is {state}", database.display());
    Ok(())
}

/// The first signal asks the server to stop, a second one ends the process.
fn stop_on_signals() -> anyhow::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // In this order: at the first signal, nothing has been asked yet.
        signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(&stop))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&stop)))
            .context("cannot handle signals")?;
    }
    Ok(stop)
}

fn listen(address: SocketAddr) -> anyhow::Result<Server> {
    let config = ServerConfig { addr: ConfigListenAddr::IP(vec![address]), ssl: None };
    Server::new(config).map_err(|error| {
        anyhow!(
            "cannot listen on {address}: {error}; stop what listens there, or choose another place \
             with --listen, for instance --listen 127.0.0.1:0 for any free port"
        )
    })
}

fn configuration(options: &Options) -> anyhow::Result<(PoolConfig, PathBuf)> {
    let default = || Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join("pool.toml");
    let file = options.config.clone().unwrap_or_else(default);
    let mut config = PoolConfig::from_file(&file)?;
    if let Some(database) = &options.database {
        config.database = Some(database.clone());
    }
    ensure!(
        config.database.is_some(),
        "{} names no database; add `database = \"board.db\"` to it, or use --database FILE",
        file.display()
    );
    Ok((config, file))
}

fn print_places(address: &str, database: &Path, config: &Path) {
    println!("board     http://{address}/");
    println!("metrics   http://{address}/metrics");
    println!("status    http://{address}/status");
    println!("health    http://{address}/healthz");
    println!("database  {}", database.display());
    println!("settings  {}", config.display());
    println!("Ctrl-C stops it.");
}

fn spawn<'scope, 'env>(
    scope: &'scope Scope<'scope, 'env>,
    name: &str,
    work: impl FnOnce() + Send + 'scope,
) -> anyhow::Result<ScopedJoinHandle<'scope, ()>> {
    let thread = thread::Builder::new().name(name.to_owned()).spawn_scoped(scope, work);
    thread.with_context(|| format!("cannot start the thread {name}"))
}

/// What has to be done now and then, until `kept` is closed.
fn keep_up(app: &http::App, reclaim_every: u32, kept: &Receiver<()>) {
    let reclaim = match reclaim_every {
        0 => never(),
        seconds => tick(Duration::from_secs(seconds.into())),
    };
    loop {
        select! {
            recv(kept) -> _ => return,
            recv(reclaim) -> _ => reclaim_expired(&app.pool),
        }
    }
}

/// Looks first, so that a board on which nothing happens is not written to.
fn reclaim_expired(pool: &Pool) {
    let reclaimed = board::has_expired_claims(pool)
        .and_then(|expired| if expired { board::reclaim(pool) } else { Ok(0) });
    match reclaimed {
        Ok(0) => {}
        Ok(tasks) => tracing::info!(tasks, "reopened tasks whose claims had expired"),
        Err(error) => tracing::warn!(%error, "expired claims could not be looked for"),
    }
}
