//! What the controller tells the engine's side: one message per change of a cluster.

use super::{status::Problem, validate::Desired};
use crate::{api::MysqlFailover, core::id::ClusterKey};

/// One change of one cluster.
#[derive(Debug)]
pub struct ClusterChange {
    /// Which.
    pub key: ClusterKey,
    /// What.
    pub what: Change,
}

/// What changed.
#[derive(Debug)]
pub enum Change {
    /// What the engine is to work by, from now on.
    Desired(Box<Desired>),
    /// The object cannot be served as it is. What was desired before, if anything, stays in force; the
    /// reason is to be shown.
    Invalid(Refusal),
    /// All records of the cluster, whenever one of them changes.
    Records(Vec<MysqlFailover>),
    /// The object is gone.
    Gone,
}

/// Why an object cannot be served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Generation that this is about.
    pub generation: Option<i64>,
    /// Name of the cluster for people.
    pub cluster_name: String,
    /// The reason.
    pub problem: Problem,
    /// Whether what was desired before must not stay in force either: somebody else has the name or the
    /// servers.
    pub stop: bool,
}
