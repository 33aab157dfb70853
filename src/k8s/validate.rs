//! From a `MysqlCluster` to the engine's policy: everything a client of the API can get wrong that the
//! schema cannot see is found here, before anything acts on it. No client needed.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use kube::ResourceExt;
use regex::{Regex, RegexBuilder};

use crate::{
    api::mysql_cluster::{self as api, MysqlCluster, MysqlClusterSpec},
    core::{
        id::ServerAddr,
        policy::{
            DataLoss, Detection, DiscoverFrom, Discovery, Failover, Mode, OldPrimary, Policy, Promotion, PromotionRule,
            RelayLog, RuleMatch, ServerFacts, Tier, Within,
        },
    },
    mysql::options::{Queries, TlsMode},
};

/// Largest compiled pattern, in bytes.
const PATTERN_SIZE_MAX: usize = 1 << 18;

/// What is wrong with a resource.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// A server is no address.
    #[error("server {0:?} is no address: {1}")]
    Server(String, String),
    /// A pattern cannot be used.
    #[error("pattern {0:?} cannot be used: {1}")]
    Pattern(String, String),
    /// Another cluster is served under this name or with this server.
    #[error("{0}")]
    Duplicate(String),
    /// The Secret is missing or incomplete.
    #[error("{0}")]
    Secret(String),
}

impl Invalid {
    /// Reason of the condition.
    #[must_use]
    pub fn category(&self) -> &'static str {
        match self {
            Self::Server(..) => "InvalidServer",
            Self::Pattern(..) => "InvalidPattern",
            Self::Duplicate(_) => "Duplicate",
            Self::Secret(_) => "InvalidSecret",
        }
    }
}

/// The policy of a cluster whose pods, if it selects any, are `pods`.
///
/// # Errors
/// [`Invalid`].
pub fn policy(
    cluster: &MysqlCluster,
    pods: &BTreeMap<ServerAddr, ServerFacts>,
    now: Timestamp,
) -> Result<Policy, Invalid> {
    let spec = &cluster.spec;
    let mut servers = pods.clone();
    for server in &spec.servers {
        let addr = ServerAddr::new(&server.host, server.port)
            .map_err(|error| Invalid::Server(server.host.clone(), error.to_string()))?;
        servers.insert(addr, facts(server));
    }
    let maintenance = maintenance(spec, servers.keys(), now);
    Ok(Policy {
        cluster_name: cluster_name(cluster),
        discovery: discovery(spec)?,
        promotion: promotion(&spec.promotion)?,
        detection: Detection::of(
            match spec.detection.tier {
                api::Tier::Fast => Tier::Fast,
                api::Tier::Standard => Tier::Standard,
                api::Tier::Relaxed => Tier::Relaxed,
            },
            spec.detection.heartbeat_interval.map(|interval| interval.as_ms()),
            spec.detection.replication_settings == api::ReplicationSettings::Enforce,
        ),
        failover: failover(&spec.failover),
        paused: spec.paused,
        maintenance,
        servers,
    })
}

/// The alias of a cluster.
#[must_use]
pub fn cluster_name(cluster: &MysqlCluster) -> String {
    cluster.spec.cluster_name.clone().unwrap_or_else(|| cluster.name_any())
}

fn facts(server: &api::Server) -> ServerFacts {
    ServerFacts {
        zone: server.zone.clone(),
        region: server.region.clone(),
        labels: server.labels.clone(),
        promotion: server.promotion.map(rule),
    }
}

fn rule(rule: api::PromotionRule) -> PromotionRule {
    match rule {
        api::PromotionRule::Must => PromotionRule::Must,
        api::PromotionRule::Prefer => PromotionRule::Prefer,
        api::PromotionRule::Neutral => PromotionRule::Neutral,
        api::PromotionRule::PreferNot => PromotionRule::PreferNot,
        api::PromotionRule::MustNot => PromotionRule::MustNot,
    }
}

fn pattern(text: &str, source: &str) -> Result<Regex, Invalid> {
    let built = RegexBuilder::new(source).size_limit(PATTERN_SIZE_MAX).case_insensitive(true).build();
    built.map_err(|error| Invalid::Pattern(text.to_owned(), error.to_string().replace('\n', " ")))
}

/// `*` and `?` as in shells; all else is literal.
fn glob(text: &str) -> Result<Regex, Invalid> {
    let body: String = text
        .chars()
        .map(|c| match c {
            '*' => ".*".to_owned(),
            '?' => ".".to_owned(),
            c => regex::escape(&c.to_string()),
        })
        .collect();
    pattern(text, &format!("^{body}$"))
}

fn discovery(spec: &MysqlClusterSpec) -> Result<Discovery, Invalid> {
    let ignore: Result<Vec<_>, _> = spec.discovery.ignore.iter().map(|text| pattern(text, text)).collect();
    Ok(Discovery {
        follow: spec.discovery.follow && spec.pod_selector.is_none(),
        from: match spec.discovery.from {
            api::DiscoverFrom::ProcessList => DiscoverFrom::ProcessList,
            api::DiscoverFrom::ReplicaHosts => DiscoverFrom::ReplicaHosts,
        },
        ignore: ignore?,
        port: spec.port,
    })
}

fn promotion(promotion: &api::Promotion) -> Result<Promotion, Invalid> {
    let entry = |entry: &api::PromotionRuleEntry| {
        let matcher = RuleMatch {
            host: entry.matches.host.as_deref().map(glob).transpose()?,
            zone: entry.matches.zone.clone(),
            region: entry.matches.region.clone(),
            labels: entry.matches.labels.clone(),
            server_uuid: entry.matches.server_uuid.clone(),
        };
        Ok((matcher, rule(entry.rule)))
    };
    let rules: Result<Vec<_>, Invalid> = promotion.rules.iter().map(entry).collect();
    #[expect(clippy::cast_precision_loss, reason = "seconds of a lag fit")]
    let seconds = |ms: u64| ms as f64 / 1000.0;
    Ok(Promotion {
        rules: rules?,
        within: match promotion.within {
            api::Within::Anywhere => Within::Anywhere,
            api::Within::Region => Within::Region,
            api::Within::Zone => Within::Zone,
        },
        max_lag_s: promotion.max_lag.map(|lag| seconds(lag.as_ms())),
        relay_log: match promotion.relay_log {
            api::RelayLog::Wait => RelayLog::Wait,
            api::RelayLog::Refuse => RelayLog::Refuse,
        },
    })
}

fn failover(failover: &api::Failover) -> Failover {
    Failover {
        mode: match failover.mode {
            api::Mode::Automatic => Mode::Automatic,
            api::Mode::DetectOnly => Mode::DetectOnly,
        },
        data_loss: failover.data_loss.map(|choice| match choice {
            api::DataLoss::Refuse => DataLoss::Refuse,
            api::DataLoss::Accept => DataLoss::Accept,
        }),
        block_ms: failover.block_period.as_ms(),
        detach_lost: failover.detach_lost,
        old_primary: match failover.old_primary {
            api::OldPrimary::Rejoin => OldPrimary::Rejoin,
            api::OldPrimary::Fence => OldPrimary::Fence,
            api::OldPrimary::Leave => OldPrimary::Leave,
        },
        keep_records: failover.keep_records,
    }
}

/// Servers of entries that have not expired; a host alone means all its ports.
fn maintenance<'a>(
    spec: &MysqlClusterSpec,
    servers: impl Iterator<Item = &'a ServerAddr>,
    now: Timestamp,
) -> BTreeSet<ServerAddr> {
    let current = spec.maintenance.iter().filter(|entry| entry.until.0 > now);
    let names: BTreeSet<String> =
        current.flat_map(|entry| &entry.servers).map(|name| name.to_ascii_lowercase()).collect();
    let exact = names.iter().filter_map(|name| name.parse().ok());
    let by_host = servers.filter(|addr| names.contains(addr.host())).cloned();
    exact.chain(by_host).collect()
}

/// The user's queries.
#[must_use]
pub fn queries(spec: &MysqlClusterSpec) -> Queries {
    let asked = spec.queries.clone();
    let mut queries = Queries { lag: spec.promotion.lag_query.clone(), ..Queries::default() };
    if let Some(asked) = asked {
        queries.cluster_name = asked.cluster_name;
        queries.domain = asked.domain;
        queries.promotion_rule = asked.promotion_rule;
        queries.zone = asked.zone;
        queries.region = asked.region;
        queries.environment = asked.environment;
        queries.semi_sync_priority = asked.semi_sync_priority;
        queries.server_alias = asked.server_alias;
    }
    queries
}

/// How much TLS is asked for.
#[must_use]
pub fn tls_mode(mode: api::TlsMode) -> TlsMode {
    match mode {
        api::TlsMode::Disabled => TlsMode::Disabled,
        api::TlsMode::Preferred => TlsMode::Preferred,
        api::TlsMode::Required => TlsMode::Required,
        api::TlsMode::VerifyCA => TlsMode::VerifyCa,
        api::TlsMode::VerifyIdentity => TlsMode::VerifyIdentity,
    }
}

/// Whether an older cluster of `all` has the name or a server of `cluster`; the older one is served.
#[must_use]
pub fn duplicate<'a>(cluster: &MysqlCluster, all: impl Iterator<Item = &'a MysqlCluster>) -> Option<Invalid> {
    let age = |cluster: &MysqlCluster| (cluster.creation_timestamp().map(|time| time.0), cluster.uid());
    let own_name = cluster_name(cluster);
    let servers = |cluster: &MysqlCluster| -> BTreeSet<String> {
        let addresses = cluster.spec.servers.iter();
        addresses.map(|server| format!("{}:{}", server.host.to_ascii_lowercase(), server.port)).collect()
    };
    let own = servers(cluster);
    let older = all.filter(|other| other.uid() != cluster.uid() && age(other) < age(cluster));
    for other in older {
        let who = format!("{}/{}", other.namespace().unwrap_or_default(), other.name_any());
        if cluster_name(other) == own_name {
            return Some(Invalid::Duplicate(format!("clusterName {own_name:?} is that of the older cluster {who}")));
        }
        if let Some(server) = servers(other).intersection(&own).next() {
            return Some(Invalid::Duplicate(format!("server {server} belongs to the older cluster {who}")));
        }
    }
    None
}
