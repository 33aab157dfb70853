//! What the owner of a cluster wants, checked and with every default filled in.
//!
//! Made from a `MysqlCluster` by the Kubernetes shell; nothing in here can be invalid.

use std::collections::{BTreeMap, BTreeSet};

use regex::Regex;
use serde::{Deserialize, Serialize};

use super::{id::ServerAddr, observation::Identity};

/// Everything that a cluster's owner decided.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Alias people use; unique in the operator's scope.
    pub cluster_name: String,
    /// Servers named by the owner or found as pods, with what is known of them.
    pub servers: BTreeMap<ServerAddr, ServerFacts>,
    /// How servers are found beyond those.
    pub discovery: Discovery,
    /// Who may become primary.
    pub promotion: Promotion,
    /// How quickly silence counts.
    pub detection: Detection,
    /// What is done about failures.
    pub failover: Failover,
    /// Lossless semi-sync that Baton sets and keeps; `None`: as found.
    pub semi_sync: Option<SemiSync>,
    /// Replicas that stopped, follow the wrong server or accept writes are repaired.
    pub repair_replicas: bool,
    /// No automatic action at all.
    pub paused: bool,
    /// Servers under maintenance: no automatic action concerns them.
    pub maintenance: BTreeSet<ServerAddr>,
    /// Servers that are being overwritten with the data of another one, as it is written down: but for fencing them,
    /// no other action concerns them either.
    pub rebuilding: BTreeSet<ServerAddr>,
}

impl Policy {
    /// Why nothing is done to a server, nor with it; `None`: nothing stands against it.
    #[must_use]
    pub fn rests(&self, addr: &ServerAddr) -> Option<&'static str> {
        match () {
            () if self.maintenance.contains(addr) => Some("it is under maintenance"),
            () if self.rebuilding.contains(addr) => Some("it is being rebuilt"),
            () => None,
        }
    }
}

/// What is known of a server from outside it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServerFacts {
    /// Failure domain.
    pub zone: Option<String>,
    /// Region.
    pub region: Option<String>,
    /// Labels, for promotion rules.
    pub labels: BTreeMap<String, String>,
    /// Promotion rule set on the server itself; wins over the rules.
    pub promotion: Option<PromotionRule>,
}

/// How servers beyond the named ones are found.
#[derive(Debug, Clone)]
pub struct Discovery {
    /// Follow sources and replicas.
    pub follow: bool,
    /// Where a server's replicas are read.
    pub from: DiscoverFrom,
    /// Addresses (`host:port`) never to be followed.
    pub ignore: Vec<Regex>,
    /// Port of replicas whose source does not tell.
    pub port: u16,
}

/// Where a server's replicas are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DiscoverFrom {
    /// Dump threads of the process list.
    ProcessList,
    /// `SHOW REPLICAS` (`report_host`, `report_port`).
    ReplicaHosts,
}

/// Who may become primary, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum PromotionRule {
    /// Before all others.
    Must,
    /// Rather than others.
    Prefer,
    /// No opinion.
    Neutral,
    /// Only when nobody better is there.
    PreferNot,
    /// Never.
    MustNot,
}

/// Which servers a promotion rule is about; all given parts must match.
#[derive(Debug, Clone, Default)]
pub struct RuleMatch {
    /// Host pattern.
    pub host: Option<Regex>,
    /// Zone.
    pub zone: Option<String>,
    /// Region.
    pub region: Option<String>,
    /// Labels, all of them.
    pub labels: BTreeMap<String, String>,
    /// `server_uuid`.
    pub server_uuid: Option<String>,
}

impl RuleMatch {
    /// Whether this rule is about the server.
    #[must_use]
    pub fn matches(&self, addr: &ServerAddr, facts: &ServerFacts, identity: Option<&Identity>) -> bool {
        let same = |want: &Option<String>, have: Option<&String>| want.as_ref().is_none_or(|want| have == Some(want));
        self.host.as_ref().is_none_or(|host| host.is_match(addr.host()))
            && same(&self.zone, facts.zone.as_ref())
            && same(&self.region, facts.region.as_ref())
            && same(&self.server_uuid, identity.map(|identity| &identity.uuid))
            && self.labels.iter().all(|(key, value)| facts.labels.get(key) == Some(value))
    }
}

/// How far from the lost primary a new one may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Within {
    /// Anywhere.
    Anywhere,
    /// In its region.
    Region,
    /// In its zone.
    Zone,
}

/// What to do when the chosen server has received but not applied everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RelayLog {
    /// Wait until it is applied.
    Wait,
    /// Refuse the promotion.
    Refuse,
}

/// Who may become primary.
#[derive(Debug, Clone)]
pub struct Promotion {
    /// First match wins.
    pub rules: Vec<(RuleMatch, PromotionRule)>,
    /// Distance from the lost primary.
    pub within: Within,
    /// Candidates at or above this lag are refused, in seconds.
    pub max_lag_s: Option<f64>,
    /// Unapplied relay logs.
    pub relay_log: RelayLog,
}

/// How quickly silence counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Tier {
    /// Looks every 100 ms, heartbeat 0.1 s.
    Fast,
    /// Looks every 500 ms at the primary, heartbeat 0.5 s.
    Standard,
    /// Looks every second, heartbeat 2 s.
    Relaxed,
}

/// Detection, with its figures worked out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Detection {
    /// The tier the figures come from.
    pub tier: Tier,
    /// Time between looks at the primary, in milliseconds.
    pub primary_interval_ms: u64,
    /// Time between looks at any other server, in milliseconds.
    pub interval_ms: u64,
    /// A look that takes longer counts as silence, in milliseconds.
    pub answer_ms: u64,
    /// Heartbeat interval wanted on replicas, in milliseconds.
    pub heartbeat_ms: u64,
    /// Replication settings are enforced, not only reported.
    pub enforce: bool,
    /// Commits that hang for so long make a stall, in milliseconds.
    pub stall_ms: u64,
    /// Baton commits something on the primary itself, so that a stall shows without clients.
    pub write_canary: bool,
}

impl Detection {
    /// [`Detection::stall_ms`] where the owner does not say.
    pub const STALL_MS: u64 = 5000;

    /// The figures of a tier.
    #[must_use]
    pub fn of(tier: Tier, heartbeat_ms: Option<u64>, enforce: bool) -> Self {
        let (primary_interval_ms, interval_ms, answer_ms, heartbeat_default_ms) = match tier {
            Tier::Fast => (100, 100, 300, 100),
            Tier::Standard => (500, 1000, 500, 500),
            Tier::Relaxed => (1000, 1000, 2000, 2000),
        };
        let heartbeat_ms = heartbeat_ms.unwrap_or(heartbeat_default_ms);
        Self {
            tier,
            primary_interval_ms,
            interval_ms,
            answer_ms,
            heartbeat_ms,
            enforce,
            stall_ms: Self::STALL_MS,
            write_canary: false,
        }
    }

    /// How long a replica with this heartbeat interval must have heard nothing before its silence
    /// counts, in milliseconds: half a heartbeat may be late, plus what a busy machine costs.
    #[must_use]
    pub fn silence_ms(&self, heartbeat_interval_ms: u64) -> u64 {
        let grace = match self.tier {
            Tier::Fast | Tier::Standard => 200,
            Tier::Relaxed => 1000,
        };
        heartbeat_interval_ms.saturating_mul(3).saturating_div(2).saturating_add(grace).max(300)
    }
}

/// What an acknowledged transaction is to survive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SemiSync {
    /// Replicas that have it.
    pub acks: u32,
    /// Zones that have it, the primary's included; 1: any.
    pub zones: u32,
}

/// Whether Baton acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// Acts.
    Automatic,
    /// Says what it would do.
    DetectOnly,
}

/// What happens with a failover that may lose acknowledged transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DataLoss {
    /// It is refused.
    Refuse,
    /// It is done and the loss recorded.
    Accept,
}

/// What happens to the old primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum OldPrimary {
    /// Fenced, then made a replica when it has no transactions of its own.
    Rejoin,
    /// Fenced.
    Fence,
    /// Left alone.
    Leave,
}

/// What is done about failures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failover {
    /// For the primary.
    pub mode: Mode,
    /// For intermediate primaries.
    pub intermediate: Mode,
    /// For a primary that answers and cannot commit.
    pub stalled: Mode,
    /// A Job carries it out, rather than the operator.
    pub by_job: bool,
    /// Owner's choice; `None`: refuse under semi-sync, accept otherwise.
    pub data_loss: Option<DataLoss>,
    /// For a primary that refuses writes: it is to accept them again.
    pub read_only: Mode,
    /// No second automatic failover within this time, in milliseconds.
    pub block_ms: u64,
    /// Clusters with a higher one are recovered first.
    pub priority: u32,
    /// Replicas that cannot follow the new primary are detached.
    pub detach_lost: bool,
    /// The old primary.
    pub old_primary: OldPrimary,
    /// One with transactions of its own is overwritten once they are saved.
    pub rebuild: bool,
    /// Longest time that this may take, in milliseconds.
    pub rebuild_timeout_ms: u64,
    /// Finished records kept.
    pub keep_records: u32,
}
