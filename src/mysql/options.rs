//! How to reach the servers of one cluster: accounts and TLS. Nothing in here prints a secret.

use std::{collections::BTreeMap, fmt, sync::Arc};

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
    /// Always, with a certificate of the given authority.
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

/// TLS of the sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// How much.
    pub mode: TlsMode,
    /// The authority's certificates.
    pub ca: Option<Pem>,
    /// The client's certificate and key.
    pub client: Option<(Pem, Pem)>,
    /// Names that the certificates of servers known by IP address are made out to.
    pub names: BTreeMap<ServerAddr, String>,
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
