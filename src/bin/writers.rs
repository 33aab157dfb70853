//! `baton-writers`: clients that write all the time and know afterwards what they were told. `run`
//! writes for a while into a file, `check` compares the file with a server, `serve` writes until it is
//! stopped and answers over HTTP (the demo runs it as a pod).
#![allow(clippy::print_stdout)]

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context, bail};
use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    routing::{get, post},
};
use baton::{
    core::id::ServerAddr,
    testing::{
        history::{History, Summary, Verdict},
        writers::{Config, Writers, check},
    },
};
use clap::{Args, Parser, Subcommand};
use serde::Serialize;
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{Instant, sleep},
};

/// Longest `run`.
const SECONDS_MAX: u64 = 3600;

#[derive(Parser)]
#[command(name = "baton-writers", about = "Writes rows to a MySQL cluster and remembers every outcome", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Writes for a while and puts the history into a file.
    Run {
        #[command(flatten)]
        target: Target,
        /// How long.
        #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=SECONDS_MAX))]
        seconds: u64,
        /// Ends earlier, as soon as this file exists.
        #[arg(long)]
        until_file: Option<PathBuf>,
        /// Where the history goes, as JSON.
        #[arg(long)]
        out: PathBuf,
    },
    /// Compares a history with the rows of the first address; fails when an acknowledged row is missing.
    Check {
        #[command(flatten)]
        target: Target,
        /// The history that `run` wrote.
        #[arg(long)]
        history: PathBuf,
    },
    /// Writes until stopped and answers on `/history`, `/history/full`, `/mark`, `/check` and `/healthz`.
    Serve {
        #[command(flatten)]
        target: Target,
        /// Where to listen.
        #[arg(long, default_value = "0.0.0.0:8080")]
        listen: SocketAddr,
    },
}

#[derive(Args)]
struct Target {
    /// Servers to try in order, as host:port; or one Service.
    #[arg(long, required = true, value_delimiter = ',')]
    addresses: Vec<ServerAddr>,
    /// How many writers.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=256))]
    writers: u32,
    /// Rows per second and writer; 0 for as many as possible.
    #[arg(long, default_value_t = 50)]
    rate: u32,
    /// Account.
    #[arg(long, default_value = "app", env = "BATON_WRITERS_USER")]
    user: String,
    /// Its password; better given in the environment.
    #[arg(long, default_value = "app", env = "BATON_WRITERS_PASSWORD", hide_env_values = true)]
    password: String,
    /// Database.
    #[arg(long, default_value = "app")]
    database: String,
}

impl Target {
    fn config(self) -> anyhow::Result<Config> {
        if !self.database.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            bail!("a database's name may have letters, digits and underscores only");
        }
        let Self { addresses, writers, rate, user, password, database } = self;
        Ok(Config { writers, rate, user, password, database, ..Config::new(addresses) })
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Run { target, seconds, until_file, out } => {
            run(target.config()?, Duration::from_secs(seconds), until_file, out).await
        }
        Command::Check { target, history } => check_file(&target.config()?, &history).await,
        Command::Serve { target, listen } => serve(target.config()?, listen).await,
    }
}

async fn run(config: Config, bound: Duration, until_file: Option<PathBuf>, out: PathBuf) -> anyhow::Result<()> {
    let writers = Writers::start(config).await?;
    let deadline = Instant::now() + bound;
    while Instant::now() < deadline && !until_file.as_ref().is_some_and(|path| path.exists()) {
        sleep(Duration::from_millis(50)).await;
    }
    let history = writers.stop().await;
    std::fs::write(&out, serde_json::to_vec(&history)?).with_context(|| format!("cannot write {}", out.display()))?;
    println!("{}", serde_json::to_string_pretty(&history.summary())?);
    Ok(())
}

async fn check_file(config: &Config, path: &PathBuf) -> anyhow::Result<()> {
    let text = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let history: History = serde_json::from_slice(&text).with_context(|| format!("no history: {}", path.display()))?;
    let addr = config.addresses.first().context("no address to check")?;
    let verdict = check(config, addr, &history).await?;
    println!("{}", serde_json::to_string_pretty(&verdict)?);
    if !verdict.lost.is_empty() {
        bail!("{} acknowledged rows are missing", verdict.lost.len());
    }
    Ok(())
}

/// What the handlers share.
struct Served {
    writers: Writers,
    first: ServerAddr,
}

#[derive(Serialize)]
struct Marked {
    at_us: u64,
}

async fn serve(config: Config, listen: SocketAddr) -> anyhow::Result<()> {
    let first = config.addresses.first().context("no address to write to")?.clone();
    let served = Arc::new(Served { writers: Writers::start(config).await?, first });
    let router = Router::new()
        .route("/healthz", get(|| async { "ok" }))
        .route("/history", get(|State(served): State<Arc<Served>>| async move { Json(summary(&served)) }))
        .route("/history/full", get(|State(served): State<Arc<Served>>| async move { Json(served.writers.history()) }))
        .route("/mark", post(mark))
        .route("/check", post(check_live))
        .with_state(served);
    let listener = tokio::net::TcpListener::bind(listen).await.with_context(|| format!("cannot listen on {listen}"))?;
    let mut terminate = signal(SignalKind::terminate())?;
    axum::serve(listener, router).with_graceful_shutdown(async move { terminate.recv().await.unwrap_or(()) }).await?;
    Ok(())
}

fn summary(served: &Served) -> Summary {
    served.writers.history().summary()
}

/// Remembers the text of the request, and answers when that was.
async fn mark(State(served): State<Arc<Served>>, what: String) -> Result<Json<Marked>, StatusCode> {
    if what.len() > 200 {
        return Err(StatusCode::PAYLOAD_TOO_LARGE);
    }
    Ok(Json(Marked { at_us: served.writers.mark(what.trim()) }))
}

/// Compares with the server that the request names, or with the first address.
async fn check_live(State(served): State<Arc<Served>>, address: String) -> Result<Json<Verdict>, (StatusCode, String)> {
    let addr = match address.trim() {
        "" => served.first.clone(),
        text => text.parse().map_err(|error| (StatusCode::BAD_REQUEST, format!("{error}\n")))?,
    };
    let verdict = served.writers.check_now(&addr).await;
    verdict.map(Json).map_err(|error| (StatusCode::BAD_GATEWAY, format!("{:#}\n", anyhow::Error::from(error))))
}
