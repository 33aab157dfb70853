//! `MysqlCluster`: the desired behaviour of one replication cluster and what is known of it.
//!
//! Failover never changes `spec`: what Baton decides is in `status` only, so that GitOps stays quiet.

pub mod failover;
pub mod hooks;
pub mod promotion;
pub mod repair;
pub mod routing;
pub mod servers;
pub mod status;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, Time};
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

pub use failover::{
    DataLoss, Detection, Durability, DurabilityMode, Executor, Export, Failover, Mode, OldPrimary, Rebuild,
    ReplicationSettings, Tier, WriteCanary,
};
pub use hooks::Hook;
pub use promotion::{Promotion, PromotionMatch, PromotionRule, PromotionRuleEntry, RelayLog, Within};
pub use repair::{Repair, RepairMode};
pub use routing::Routing;
pub use servers::{Addresses, Credentials, DiscoverFrom, Discovery, Queries, Server, Tls, TlsMode};
pub use status::{
    AcknowledgedStatus, AnalysisStatus, ExportState, ExportStatus, ExtraStatus, FailoverSummary, MysqlClusterStatus,
    QuarantineStatus, RebuildState, RebuildStatus, SemiSyncStatus, ServerStatus,
};

/// Port of MySQL servers that name none.
pub const MYSQL_PORT: u16 = 3306;

pub(crate) fn mysql_port() -> u16 {
    MYSQL_PORT
}

/// The desired behaviour of one MySQL replication cluster.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "mysql.baton.dev",
    version = "v1alpha1",
    kind = "MysqlCluster",
    plural = "mysqlclusters",
    shortname = "myc",
    category = "baton",
    namespaced,
    derive = "PartialEq",
    doc = "A MySQL replication cluster that Baton observes and keeps writable.",
    status = "MysqlClusterStatus",
    validation = ("self.metadata.name.size() <= 52", "metadata.name must not be longer than 52 characters: it is part of the names of Services, records and Jobs"),
    printcolumn(name = "Primary", type_ = "string", json_path = ".status.primary"),
    printcolumn(name = "Servers", type_ = "string", json_path = ".status.answering", description = "Servers that answer, of all known ones"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Failover-Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"FailoverReady\")].status", description = "Whether a failover would succeed now; the condition FailoverReady says how and what would be lost"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason", priority = 1),
    printcolumn(name = "Epoch", type_ = "integer", json_path = ".status.epoch"),
    printcolumn(name = "Last-Failover", type_ = "date", json_path = ".status.lastFailover.time"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("has(self.servers) != has(self.podSelector)", "exactly one of servers and podSelector must be given"))]
#[x_kube(validation = ("!has(self.podSelector) || (has(self.podSelector.matchLabels) && size(self.podSelector.matchLabels) > 0) || (has(self.podSelector.matchExpressions) && size(self.podSelector.matchExpressions) > 0)", "podSelector must not be empty: it would select every pod of the namespace"))]
#[x_kube(validation = ("!has(self.servers) || self.servers.exists(s, !has(s.promotion) || s.promotion != 'MustNot')", "at least one server must be allowed to become primary: not all of them may be MustNot"))]
#[x_kube(validation = ("!has(self.promotion) || !has(self.promotion.maxLag) || has(self.promotion.lagQuery)", "promotion.maxLag needs promotion.lagQuery"))]
pub struct MysqlClusterSpec {
    /// Name that people and the compatible API use for the cluster. Unique among all clusters the operator serves; of two
    /// clusters with the same name only the older one is served. Defaults to metadata.name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = ("self.matches('^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$')", "clusterName must consist of letters, digits, dots, underscores and dashes, and start and end with a letter or digit"))]
    pub cluster_name: Option<String>,

    /// Name by which clients reach the writable server, for hooks and people. Baton does not resolve it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = ("self.matches('^[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?([.][A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?)*[.]?$')", "domain must be a DNS name"))]
    pub domain: Option<String>,

    /// Existing servers by address. One is enough: discovery finds the rest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 128))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["host".into(), "port".into()]))]
    pub servers: Vec<Server>,

    /// Instead of servers: pods of this namespace, whoever owns them. Each is one server at its pod IP; zone and region
    /// come from its node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_selector: Option<LabelSelector>,

    /// Port of MySQL in the selected pods, of discovered servers that do not tell theirs, and of the Services.
    #[serde(default = "mysql_port")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,

    /// How servers beyond the given ones are found.
    #[serde(default)]
    pub discovery: Discovery,

    /// The MySQL account that Baton uses.
    pub credentials: Credentials,

    /// TLS of Baton's sessions and of replication.
    #[serde(default)]
    pub tls: Tls,

    /// Who may become primary.
    #[serde(default)]
    pub promotion: Promotion,

    /// Queries that read facts about the cluster from the servers themselves. Each returns one row with one column.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queries: Option<Queries>,

    /// What is guaranteed about acknowledged transactions.
    #[serde(default)]
    pub durability: Durability,

    /// How quickly silence counts as failure.
    #[serde(default)]
    pub detection: Detection,

    /// What is done about failures.
    #[serde(default)]
    pub failover: Failover,

    /// What is repaired besides failures.
    #[serde(default)]
    pub repair: Repair,

    /// Programs and requests that run when something happens to the cluster.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub hooks: Vec<Hook>,

    /// Where clients are sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub routing: Option<Routing>,

    /// No automatic action at all for this cluster. Observation goes on.
    #[serde(default)]
    pub paused: bool,

    /// Servers that Baton must leave alone for a while. Entries expire by themselves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub maintenance: Vec<Maintenance>,
}

/// Servers under maintenance until a point in time.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Maintenance {
    /// Servers as host:port, or as a host alone, which means every port of it.
    #[schemars(length(min = 1, max = 128), inner(length(min = 1, max = 262)))]
    #[x_kube(validation = (r"self.all(s, s.matches('^([A-Za-z0-9][A-Za-z0-9._-]*(:[0-9]{1,5})?|\\[[0-9A-Fa-f:.]+\\](:[0-9]{1,5})?|[0-9A-Fa-f:.]+)$'))", "maintenance servers must be given as host or host:port, IPv6 addresses with a port as [address]:port"))]
    pub servers: Vec<String>,

    /// When the maintenance ends by itself.
    pub until: Time,

    /// Why, for people.
    #[schemars(length(min = 1, max = 256))]
    pub reason: String,

    /// Who, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub owner: Option<String>,
}
