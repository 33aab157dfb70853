//! How to reach the servers of one cluster: accounts and TLS. Nothing in here prints a secret.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use mysql_async::Opts;
use secrecy::SecretString;

use crate::core::id::ServerAddr;

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

/// Certificates or a key as PEM; never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Pem(pub Vec<u8>);

impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pem({} bytes)", self.0.len())
    }
}

/// TLS of the sessions. Clones share what was made of the certificates: it is large, and sessions that
/// share it can resume.
#[derive(Debug, Clone)]
pub struct Tls {
    /// How much.
    pub mode: TlsMode,
    /// The authority's certificates.
    pub ca: Option<Pem>,
    /// The client's certificate and key.
    pub client: Option<(Pem, Pem)>,
    /// Names that the certificates of servers known by IP address are made out to.
    pub names: BTreeMap<ServerAddr, String>,
    templates: Templates,
}

impl PartialEq for Tls {
    fn eq(&self, other: &Self) -> bool {
        self.mode == other.mode && self.ca == other.ca && self.client == other.client && self.names == other.names
    }
}

impl Eq for Tls {}

impl Tls {
    /// TLS with the authority's certificates `ca` and the own certificate and key `client`; `names` are
    /// those of servers known by IP address.
    #[must_use]
    pub fn new(
        mode: TlsMode,
        ca: Option<Pem>,
        client: Option<(Pem, Pem)>,
        names: BTreeMap<ServerAddr, String>,
    ) -> Self {
        Self { mode, ca, client, names, templates: Templates::default() }
    }

    /// Options of the driver with this TLS, the same for all sessions to servers of one certificate name.
    pub(super) fn template(&self, name: Option<&String>, make: impl FnOnce() -> Opts) -> Opts {
        let mut made = self.templates.0.lock().unwrap_or_else(PoisonError::into_inner);
        made.entry(name.cloned()).or_insert_with(make).clone()
    }
}

/// By certificate name; `None`: the host's. Made with the first session. Holds no account.
#[derive(Clone, Default)]
struct Templates(Arc<Mutex<BTreeMap<Option<String>, Opts>>>);

impl fmt::Debug for Templates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Templates")
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
    /// Baton keeps semi-sync: its settings at the primary are part of every look.
    pub keeps_semi_sync: bool,
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
