//! What is guaranteed, how failures are noticed and what is done about them.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::servers::yes;
use crate::api::common::Duration;

/// What is guaranteed about acknowledged transactions.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("!has(self.zones) || self.zones <= (has(self.acks) ? self.acks : 1) + 1", "durability.zones must not be more than acks and the primary's zone: acks + 1"))]
#[x_kube(validation = ("self.mode == 'SemiSync' || !(has(self.acks) || has(self.zones))", "durability.acks and durability.zones need durability.mode SemiSync"))]
pub struct Durability {
    /// AsFound: Baton works out what the found settings guarantee and changes none. SemiSync: Baton sets lossless
    /// semi-synchronous replication and keeps it: source side on at the primary alone, replicas that could become
    /// primary acknowledge, one more than needed.
    #[serde(default)]
    pub mode: DurabilityMode,

    /// Replicas that must have a transaction before it is acknowledged. Defaults to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 64))]
    pub acks: Option<u32>,

    /// Zones, the primary's included, that must have a transaction before it is acknowledged. Defaults to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 16))]
    pub zones: Option<u32>,
}

/// Who decides about semi-synchronous replication.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum DurabilityMode {
    /// The owner.
    #[default]
    AsFound,
    /// Baton.
    SemiSync,
}

/// How quickly silence counts as failure.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct Detection {
    /// Fast, Standard or Relaxed: how often servers are looked at and how soon silence counts.
    #[serde(default)]
    pub tier: Tier,

    /// Heartbeat interval of replication, from 100ms to 60s. Defaults to what suits the tier. Set on the servers only
    /// with replicationSettings Enforce.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = ("self.matches('^([0-9]+([.][0-9]+)?(ms|s|m|h))+$') && duration(self) >= duration('100ms') && duration(self) <= duration('60s')", "heartbeatInterval must be from 100ms to 60s"))]
    pub heartbeat_interval: Option<Duration>,

    /// Report: settings of replicas that hide a failure of their source are reported. Enforce: heartbeat interval, net
    /// timeout and connect retry are set so that it is noticed.
    #[serde(default)]
    pub replication_settings: ReplicationSettings,

    /// How long commits must hang on a primary that answers before it counts as stalled, from 2s to 10m. Defaults to 5s;
    /// where the server does not count its writes (performance_schema off, MariaDB) 30s at least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = ("self.matches('^([0-9]+([.][0-9]+)?(ms|s|m|h))+$') && duration(self) >= duration('2s') && duration(self) <= duration('10m')", "stallAfter must be from 2s to 10m"))]
    pub stall_after: Option<Duration>,

    /// On: Baton commits a row of its own (table baton.canary) on the primary every second, so that a stall is noticed
    /// while no client writes. One such commit is under way at most.
    #[serde(default)]
    pub write_canary: WriteCanary,
}

/// Whether Baton tries out whether the primary can commit.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum WriteCanary {
    /// It does not.
    #[default]
    Off,
    /// It does.
    On,
}

/// How quickly silence counts.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Tier {
    /// Looks every 100 ms.
    Fast,
    /// Looks every 500 ms.
    #[default]
    Standard,
    /// Looks every second.
    Relaxed,
}

/// What is done about replication settings that hide failures.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ReplicationSettings {
    /// They are reported.
    #[default]
    Report,
    /// They are set.
    Enforce,
}

/// What is done about failures.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("self.rebuild != 'Clone' || (has(self.export) && self.oldPrimary == 'Rejoin')", "failover.rebuild Clone needs failover.export, because what is discarded is saved before, and failover.oldPrimary Rejoin"))]
pub struct Failover {
    /// Automatic: a dead primary is replaced. DetectOnly: Baton only says what it would do.
    #[serde(default)]
    pub mode: Mode,

    /// Automatic: replicas of a dead intermediate primary are given another source. DetectOnly: Baton only says that it
    /// is dead.
    #[serde(default)]
    pub intermediate: Mode,

    /// The same for a primary that answers and whose commits hang, because its disk stalls or is full: Automatic or
    /// DetectOnly.
    #[serde(default)]
    pub stalled_primary: Mode,

    /// Automatic: a primary that refuses writes, as after a restart of all servers, is made writable again, once in
    /// blockPeriod, if no other server has anything that it lacks. DetectOnly: a person does it.
    #[serde(default = "detect_only")]
    pub read_only_primary: Mode,

    /// Operator: the operator itself makes another server writable; a Job does the rest where the operator is set up to
    /// run Jobs. Job: a Job carries out the whole failover, and clients wait for its pod to start. Where it does not
    /// start within 10 s, or dies, the operator goes on by itself.
    #[serde(default)]
    pub executor: Executor,

    /// A failover that may lose acknowledged transactions: Refuse or Accept. Defaults to Refuse with semi-synchronous
    /// replication and to Accept without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_loss: Option<DataLoss>,

    /// No second automatic failover within this time after one that nobody acknowledged, unless the process of the
    /// primary that it made is gone; even then three at most.
    #[serde(default = "block_period")]
    pub block_period: Duration,

    /// When more clusters need a failover at the same moment than the operator carries out at once, those with a higher
    /// priority begin first; of those with the same, who needed it first. Who has waited for 10 s comes before all of them.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1000))]
    pub priority: u32,

    /// Replicas that cannot follow the new primary are detached, which means that their receivers stay stopped, and
    /// listed in the record. This version always does so.
    #[serde(default = "yes")]
    pub detach_lost: bool,

    /// Rejoin: the old primary is fenced, and made a replica when it has no transactions of its own. Fence: it is fenced.
    /// Leave: it is left alone.
    #[serde(default)]
    pub old_primary: OldPrimary,

    /// Where what only an old primary, or a replica that somebody wrote to, has is saved, as a binary log with a manifest
    /// beside it. Without, it stays on that server, and status.quarantined says how to save it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub export: Option<Export>,

    /// Clone: an old primary with transactions of its own, which provably nobody was told are committed and which are saved
    /// (export), is overwritten with the data of another server (CLONE INSTANCE, MySQL 8.0.17 and newer) and becomes a
    /// replica. Never: a person does that.
    #[serde(default)]
    pub rebuild: Rebuild,

    /// Longest time that such a copy may take, from 1m to 168h. It is ended then, and the server is left to a person.
    #[serde(default = "rebuild_timeout")]
    #[x_kube(validation = ("self.matches('^([0-9]+([.][0-9]+)?(ms|s|m|h))+$') && duration(self) >= duration('1m') && duration(self) <= duration('168h')", "failover.rebuildTimeout must be from 1m to 168h"))]
    pub rebuild_timeout: Duration,

    /// Finished MysqlFailover records that are kept.
    #[serde(default = "keep_records")]
    #[schemars(range(min = 1, max = 1000))]
    pub keep_records: u32,
}

impl Default for Failover {
    fn default() -> Self {
        Self {
            mode: Mode::default(),
            intermediate: Mode::default(),
            stalled_primary: Mode::default(),
            read_only_primary: detect_only(),
            executor: Executor::default(),
            data_loss: None,
            block_period: block_period(),
            priority: 0,
            detach_lost: true,
            old_primary: OldPrimary::default(),
            export: None,
            rebuild: Rebuild::default(),
            rebuild_timeout: rebuild_timeout(),
            keep_records: keep_records(),
        }
    }
}

fn detect_only() -> Mode {
    Mode::DetectOnly
}

/// Where transactions that only one server has are saved.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Export {
    /// PersistentVolumeClaim in this namespace. A Job writes to it as user and group 65532.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = ("self.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')", "export.volumeClaimName must be the name of a PersistentVolumeClaim in this namespace"))]
    pub volume_claim_name: String,
}

fn block_period() -> Duration {
    Duration::from_ms(3_600_000)
}

fn rebuild_timeout() -> Duration {
    Duration::from_ms(3_600_000)
}

fn keep_records() -> u32 {
    20
}

/// Whether Baton acts.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Mode {
    /// It does.
    #[default]
    Automatic,
    /// It says what it would do.
    DetectOnly,
}

/// Who carries out a failover.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Executor {
    /// The operator.
    #[default]
    Operator,
    /// A Job.
    Job,
}

/// A failover that may lose acknowledged transactions.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataLoss {
    /// Is refused.
    Refuse,
    /// Is done, and what was lost is recorded.
    Accept,
}

/// What happens to the old primary.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OldPrimary {
    /// Fenced, then made a replica when it has no transactions of its own.
    #[default]
    Rejoin,
    /// Fenced.
    Fence,
    /// Left alone.
    Leave,
}

/// Whether an old primary with transactions of its own is overwritten once those are saved.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Rebuild {
    /// It is left as it is.
    #[default]
    Never,
    /// It is, by CLONE INSTANCE.
    Clone,
}
