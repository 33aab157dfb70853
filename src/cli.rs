//! The command line: what the program can be asked to do, and what its exit codes mean.

mod export;
mod job;

use std::{io::Write, net::SocketAddr, process::ExitCode};

use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::{
    api::crds,
    app::{self, AppError, Settings},
    core::election::Timing,
    telemetry::logging::{self, Format, Level},
};

/// Keeps MySQL replication clusters available from within Kubernetes.
///
/// Exit codes: 0 done or stopped in order, 1 failed, 2 wrong usage, 3 leadership lost, 143 stopped by a
/// second signal.
#[derive(Debug, Parser)]
#[command(name = "baton", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the operator.
    Operator(Box<Operator>),
    /// Do what a Job of the operator does.
    #[command(subcommand)]
    Job(job::Job),
    /// Print the custom resource definitions as YAML.
    Crds,
}

/// How quickly a lost leader is replaced.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
#[value(rename_all = "PascalCase")]
enum LeaseTier {
    Fast,
    Standard,
    Relaxed,
}

impl LeaseTier {
    /// As the command line has it.
    fn word(self) -> &'static str {
        match self {
            Self::Fast => "Fast",
            Self::Standard => "Standard",
            Self::Relaxed => "Relaxed",
        }
    }

    fn timing(self) -> Timing {
        match self {
            Self::Fast => Timing::FAST,
            Self::Standard => Timing::MEDIUM,
            Self::Relaxed => Timing::SLOW,
        }
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum LogFormat {
    Auto,
    Json,
    Text,
}

impl From<LogFormat> for Format {
    fn from(wish: LogFormat) -> Self {
        match wish {
            LogFormat::Auto => Self::automatic(),
            LogFormat::Json => Self::Json,
            LogFormat::Text => Self::Text,
        }
    }
}

#[derive(Debug, clap::Args)]
struct Operator {
    /// Namespaces to serve, separated by commas; all when not given.
    #[arg(long, env = "BATON_NAMESPACES", value_delimiter = ',')]
    namespace: Vec<String>,
    /// Name of the Lease that decides who acts.
    #[arg(long, env = "BATON_LEASE_NAME", default_value = "baton")]
    lease_name: String,
    /// Namespace of the Lease.
    #[arg(long, env = "POD_NAMESPACE", default_value = "default")]
    lease_namespace: String,
    /// How quickly a lost leader is replaced: Fast within about 3 s, Standard 6 s, Relaxed 15 s.
    #[arg(long, env = "BATON_LEASE_TIER", default_value = "Fast", ignore_case = true)]
    lease_tier: LeaseTier,
    /// Where probes are served.
    #[arg(long, env = "BATON_HEALTH_ADDRESS", default_value = "0.0.0.0:8080")]
    health_address: SocketAddr,
    /// Where metrics are served.
    #[arg(long, env = "BATON_METRICS_ADDRESS", default_value = "0.0.0.0:9090")]
    metrics_address: SocketAddr,
    /// Where the log level is shown and changed (GET, PUT /log-level); keep it on the loopback address.
    #[arg(long, env = "BATON_ADMIN_ADDRESS", default_value = "127.0.0.1:8082")]
    admin_address: SocketAddr,
    /// Log level, for instance info or baton=debug,warn.
    #[arg(long, env = "BATON_LOG_LEVEL", default_value = "info")]
    log_level: String,
    /// How log lines look: json, text, or auto: text on a terminal and json elsewhere.
    #[arg(long, env = "BATON_LOG_FORMAT", default_value = "auto", ignore_case = true)]
    log_format: LogFormat,
    /// Name of this pod.
    #[arg(long, env = "POD_NAME", default_value = "baton")]
    pod_name: String,
    #[command(flatten)]
    jobs: job::Pods,
}

/// Reads the command line and does what it says.
#[must_use]
pub fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Crds => print_crds(),
        Command::Operator(operator) => run(*operator),
        Command::Job(job) => job::run(job),
    }
}

fn print_crds() -> ExitCode {
    match crds::render()
        .map_err(|error| error.to_string())
        .and_then(|text| std::io::stdout().lock().write_all(text.as_bytes()).map_err(|error| error.to_string()))
    {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error, 1),
    }
}

fn run(operator: Operator) -> ExitCode {
    let level = match operator.log_level.parse::<Level>() {
        Ok(level) => level,
        Err(error) => return fail(&error.to_string(), 2),
    };
    let level = match logging::start(&level, operator.log_format.into()) {
        Ok(control) => control,
        Err(error) => return fail(&error.to_string(), 1),
    };
    let settings = Settings {
        namespaces: operator.namespace.into_iter().filter(|name| !name.is_empty()).collect(),
        lease_name: operator.lease_name,
        lease_namespace: operator.lease_namespace,
        timing: operator.lease_tier.timing(),
        listen: [operator.health_address, operator.metrics_address].into(),
        admin: operator.admin_address,
        level,
        pod_name: operator.pod_name,
        jobs: operator.jobs.settings(operator.lease_tier),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error.to_string(), 1),
    };
    let stop = CancellationToken::new();
    let outcome = runtime.block_on(async {
        tokio::select! {
            outcome = app::run(settings, stop.clone()) => Some(outcome),
            () = second_signal(stop.clone()) => None,
        }
    });
    runtime.shutdown_background();
    match outcome {
        Some(Ok(())) => ExitCode::SUCCESS,
        Some(Err(error @ AppError::Lost(_))) => fail(&error.to_string(), 3),
        Some(Err(error)) => fail(&error.to_string(), 1),
        None => ExitCode::from(143),
    }
}

/// The first signal asks for an orderly stop; ends with the second.
async fn second_signal(stop: CancellationToken) {
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
        return std::future::pending().await;
    };
    for asked in [false, true] {
        let name = tokio::select! {
            _ = term.recv() => "SIGTERM",
            _ = int.recv() => "SIGINT",
        };
        if asked {
            return;
        }
        tracing::info!(signal = name, "{name}: stopping in order; a second signal ends at once");
        stop.cancel();
    }
}

/// Says what went wrong.
fn fail(error: &str, code: u8) -> ExitCode {
    let _unheard = writeln!(std::io::stderr(), "error: {error}");
    ExitCode::from(code)
}
