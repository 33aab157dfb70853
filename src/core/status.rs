//! What is shown of a cluster: worked out from the snapshot, without values that tick.
//!
//! Two equal views mean that nothing has to be written (I12).

use std::collections::BTreeSet;

use super::{
    gtid::GtidSet,
    id::{Epoch, ServerAddr},
    policy::PromotionRule,
    readiness::Readiness,
    version::Version,
};

/// Part a server plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// The primary.
    Primary,
    /// A replica that others replicate from.
    IntermediatePrimary,
    /// One of two primaries that replicate from each other.
    CoPrimary,
    /// A replica.
    Replica,
    /// Belongs to the cluster but replicates from none of it.
    Detached,
    /// Not seen yet.
    Unknown,
}

/// Whether a server can be talked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reachability {
    /// Not looked at yet.
    Unknown,
    /// Answers.
    Answering,
    /// Does not.
    Unreachable,
}

/// One server as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerView {
    /// Its address.
    pub addr: ServerAddr,
    /// Its part.
    pub role: Role,
    /// Where it replicates from.
    pub source: Option<ServerAddr>,
    /// Its version.
    pub version: Option<String>,
    /// Its promotion rule.
    pub promotion: PromotionRule,
    /// Its name for people, where its query tells one.
    pub alias: Option<String>,
    /// Its environment, where its query tells one.
    pub environment: Option<String>,
    /// Its failure domain.
    pub zone: Option<String>,
    /// Its region.
    pub region: Option<String>,
    /// Whether it answers.
    pub state: Reachability,
    /// Clients can write to it.
    pub writable: bool,
    /// Under maintenance.
    pub maintenance: bool,
    /// Being overwritten with the data of another server: nothing else is done to it.
    pub rebuilding: bool,
    /// What is wrong with it, as sentences without ticking values.
    pub problems: Vec<String>,
}

/// One analysis as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnalysisView {
    /// Baton's name for it.
    pub code: String,
    /// The server it is about.
    pub server: ServerAddr,
    /// One sentence.
    pub message: String,
}

/// Whether anybody can have been told that the extra transactions are committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acknowledged {
    /// Nobody was, provably.
    Impossible,
    /// Somebody may have been.
    Possible,
}

/// A server that has transactions which the primary lacks. It follows nobody, or must not be followed, until a
/// person or the policy decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantined {
    /// The server.
    pub server: ServerAddr,
    /// Its version.
    pub version: Version,
    /// Name of the record of the failover that replaced it; `None`: it was a replica.
    pub record: Option<String>,
    /// The transactions (MariaDB: by domain and server, with numbers that others may have used); `None`: they
    /// may still become more.
    pub extra: Option<GtidSet>,
    /// Whether anybody can have been told that they are committed.
    pub acknowledged: Acknowledged,
    /// Why that is so, as a sentence.
    pub reason: String,
}

/// A three-valued answer with its reason, as conditions need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Yes, no or not known.
    pub value: Option<bool>,
    /// One word.
    pub reason: &'static str,
    /// One sentence.
    pub message: String,
}

impl Answer {
    /// An answer.
    #[must_use]
    pub fn new(value: Option<bool>, reason: &'static str, message: impl Into<String>) -> Self {
        Self { value, reason, message: message.into() }
    }
}

/// A cluster as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterView {
    /// Name of the cluster, where the primary's query tells one.
    pub name: Option<String>,
    /// Domain of the cluster, where the primary's query tells one.
    pub domain: Option<String>,
    /// The primary.
    pub primary: Option<ServerAddr>,
    /// The reign.
    pub epoch: Epoch,
    /// All servers by address.
    pub servers: Vec<ServerView>,
    /// Servers with transactions that the primary lacks.
    pub quarantined: Vec<Quarantined>,
    /// Servers of which that is not known yet: what was shown of them before stays.
    pub unjudged: BTreeSet<ServerAddr>,
    /// What is wrong, most urgent first.
    pub analyses: Vec<AnalysisView>,
    /// What would happen if the primary died now.
    pub readiness: Readiness,
    /// The primary accepts writes.
    pub writable: Answer,
    /// Every replica replicates.
    pub replicating: Answer,
    /// What an acknowledged write survives.
    pub durable: Answer,
    /// All is well.
    pub ready: Answer,
    /// No automatic action.
    pub paused: Answer,
    /// The recovery that is under way, by epoch.
    pub recovering: Option<Epoch>,
}
