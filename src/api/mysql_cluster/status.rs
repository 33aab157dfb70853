//! What is known of a cluster. Nothing in here ticks: it changes when the meaning changes.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is known of a cluster.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct MysqlClusterStatus {
    /// The generation of the object that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// Name by which people and the compatible API know the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_name: Option<String>,

    /// Name that clients use for writing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,

    /// Address of the primary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub primary: Option<String>,

    /// Number of the reign; grows with every change of primary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<i64>,

    /// Servers that answer, of all known ones, as 3/4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answering: Option<String>,

    /// All known servers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["address".into()]))]
    pub servers: Vec<ServerStatus>,

    /// Servers with transactions that the primary lacks: an old primary that is back, or a replica that somebody wrote
    /// to. They are kept out until a person, or the policy, decides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["address".into()]))]
    pub quarantined: Vec<QuarantineStatus>,

    /// Name of the MysqlFailover whose old primary was overwritten, or was to be (failover.rebuild): it is done once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rebuilt: Option<String>,

    /// What is wrong now, most urgent first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub analyses: Vec<AnalysisStatus>,

    /// Who may acknowledge transactions, with durability.mode SemiSync. Written before it takes effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub semi_sync: Option<SemiSyncStatus>,

    /// The newest failover.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failover: Option<FailoverSummary>,

    /// The newest switchover.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_switchover: Option<FailoverSummary>,

    /// Ready, FailoverReady, Replicating, Durable, Writable, Paused, Reconciling and Stalled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// One known server.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase")]
pub struct ServerStatus {
    /// Address as host:port.
    pub address: String,

    /// Primary, Replica, IntermediatePrimary, CoPrimary, Detached or Unknown.
    pub role: String,

    /// Address of the server it replicates from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,

    /// Version of MySQL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,

    /// Promotion rule in effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promotion: Option<String>,

    /// Name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alias: Option<String>,

    /// Environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,

    /// Failure domain it is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,

    /// Region it is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,

    /// Answering, Unreachable or Unknown.
    pub state: String,

    /// What is wrong with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
}

/// One server with transactions that the primary lacks.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct QuarantineStatus {
    /// Address as host:port.
    pub address: String,

    /// Name of the MysqlFailover that replaced it; none: it was a replica.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<String>,

    /// The transactions. Left out while they may become more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra: Option<ExtraStatus>,

    /// Impossible: nobody was told that they are committed, provably. Possible: somebody may have been.
    pub acknowledged: AcknowledgedStatus,

    /// Why.
    pub reason: String,

    /// Whether they are saved, where failover.export wishes for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub export: Option<ExportStatus>,

    /// How far overwriting the server is, where failover.rebuild wishes for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rebuild: Option<RebuildStatus>,

    /// What to run, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub instructions: Vec<String>,
}

/// Transactions that one server has alone.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ExtraStatus {
    /// How many they are. MariaDB: at most, for servers of a domain share their numbers.
    pub count: i64,

    /// As a GTID set; MariaDB: domain-server:first-last. Left out when it is very long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set: Option<String>,
}

/// How far saving transactions is.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ExportStatus {
    /// Pending, Running, Succeeded or Failed.
    pub state: ExportState,

    /// The Job that does it.
    pub job: String,

    /// PersistentVolumeClaim and file.
    pub place: String,

    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// How far saving transactions is.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExportState {
    /// The Job is made, or is to be.
    Pending,
    /// It runs.
    Running,
    /// They are saved.
    Succeeded,
    /// They are not.
    Failed,
}

/// How far overwriting a server with the data of another one is.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct RebuildStatus {
    /// Waiting, Running or Failed. Running is written before anything is done to the server.
    pub state: RebuildState,

    /// Address of the server whose data it gets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub donor: Option<String>,

    /// server_uuid of the server that is overwritten.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_uuid: Option<String>,

    /// What it had alone when it began, as a GTID set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra: Option<String>,

    /// When it began; none: nothing was done to the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub began: Option<Time>,

    /// What it waits for, or why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// How far overwriting a server is.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum RebuildState {
    /// Something must hold that does not hold now.
    Waiting,
    /// It is being overwritten.
    Running,
    /// It needs a person. With began the server may have lost its data; to try again, set failover.rebuild to Never and
    /// back to Clone.
    Failed,
}

/// Whether somebody can have been told that transactions are committed.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcknowledgedStatus {
    /// Nobody was.
    Impossible,
    /// Somebody may have been.
    Possible,
}

/// Who may acknowledge transactions, and for whom.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct SemiSyncStatus {
    /// Address of the primary.
    pub source: String,

    /// Acknowledgements that a commit waits for there, at least.
    pub acks: u32,

    /// Addresses of the servers that may acknowledge.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ackers: Vec<String>,
}

/// One thing that is wrong.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct AnalysisStatus {
    /// Code of the analysis.
    pub code: String,

    /// Address of the server it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,

    /// Since when.
    pub since: Time,

    /// The reason in words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// A failover or switchover in brief.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct FailoverSummary {
    /// Name of its record.
    pub record: String,

    /// When it began.
    pub time: Time,

    /// How far it is.
    pub phase: String,

    /// The old primary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,

    /// The new primary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
}
