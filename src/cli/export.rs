//! `baton job export`: everything comes from the environment, so that no password shows in a list of processes.

use std::{env, fs, path::PathBuf, process::ExitCode, time::Duration};

use clap::{Args, ValueEnum};
use secrecy::SecretString;

use super::fail;
use crate::{
    app::export::{self, Order},
    core::{gtid::GtidSet, id::ServerAddr},
    mysql::options::{Account, Pem, Tls, TlsMode},
    telemetry::logging::{self, Format, Level},
};

/// How far TLS goes, as `spec.tls.mode` says it.
#[derive(Debug, Clone, Copy, ValueEnum)]
#[value(rename_all = "PascalCase")]
enum Mode {
    Disabled,
    Preferred,
    Required,
    #[value(name = "VerifyCA")]
    VerifyCa,
    VerifyIdentity,
}

impl From<Mode> for TlsMode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Disabled => Self::Disabled,
            Mode::Preferred => Self::Preferred,
            Mode::Required => Self::Required,
            Mode::VerifyCa => Self::VerifyCa,
            Mode::VerifyIdentity => Self::VerifyIdentity,
        }
    }
}

/// The account is in BATON_USERNAME and BATON_PASSWORD.
#[derive(Debug, Args)]
pub(super) struct Export {
    /// The server, as host:port.
    #[arg(long, env = "BATON_SERVER")]
    server: ServerAddr,
    /// The transactions, as a GTID set; MariaDB: domain-server:first-last.
    #[arg(long, env = "BATON_EXTRA")]
    extra: GtidSet,
    /// The cluster, as namespace/name.
    #[arg(long, env = "BATON_CLUSTER", default_value = "")]
    cluster: String,
    /// The failover that left them behind.
    #[arg(long, env = "BATON_RECORD", default_value = "")]
    record: String,
    /// The folder to save them in.
    #[arg(long, env = "BATON_FOLDER")]
    folder: PathBuf,
    /// Name of the files, without their endings.
    #[arg(long, env = "BATON_FILE")]
    file: String,
    /// Longest time it may take, in seconds.
    #[arg(long, env = "BATON_DEADLINE_SECONDS", default_value = "3600")]
    deadline_seconds: u64,
    /// How far TLS goes.
    #[arg(long, env = "BATON_TLS_MODE", default_value = "Preferred")]
    tls_mode: Mode,
    /// File with the authority's certificates.
    #[arg(long, env = "BATON_TLS_CA")]
    tls_ca: Option<PathBuf>,
    /// File with the client's certificate; with the file of its key.
    #[arg(long, env = "BATON_TLS_CERTIFICATE", requires = "tls_key")]
    tls_certificate: Option<PathBuf>,
    /// File with the client's key.
    #[arg(long, env = "BATON_TLS_KEY", requires = "tls_certificate")]
    tls_key: Option<PathBuf>,
    /// Name that the server's certificate is made out to, where that is not its host.
    #[arg(long, env = "BATON_TLS_NAME")]
    tls_name: Option<String>,
}

pub(super) fn run(export: Export) -> ExitCode {
    let level: Result<Level, _> = "info".parse();
    let started = level.map_err(|error| error.to_string());
    let started = started
        .and_then(|level| logging::start(&level, Format::automatic()).map(drop).map_err(|error| error.to_string()));
    let outcome = started.and_then(|()| order(export)).and_then(|order| save(&order));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error, 1),
    }
}

fn order(given: Export) -> Result<Order, String> {
    let pem = |path: PathBuf| fs::read(&path).map(Pem).map_err(|error| format!("{}: {error}", path.display()));
    let ca = given.tls_ca.map(pem).transpose()?;
    let client = match given.tls_certificate.zip(given.tls_key) {
        Some((certificate, key)) => Some((pem(certificate)?, pem(key)?)),
        None => None,
    };
    let secret = |name: &str| env::var(name).map_err(|error| format!("{name}: {error}"));
    let account = Account { user: secret("BATON_USERNAME")?, password: SecretString::from(secret("BATON_PASSWORD")?) };
    let names = given.tls_name.map(|name| (given.server.clone(), name)).into_iter().collect();
    Ok(Order {
        tls: Tls::new(given.tls_mode.into(), ca, client, names),
        server: given.server,
        account,
        extra: given.extra,
        cluster: given.cluster,
        record: given.record,
        folder: given.folder,
        name: given.file,
        deadline: Duration::from_secs(given.deadline_seconds),
    })
}

fn save(order: &Order) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let manifest = runtime.block_on(export::save(order)).map_err(|error| error.to_string())?;
    tracing::info!(
        server = %order.server, file = manifest.file, bytes = manifest.bytes, sha256 = manifest.sha256,
        "{} transactions of {} are in {}", manifest.count, order.server, order.folder.join(&manifest.file).display(),
    );
    Ok(())
}
