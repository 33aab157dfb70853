//! From a `MysqlCluster` and what it refers to, to what the engine works by. No IO: what cannot be
//! decided by the API server's rules on one object is decided here, with a reason and a hint.

mod failover;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use kube::ResourceExt;
use regex::{Regex, RegexBuilder};
use secrecy::{ExposeSecret, SecretString};

use super::{
    claims::Duplicate,
    dereference::{PodServer, Secrets, key_of},
};
use crate::{
    api::{
        MysqlCluster, MysqlClusterSpec,
        mysql_cluster::{self as wire, Maintenance, PromotionMatch},
    },
    core::{
        id::{AddrError, ClusterKey, Epoch, ServerAddr},
        membership::Membership,
        policy::{DiscoverFrom, Discovery, Policy, Promotion, PromotionRule, RelayLog, RuleMatch, ServerFacts, Within},
        rebuild::Rebuild,
    },
    k8s::{
        exports,
        records::{membership::membership, rebuild},
        routing::Wish,
        secrets::{Loaded, SecretError},
    },
};

/// Largest compiled pattern, in bytes: what users write must not cost the operator its memory.
const PATTERN_SIZE_MAX: usize = 1 << 20;

/// Why an object cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum Invalid {
    /// An address is none.
    #[error("{field}: {error}")]
    Address {
        /// The field.
        field: &'static str,
        /// Why.
        error: AddrError,
    },
    /// A server is named twice.
    #[error("servers: {0} is there twice: host names are the same in upper and lower case")]
    ServerTwice(ServerAddr),
    /// A pattern cannot be used.
    #[error("{field}: {pattern:?} is not a regular expression that Baton can use")]
    Pattern {
        /// The field.
        field: &'static str,
        /// The pattern.
        pattern: String,
    },
    /// The selector of pods cannot be used.
    #[error("podSelector cannot be used: {0}")]
    Selector(String),
    /// A Secret cannot be used.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// A Secret could not be used when it was read.
    #[error("{message}")]
    Unusable {
        /// One word.
        category: &'static str,
        /// The reason.
        message: String,
    },
    /// An older object has it already.
    #[error(transparent)]
    Duplicate(#[from] Duplicate),
}

impl Invalid {
    /// One word for conditions, Events and metrics.
    #[must_use]
    pub fn category(&self) -> &'static str {
        match self {
            Self::Address { .. } | Self::ServerTwice(_) | Self::Pattern { .. } | Self::Selector(_) => "InvalidSpec",
            Self::Secret(error) => error.category(),
            Self::Unusable { category, .. } => category,
            Self::Duplicate(duplicate) => duplicate.category(),
        }
    }
}

/// An account of MySQL.
#[derive(Debug, Clone)]
pub struct Account {
    /// User name.
    pub user: String,
    /// Password; never printed.
    pub password: SecretString,
}

/// Certificates, as PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Pem(pub Vec<u8>);

impl std::fmt::Debug for Pem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pem({} bytes)", self.0.len())
    }
}

/// How the servers of a cluster are talked to.
#[derive(Debug, Clone)]
pub struct Connect {
    /// Baton's account.
    pub account: Account,
    /// The one before the Secret changed; to be tried once when the new one is refused.
    pub account_before: Option<Account>,
    /// The account that replicas are given; `None`: they keep theirs.
    pub replication: Option<Account>,
    /// How far TLS goes.
    pub tls_mode: wire::TlsMode,
    /// The authority's certificates.
    pub ca: Option<Pem>,
    /// Certificate and key of the client.
    pub client: Option<(Pem, Pem)>,
    /// Names that certificates are made out to, of servers that are known by IP address.
    pub tls_names: BTreeMap<ServerAddr, String>,
    /// Queries for facts.
    pub queries: wire::Queries,
    /// `promotion.lagQuery`.
    pub lag_query: Option<String>,
    /// A server's replicas are also read from `SHOW REPLICAS`.
    pub read_replica_hosts: bool,
    /// Settings of semi-sync at the primary are part of every look.
    pub keeps_semi_sync: bool,
}

/// Everything the engine needs of one object.
#[derive(Debug, Clone)]
pub struct Desired {
    /// Which object.
    pub key: ClusterKey,
    /// Its UID.
    pub uid: String,
    /// Its generation.
    pub generation: Option<i64>,
    /// Its domain.
    pub domain: Option<String>,
    /// The owner's wishes.
    pub policy: Policy,
    /// How the servers are talked to.
    pub connect: Connect,
    /// The Service for writing.
    pub routing: Option<Wish>,
    /// Where what only one server has is saved.
    pub export: Option<exports::Wish>,
    /// Servers for which that is done, with the Job's name, as the status says.
    pub saved: BTreeMap<ServerAddr, String>,
    /// The failover whose old primary was overwritten, or was to be.
    pub rebuilt: Option<String>,
    /// What the status says about overwriting servers.
    pub rebuilds: BTreeMap<ServerAddr, Rebuild>,
    /// `status.primary`.
    pub primary: Option<ServerAddr>,
    /// `status.epoch`.
    pub epoch: Epoch,
    /// `status.semiSync`.
    pub semi_sync: Option<Membership>,
}

/// Name for people: the given one, else what the primary told last when asked, else the object's.
#[must_use]
pub fn cluster_name(cluster: &MysqlCluster) -> String {
    let spec = &cluster.spec;
    let asked = spec.queries.as_ref().is_some_and(|queries| queries.cluster_name.is_some());
    let told = || cluster.status.as_ref()?.cluster_name.clone().filter(|_| asked);
    spec.cluster_name.clone().or_else(told).unwrap_or_else(|| cluster.name_any())
}

/// The servers that the object names or selects.
///
/// # Errors
/// [`Invalid::Address`], [`Invalid::ServerTwice`].
pub fn servers(
    spec: &MysqlClusterSpec,
    pods: &BTreeMap<ServerAddr, PodServer>,
) -> Result<BTreeMap<ServerAddr, ServerFacts>, Invalid> {
    let mut servers: BTreeMap<_, _> = pods.iter().map(|(addr, pod)| (addr.clone(), pod.facts.clone())).collect();
    for server in &spec.servers {
        let addr =
            ServerAddr::new(&server.host, server.port).map_err(|error| Invalid::Address { field: "servers", error })?;
        let facts = ServerFacts {
            zone: server.zone.clone(),
            region: server.region.clone(),
            labels: server.labels.clone(),
            promotion: server.promotion.map(promotion_rule),
        };
        if servers.insert(addr.clone(), facts).is_some() {
            return Err(Invalid::ServerTwice(addr));
        }
    }
    Ok(servers)
}

/// Servers under maintenance at `now`. A host without port means all its servers in `known`.
///
/// # Errors
/// [`Invalid::Address`].
pub fn under_maintenance(
    entries: &[Maintenance],
    known: &BTreeMap<ServerAddr, ServerFacts>,
    port: u16,
    now: Timestamp,
) -> Result<BTreeSet<ServerAddr>, Invalid> {
    let mut found = BTreeSet::new();
    for text in entries.iter().filter(|entry| entry.until.0 > now).flat_map(|entry| &entry.servers) {
        let bare_ipv6 = text.parse::<std::net::Ipv6Addr>().is_ok();
        let with_port = text.parse::<ServerAddr>().ok().filter(|_| !bare_ipv6);
        if let Some(addr) = with_port {
            found.insert(addr);
            continue;
        }
        let addr = ServerAddr::new(text, port).map_err(|error| Invalid::Address { field: "maintenance", error })?;
        found.extend(known.keys().filter(|server| server.host() == addr.host()).cloned());
        found.insert(addr);
    }
    Ok(found)
}

/// Turns an object into what the engine works by.
///
/// # Errors
/// [`Invalid`].
pub fn validate(
    cluster: &MysqlCluster,
    secrets: &Secrets,
    pods: &BTreeMap<ServerAddr, PodServer>,
    now: Timestamp,
) -> Result<Desired, Invalid> {
    let spec = &cluster.spec;
    let servers = servers(spec, pods)?;
    let status = cluster.status.clone().unwrap_or_default();
    let policy = Policy {
        cluster_name: cluster_name(cluster),
        maintenance: under_maintenance(&spec.maintenance, &servers, spec.port, now)?,
        rebuilding: rebuild::unusable(&status),
        servers,
        discovery: discovery(spec)?,
        promotion: promotion(spec)?,
        detection: failover::detection(spec),
        failover: failover::failover(spec),
        semi_sync: failover::semi_sync(spec),
        repair_replicas: spec.repair.replicas == wire::RepairMode::Repair,
        paused: spec.paused,
    };
    let semi_sync = status.semi_sync.as_ref().and_then(membership);
    Ok(Desired {
        key: key_of(cluster),
        uid: cluster.uid().unwrap_or_default(),
        generation: cluster.metadata.generation,
        domain: spec.domain.clone(),
        policy,
        connect: connect(spec, secrets, pods)?,
        routing: wish(spec),
        export: exports::wish(spec, pods),
        saved: exports::saved(&status),
        rebuilds: rebuild::rebuilds(&status),
        rebuilt: status.rebuilt.clone(),
        primary: status.primary.and_then(|text| text.parse().ok()),
        epoch: Epoch(status.epoch.and_then(|epoch| u64::try_from(epoch).ok()).unwrap_or_default()),
        semi_sync,
    })
}

/// The Service that the object wishes for.
#[must_use]
pub fn wish(spec: &MysqlClusterSpec) -> Option<Wish> {
    let service = spec.routing.as_ref()?.primary_service.clone()?;
    Some(Wish { service, port: spec.port })
}

fn pattern(field: &'static str, given: &str, pattern: &str) -> Result<Regex, Invalid> {
    let built = RegexBuilder::new(pattern).size_limit(PATTERN_SIZE_MAX).case_insensitive(true).build();
    built.map_err(|_| Invalid::Pattern { field, pattern: given.to_owned() })
}

/// `*` stands for any text, `?` for one character; the whole host must match.
fn glob(field: &'static str, given: &str) -> Result<Regex, Invalid> {
    let escaped = regex::escape(given).replace(r"\*", ".*").replace(r"\?", ".");
    pattern(field, given, &format!("^{escaped}$"))
}

fn discovery(spec: &MysqlClusterSpec) -> Result<Discovery, Invalid> {
    let ignore = spec.discovery.ignore.iter().map(|text| pattern("discovery.ignore", text, text));
    Ok(Discovery {
        follow: spec.discovery.follow,
        from: match spec.discovery.from {
            wire::DiscoverFrom::ProcessList => DiscoverFrom::ProcessList,
            wire::DiscoverFrom::ReplicaHosts => DiscoverFrom::ReplicaHosts,
        },
        ignore: ignore.collect::<Result<_, _>>()?,
        port: spec.port,
    })
}

fn promotion_rule(rule: wire::PromotionRule) -> PromotionRule {
    match rule {
        wire::PromotionRule::Must => PromotionRule::Must,
        wire::PromotionRule::Prefer => PromotionRule::Prefer,
        wire::PromotionRule::Neutral => PromotionRule::Neutral,
        wire::PromotionRule::PreferNot => PromotionRule::PreferNot,
        wire::PromotionRule::MustNot => PromotionRule::MustNot,
    }
}

fn rule_match(given: &PromotionMatch) -> Result<RuleMatch, Invalid> {
    Ok(RuleMatch {
        host: given.host.as_deref().map(|host| glob("promotion.rules", host)).transpose()?,
        zone: given.zone.clone(),
        region: given.region.clone(),
        labels: given.labels.clone(),
        server_uuid: given.server_uuid.as_deref().map(str::to_ascii_lowercase),
    })
}

#[expect(clippy::cast_precision_loss, reason = "a lag limit beyond 2^53 ms is no limit")]
fn promotion(spec: &MysqlClusterSpec) -> Result<Promotion, Invalid> {
    let given = &spec.promotion;
    let rules = given.rules.iter().map(|entry| Ok((rule_match(&entry.matches)?, promotion_rule(entry.rule))));
    Ok(Promotion {
        rules: rules.collect::<Result<_, Invalid>>()?,
        within: match given.within {
            wire::Within::Anywhere => Within::Anywhere,
            wire::Within::Region => Within::Region,
            wire::Within::Zone => Within::Zone,
        },
        max_lag_s: given.max_lag.map(|lag| lag.as_ms() as f64 / 1000.0),
        relay_log: match given.relay_log {
            wire::RelayLog::Wait => RelayLog::Wait,
            wire::RelayLog::Refuse => RelayLog::Refuse,
        },
    })
}

/// Baton's account in a Secret.
///
/// # Errors
/// [`SecretError`] when a key is missing or no text.
pub fn account(secret: &Loaded) -> Result<Account, SecretError> {
    let user = secret.text("username")?.expose_secret().to_owned();
    Ok(Account { user, password: secret.text("password")? })
}

fn connect(
    spec: &MysqlClusterSpec,
    secrets: &Secrets,
    pods: &BTreeMap<ServerAddr, PodServer>,
) -> Result<Connect, SecretError> {
    let credentials = &secrets.credentials;
    let replication = match credentials.text_opt("replication-username")? {
        Some(user) => {
            Some(Account { user: user.expose_secret().to_owned(), password: credentials.text("replication-password")? })
        }
        None => None,
    };
    let client = match &secrets.client {
        Some(secret) => Some((Pem(secret.bytes("tls.crt")?), Pem(secret.bytes("tls.key")?))),
        None => None,
    };
    let names = pods.iter().filter_map(|(addr, pod)| Some((addr.clone(), pod.tls_name.clone()?)));
    // What is given is not asked for.
    let mut queries = spec.queries.clone().unwrap_or_default();
    queries.cluster_name.take_if(|_| spec.cluster_name.is_some());
    queries.domain.take_if(|_| spec.domain.is_some());
    Ok(Connect {
        account: account(credentials)?,
        account_before: None,
        replication,
        tls_mode: spec.tls.mode,
        ca: secrets.ca.as_ref().map(|secret| secret.bytes("ca.crt").map(Pem)).transpose()?,
        client,
        tls_names: names.collect(),
        queries,
        lag_query: spec.promotion.lag_query.clone(),
        read_replica_hosts: spec.discovery.from == wire::DiscoverFrom::ReplicaHosts,
        keeps_semi_sync: spec.durability.mode == wire::DurabilityMode::SemiSync,
    })
}

#[cfg(test)]
mod tests;
