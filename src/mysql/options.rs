//! How to reach the servers of one cluster: accounts and TLS. Nothing in here prints a secret.

use std::{
    path::PathBuf,
    sync::{Arc, OnceLock},
};

use mysql_async::Opts;
use secrecy::SecretString;

/// An account.
#[derive(Debug, Clone)]
pub struct Account {
    /// User name.
    pub user: String,
    /// Password; never printed.
    pub password: SecretString,
}

/// How much TLS is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsMode {
    /// None.
    Disabled,
    /// Where the server offers it.
    Preferred,
    /// Always, without checking the certificate.
    Required,
    /// Always, with a certificate of the given authority. The driver asks for the server's name in it
    /// all the same, so this is as strict as the next one for now.
    VerifyCa,
    /// Always, with a certificate of the given authority for the server's name.
    VerifyIdentity,
}

/// TLS of the sessions. Clones share what was made of the certificates: it is large, and sessions that
/// share it can resume.
#[derive(Debug, Clone)]
pub struct Tls {
    /// How much.
    pub mode: TlsMode,
    /// PEM file with the authority's certificate.
    pub ca: Option<PathBuf>,
    /// PEM files with the client's certificate and key.
    pub client: Option<(PathBuf, PathBuf)>,
    template: Template,
}

impl Tls {
    /// TLS with PEM files: `ca` of the authority, `client` of the own certificate and its key. Files that
    /// change are read again by new values of this type only.
    #[must_use]
    pub fn new(mode: TlsMode, ca: Option<PathBuf>, client: Option<(PathBuf, PathBuf)>) -> Self {
        Self { mode, ca, client, template: Template::default() }
    }

    /// Options of the driver with this TLS, the same for all sessions.
    pub(super) fn template(&self, make: impl FnOnce() -> Opts) -> Opts {
        self.template.0.get_or_init(make).clone()
    }
}

/// Made with the first session. Holds no secret: accounts are set per session.
#[derive(Clone, Default)]
struct Template(Arc<OnceLock<Opts>>);

impl std::fmt::Debug for Template {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Template")
    }
}

/// How to reach the servers of one cluster.
#[derive(Debug, Clone)]
pub struct Options {
    /// The operator's account.
    pub operator: Account,
    /// The account before the last change of the Secret; tried once when the new one is refused.
    pub operator_before: Option<Account>,
    /// The account replicas use.
    pub replication: Option<Account>,
    /// TLS.
    pub tls: Tls,
    /// What is asked besides the ordinary look.
    pub queries: Queries,
    /// A server's replicas are also read from `SHOW REPLICAS`.
    pub read_replica_hosts: bool,
    /// Longest wait for a connection, in milliseconds.
    pub connect_ms: u64,
}

/// The user's queries; each gives one value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Queries {
    /// Name of the cluster.
    pub cluster_name: Option<String>,
    /// Domain.
    pub domain: Option<String>,
    /// Promotion rule.
    pub promotion_rule: Option<String>,
    /// Zone.
    pub zone: Option<String>,
    /// Region.
    pub region: Option<String>,
    /// Environment.
    pub environment: Option<String>,
    /// Alias of the server.
    pub server_alias: Option<String>,
    /// Semi-sync priority.
    pub semi_sync_priority: Option<String>,
    /// Lag in seconds.
    pub lag: Option<String>,
}

/// Options that change while sessions run: a changed Secret is used with the next connection.
pub type Shared = Arc<tokio::sync::watch::Receiver<Arc<Options>>>;
