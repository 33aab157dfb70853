//! The journal of a recovery as it is stored. Its meaning is `core::recovery::Recovery`'s; the two are
//! translated in `k8s::records`.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, MicroTime, Time};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What has happened and what Baton needs to go on.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct MysqlFailoverStatus {
    /// The generation of the object that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// Pending, Fencing, Choosing, Promoting, Writable, Completing, Succeeded, Failed or Refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<FailoverPhase>,

    /// Number of the reign that this failover begins, or, for an intermediate primary, in which it happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<i64>,

    /// Process that carries it out: one of the operator's or of the Job's. None: it is left to the Job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executor: Option<String>,

    /// The Job that carries it out or completes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobStatus>,

    /// The executor's right to act, while that is the Job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<ClaimStatus>,

    /// When Baton began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,

    /// What was seen, by whom, and when.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<EvidenceStatus>,

    /// Every replica with the decision about it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub candidates: Vec<CandidateStatus>,

    /// The primary that was lost, or the intermediate primary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old_primary: Option<String>,

    /// Its server UUID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old_primary_uuid: Option<String>,

    /// Transactions it had when it was last seen before anything was done, as a GTID set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old_primary_set: Option<String>,

    /// A person forced the failover, and it was dead when Baton began.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub old_primary_dead: bool,

    /// The primary that was made. For an intermediate primary: the server that most of its replicas follow now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_primary: Option<String>,

    /// Transactions the new primary had when it was promoted, as a GTID set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promoted_set: Option<String>,

    /// What is known about acknowledged transactions that the new primary does not have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<LostStatus>,

    /// Replicas that cannot follow the new primary, or anybody.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lost_replicas: Vec<String>,

    /// Replicas that are still to follow another server.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pending_replicas: Vec<String>,

    /// What the old primary waited for before it acknowledged a transaction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledgement: Option<AcknowledgementStatus>,

    /// Steps that were taken, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<StepStatus>,

    /// When things were reached, in milliseconds since the first sign of the failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timings: Option<TimingsStatus>,

    /// Hooks that ran.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<HookStatus>,

    /// Why it waits, failed or was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,

    /// A person has taken note; the next automatic failover is not held back by this one.
    #[serde(default)]
    pub acknowledged: bool,

    /// Ready (it succeeded), Reconciling (it is under way) and Stalled (it failed or was refused).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// How far a failover is.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum FailoverPhase {
    /// Written down, nothing done yet.
    #[default]
    Pending,
    /// The old primary is being fenced.
    Fencing,
    /// The candidates are compared.
    Choosing,
    /// The chosen server is made the primary.
    Promoting,
    /// Clients can write.
    Writable,
    /// The other servers are brought in line.
    Completing,
    /// Done.
    Succeeded,
    /// Given up.
    Failed,
    /// Not done.
    Refused,
}

/// The Job of a failover.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct JobStatus {
    /// Its name in this namespace; empty: there is none.
    pub name: String,
    /// Why the operator goes on without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// A Job's right to act. The operator takes the failover over when this object has not changed for the duration.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ClaimStatus {
    /// How long others wait after the last change that they saw, in seconds.
    pub duration_seconds: u32,
    /// When it was renewed, by the Job's clock; for people.
    pub renew_time: MicroTime,
}

/// One thing that was seen.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct EvidenceStatus {
    /// Server that saw it or showed it.
    pub server: String,
    /// What.
    pub saw: String,
    /// When, in milliseconds since the first sign of the failure; negative: before it.
    pub at_ms: i64,
}

/// One replica with the decision about it.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct CandidateStatus {
    /// The server.
    pub server: String,
    /// Chosen, Eligible or Excluded.
    pub verdict: CandidateVerdict,
    /// Why.
    pub reason: String,
}

/// The decision about a candidate.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum CandidateVerdict {
    /// Became the primary.
    Chosen,
    /// Could have.
    Eligible,
    /// Could not.
    Excluded,
}

/// What is known about lost transactions.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct LostStatus {
    /// None: proven that nothing acknowledged is missing. AtLeast: these are missing. Unknown: nothing proves that
    /// nothing is.
    pub known: LossKind,
    /// The missing transactions that are known, as a GTID set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set: Option<String>,
    /// How many they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<i64>,
}

/// How much is known about lost transactions.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum LossKind {
    /// Nothing is missing.
    None,
    /// At least these are missing.
    AtLeast,
    /// Not known.
    Unknown,
}

/// What the old primary waited for before it acknowledged a transaction.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase")]
pub struct AcknowledgementStatus {
    /// Servers that could acknowledge.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ackers: Vec<String>,
    /// Servers that could acknowledge and that Baton does not know.
    #[serde(default)]
    pub unknown_ackers: u32,
    /// Acknowledgements that a transaction waited for; 0: none.
    #[serde(default)]
    pub wait_count: u32,
    /// Nothing was acknowledged without them.
    #[serde(default)]
    pub lossless: bool,
}

/// One step that was taken.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct StepStatus {
    /// What.
    pub step: String,
    /// On which server.
    pub server: String,
    /// When it began, in milliseconds since the first sign of the failure.
    pub started_ms: i64,
    /// How long it took, in milliseconds.
    pub took_ms: i64,
    /// Done or Failed.
    pub outcome: StepOutcome,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// How a step ended.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepOutcome {
    /// It was done.
    Done,
    /// It failed.
    Failed,
}

/// When things were reached, in milliseconds since the first sign of the failure.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase")]
pub struct TimingsStatus {
    /// The failure was certain enough to act.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detected: Option<i64>,
    /// This record was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recorded: Option<i64>,
    /// The old primary could acknowledge nothing any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fenced: Option<i64>,
    /// The new primary was chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chosen: Option<i64>,
    /// Clients could write again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writable: Option<i64>,
    /// Clients were sent to the new primary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub routed: Option<i64>,
    /// Everything was done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed: Option<i64>,
}

/// One hook that ran.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct HookStatus {
    /// Name of the hook.
    pub name: String,
    /// Its Job.
    pub job: String,
    /// Pending, Running, Succeeded, Failed or TimedOut.
    pub outcome: String,
}
