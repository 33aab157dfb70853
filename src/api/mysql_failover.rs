//! `MysqlFailover`: one recovery. Baton makes it before it acts and keeps it as the journal of what it
//! does; a person makes one to force a failover.

pub mod status;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use status::MysqlFailoverStatus;

/// `spec.cause.analysis` of a failover that a person forces.
pub const FORCED: &str = "Forced";

/// What is to be replaced and why. Immutable.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "mysql.baton.dev",
    version = "v1alpha1",
    kind = "MysqlFailover",
    plural = "mysqlfailovers",
    shortname = "myf",
    category = "baton",
    namespaced,
    derive = "PartialEq",
    doc = "One failover of a MysqlCluster: made by Baton when it acts, or by a person to force one. Also one recovery of an intermediate primary, which Baton alone makes.",
    status = "MysqlFailoverStatus",
    printcolumn(name = "Cluster", type_ = "string", json_path = ".spec.clusterName"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Cause", type_ = "string", json_path = ".spec.cause.analysis"),
    printcolumn(name = "Old-Primary", type_ = "string", json_path = ".status.oldPrimary"),
    printcolumn(name = "New-Primary", type_ = "string", json_path = ".status.newPrimary"),
    printcolumn(
        name = "Writable-Ms",
        type_ = "integer",
        json_path = ".status.timings.writable",
        description = "Milliseconds from the first sign of the failure until clients could write again"
    ),
    printcolumn(
        name = "Lost",
        type_ = "string",
        json_path = ".status.lost.known",
        description = "What is known about lost transactions: None, AtLeast or Unknown"
    ),
    printcolumn(name = "Acknowledged", type_ = "boolean", json_path = ".status.acknowledged", priority = 1),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("self == oldSelf", "spec is immutable: make a new MysqlFailover"))]
#[x_kube(validation = ("self.role == 'Primary' || self.cause.analysis != 'Forced'", "a forced failover is one of the primary: role must be Primary"))]
pub struct MysqlFailoverSpec {
    /// Name of the MysqlCluster in this namespace.
    #[schemars(length(min = 1, max = 52), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub cluster_name: String,

    /// Why.
    pub cause: FailoverCause,

    /// What was lost. Primary: another server becomes the primary. IntermediatePrimary: a server that others replicated
    /// from; they are given another source, the primary and the epoch stay.
    #[serde(default)]
    pub role: LostRole,

    /// The server to promote, as host:port, when a person forces a failover. It must still be able to become primary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 3, max = 262),
        regex(pattern = r"^([A-Za-z0-9][A-Za-z0-9._-]*|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}$")
    )]
    pub candidate: Option<String>,

    /// No hook runs for this failover. (This version runs no hooks at all.)
    #[serde(default)]
    pub skip_hooks: bool,
}

/// The part that the lost server played.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum LostRole {
    /// Clients wrote to it.
    #[default]
    Primary,
    /// Other replicas followed it.
    IntermediatePrimary,
}

/// Why a failover is done.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("self.analysis != 'Forced' || (has(self.reason) && self.reason != '')", "cause.reason must be given when a failover is forced"))]
#[x_kube(validation = ("self.analysis == 'Forced' || has(self.server)", "cause.server must be given unless the failover is forced"))]
pub struct FailoverCause {
    /// Code of the analysis, or Forced.
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[A-Z][A-Za-z]*$"))]
    pub analysis: String,

    /// Address of the lost server as host:port. When forced: defaults to the primary there is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 3, max = 262),
        regex(pattern = r"^([A-Za-z0-9][A-Za-z0-9._-]*|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}$")
    )]
    pub server: Option<String>,

    /// Why, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub reason: Option<String>,
}
