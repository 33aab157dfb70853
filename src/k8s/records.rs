//! The journal of recoveries: `MysqlFailover` objects and `status.epoch` of their cluster.
//!
//! A record has the same name whoever creates it (`<cluster>-<epoch>`), so the API server admits it
//! once; it belongs to whoever wrote its `status.executor` by compare-and-swap; and its epoch counts
//! once the cluster's status says so, again by compare-and-swap. A call that was done but answered with
//! an error is found out by reading again. See docs/safety.md, "Failing over", 1.

pub mod executor;
pub mod history;
pub mod membership;
pub mod rebuild;
mod requests;
pub mod translate;

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::{
    Api, Client, ResourceExt,
    api::{ListParams, PostParams, Resource},
};
use tokio::sync::Mutex;

use super::{
    apply::owned_by,
    conditions::{self, Wanted},
    deadline::{CallError, within},
};
use crate::{
    api::{
        FIELD_MANAGER, LABEL_CLUSTER, MysqlCluster, MysqlClusterStatus, MysqlFailover, MysqlFailoverSpec,
        MysqlFailoverStatus, common::Truth, mysql_cluster::FailoverSummary, mysql_failover::LostRole,
    },
    core::{
        id::ClusterKey,
        recovery::{Part, Phase, Recovery},
    },
    engine::ports::JournalError,
};
use translate::{cause_of, read_phase, role_of, status_of};

/// Compare-and-swap attempts before giving up; every failed one means that somebody else wrote.
const SWAPS_MAX: u32 = 5;
/// Longest wait for one call of the journal: it is on the path of a failover.
const BUDGET: Duration = Duration::from_secs(2);

/// The journal of one cluster.
#[derive(Debug)]
pub struct Records {
    clusters: Api<MysqlCluster>,
    records: Api<MysqlFailover>,
    key: ClusterKey,
    budget: Duration,
    /// How long others wait for a renewal of what this process claims, in seconds; `None`: it claims by its Lease.
    claim_s: Option<u32>,
    /// The newest version of the record under way that this process wrote or read.
    newest: Mutex<Option<MysqlFailover>>,
}

/// What a compare-and-swap on an object's status comes to.
enum Swap<S> {
    /// Write this.
    Write(S),
    /// It is as wanted already.
    Done,
}

fn unavailable(error: &CallError) -> JournalError {
    JournalError::Unavailable(error.to_string())
}

/// Why the record `name`, which was there, could not be read or written. One that somebody removed is nobody's.
fn unwritten(name: &str, error: &CallError) -> JournalError {
    if error.is_not_found() { JournalError::Lost(format!("{name} is gone")) } else { unavailable(error) }
}

fn params() -> PostParams {
    PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() }
}

impl Records {
    /// The journal of the cluster `key`.
    #[must_use]
    pub fn new(client: &Client, key: ClusterKey) -> Self {
        let clusters = Api::namespaced(client.clone(), &key.namespace);
        let records = Api::namespaced(client.clone(), &key.namespace);
        Self { clusters, records, key, budget: BUDGET, claim_s: None, newest: Mutex::new(None) }
    }

    /// With another wait for each call.
    #[must_use]
    pub fn with_budget(mut self, budget: Duration) -> Self {
        self.budget = budget;
        self
    }

    /// Creates the record and wins its epoch; doing it twice is doing it once.
    ///
    /// # Errors
    /// [`JournalError::Lost`] when the epoch or the record is somebody else's,
    /// [`JournalError::Unavailable`] when that is unknown.
    pub async fn begin(&self, recovery: &Recovery) -> Result<(), JournalError> {
        let cluster = self.cluster().await?;
        let name = recovery.record.clone();
        epoch_swap(&cluster, &name, recovery)?;
        if recovery.cause.is_forced() {
            return Box::pin(self.begin_request(cluster, recovery)).await;
        }
        // A Job has only records that are there, and no right to make any.
        let record = match self.claim_s {
            Some(_) => self.record(&name).await?,
            None => self.create(&cluster, &name, recovery).await?,
        };
        // The record's name admits one; the two swaps do not depend on each other.
        let written = Box::pin(self.write(record, recovery, Claim::Begin));
        let epoch = Box::pin(self.win_epoch(cluster, &name, recovery));
        let (written, epoch) = tokio::join!(written, epoch);
        written.and(epoch)
    }

    /// Writes the record's status.
    ///
    /// # Errors
    /// As [`Self::begin`].
    pub async fn save(&self, recovery: &Recovery) -> Result<(), JournalError> {
        let name = recovery.record.clone();
        let newest = self.newest.lock().await.take().filter(|record| record.name_any() == name);
        let record = match newest {
            Some(record) => record,
            None => self.record(&name).await?,
        };
        Box::pin(self.write(record, recovery, Claim::Own)).await
    }

    async fn cluster(&self) -> Result<MysqlCluster, JournalError> {
        let get = self.clusters.get(&self.key.name);
        within(self.budget, "read the MysqlCluster", get).await.map_err(|error| unavailable(&error))
    }

    /// The cluster.
    #[must_use]
    pub fn key(&self) -> &ClusterKey {
        &self.key
    }

    /// All records of its namespace, as the API server has them now.
    ///
    /// # Errors
    /// [`JournalError::Unavailable`].
    pub async fn all(&self) -> Result<Vec<MysqlFailover>, JournalError> {
        let params = ListParams::default();
        let list = self.records.list(&params);
        let found = within(self.budget, "list the MysqlFailovers", list).await.map_err(|error| unavailable(&error))?;
        Ok(found.items)
    }

    async fn record(&self, name: &str) -> Result<MysqlFailover, JournalError> {
        let get = self.records.get(name);
        within(self.budget, "read the MysqlFailover", get).await.map_err(|error| unwritten(name, &error))
    }

    /// Creates the record, or reads the one that is there.
    async fn create(
        &self,
        cluster: &MysqlCluster,
        name: &str,
        recovery: &Recovery,
    ) -> Result<MysqlFailover, JournalError> {
        let wanted = new_record(&self.key, cluster, name, recovery);
        let params = params();
        let create = self.records.create(&params, &wanted);
        match within(self.budget, "create the MysqlFailover", create).await {
            Ok(created) => Ok(created),
            Err(error) if error.is_refusal() && !error.is_already_exists() => Err(unavailable(&error)),
            // It is there, or may be: an answer other than success can follow success.
            Err(error) => {
                let found = self.record(name).await.map_err(|_| unavailable(&error))?;
                // One that Baton made and nobody began may tell the cause in other words.
                let unbegun = found.status.is_none() && found.labels().contains_key(LABEL_CLUSTER);
                let ours = unbegun && about_the_same(&found.spec, &wanted.spec);
                if found.spec != wanted.spec && !ours {
                    return Err(JournalError::Lost(format!("{name} is about something else")));
                }
                Ok(found)
            }
        }
    }

    /// Compare-and-swap of the record's status.
    async fn write(
        &self,
        mut record: MysqlFailover,
        recovery: &Recovery,
        claim: Claim<'_>,
    ) -> Result<(), JournalError> {
        let name = record.name_any();
        for _ in 0..SWAPS_MAX {
            match record_swap(&record, recovery, claim, self.claim_s)? {
                Swap::Done => break,
                Swap::Write(status) => record.status = Some(status),
            }
            let params = params();
            let put = self.records.replace_status(&name, &params, &record);
            match within(self.budget, "write the MysqlFailover", put).await {
                Ok(written) => {
                    *self.newest.lock().await = Some(written);
                    return Ok(());
                }
                Err(error) if error.is_refusal() && !error.is_conflict() => return Err(unwritten(&name, &error)),
                Err(error) => {
                    record = self.record(&name).await.map_err(|read| match read {
                        JournalError::Lost(_) => read,
                        JournalError::Unavailable(_) => unavailable(&error),
                    })?;
                    if matches!(record_swap(&record, recovery, claim, self.claim_s)?, Swap::Done) {
                        break;
                    }
                    if !error.is_conflict() {
                        return Err(unavailable(&error));
                    }
                }
            }
        }
        let done = matches!(record_swap(&record, recovery, claim, self.claim_s)?, Swap::Done);
        *self.newest.lock().await = Some(record);
        if done { Ok(()) } else { Err(JournalError::Unavailable(format!("{name} changes all the time"))) }
    }

    /// Compare-and-swap of the cluster's epoch; for an intermediate primary it only has to be the one known.
    async fn win_epoch(&self, mut cluster: MysqlCluster, name: &str, recovery: &Recovery) -> Result<(), JournalError> {
        for _ in 0..SWAPS_MAX {
            match epoch_swap(&cluster, name, recovery)? {
                Swap::Done => return Ok(()),
                Swap::Write(status) => cluster.status = Some(status),
            }
            let params = params();
            let put = self.clusters.replace_status(&self.key.name, &params, &cluster);
            match within(self.budget, "raise the epoch", put).await {
                Ok(_) => return Ok(()),
                Err(error) if error.is_refusal() && !error.is_conflict() => return Err(unavailable(&error)),
                Err(error) => {
                    cluster = self.cluster().await.map_err(|_| unavailable(&error))?;
                    let done = matches!(epoch_swap(&cluster, name, recovery)?, Swap::Done);
                    match (done, error.is_conflict()) {
                        (true, _) => return Ok(()),
                        (false, true) => {}
                        (false, false) => return Err(unavailable(&error)),
                    }
                }
            }
        }
        Err(JournalError::Unavailable(format!("the status of {} changes all the time", self.key)))
    }
}

/// A recovery that cannot go on, because its epoch is another's.
fn left(mut recovery: Recovery, reason: &str) -> Recovery {
    recovery.phase = if recovery.phase == Phase::Pending { Phase::Refused } else { Phase::Failed };
    recovery.message = format!("another recovery went ahead: {reason}");
    recovery
}

/// On what grounds a record is written.
#[derive(Debug, Clone, Copy)]
enum Claim<'a> {
    /// It is new, or was left before anything was done.
    Begin,
    /// It is ours.
    Own,
    /// It was this executor's, which leads no more, or nobody's.
    Over(Option<&'a str>),
    /// It is ours and is left to its Job.
    Leave,
}

/// Whether two records are about one failover. A reign has one; of intermediate primaries several may be lost.
fn about_the_same(found: &MysqlFailoverSpec, wanted: &MysqlFailoverSpec) -> bool {
    let server = wanted.role == LostRole::Primary || found.cause.server == wanted.cause.server;
    found.cluster_name == wanted.cluster_name && found.role == wanted.role && server
}

/// What a fresh record looks like.
fn new_record(key: &ClusterKey, cluster: &MysqlCluster, name: &str, recovery: &Recovery) -> MysqlFailover {
    let spec = MysqlFailoverSpec {
        cluster_name: key.name.clone(),
        cause: cause_of(&recovery.cause),
        role: role_of(recovery.part),
        candidate: None,
        skip_hooks: false,
    };
    let mut record = MysqlFailover::new(name, spec);
    record.metadata = ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(key.namespace.clone()),
        labels: Some([(LABEL_CLUSTER.to_owned(), key.name.clone())].into()),
        owner_references: cluster.meta().uid.as_deref().map(|uid| vec![owned_by(key, uid)]),
        ..ObjectMeta::default()
    };
    record
}

/// What to write into a record whose present version is `found`.
fn record_swap(
    found: &MysqlFailover,
    recovery: &Recovery,
    claim: Claim<'_>,
    claim_s: Option<u32>,
) -> Result<Swap<MysqlFailoverStatus>, JournalError> {
    let name = found.name_any();
    let before = found.status.clone().unwrap_or_default();
    let executor = before.executor.as_deref();
    let begun = before.phase.is_some_and(|phase| read_phase(phase) != Phase::Pending);
    if matches!(claim, Claim::Begin) && begun {
        return Err(JournalError::Lost(format!("{name} was carried out before")));
    }
    if matches!(claim, Claim::Leave) && executor::is_left(&before, recovery) {
        return Ok(Swap::Done);
    }
    let ours = match (claim, executor) {
        (_, Some(executor)) if executor == recovery.executor => true,
        (Claim::Begin, None) => true,
        (Claim::Over(from), executor) => executor == from,
        _ => false,
    };
    if !ours {
        let executor = executor.unwrap_or("nobody");
        return Err(JournalError::Lost(format!("{name} is carried out by {executor}")));
    }
    let now = Timestamp::now();
    let mut status = status_of(recovery);
    status.claim = executor::claim(&before, claim_s, now);
    status.executor = status.executor.filter(|_| !matches!(claim, Claim::Leave));
    status.acknowledged |= before.acknowledged;
    status.started_at = before.started_at.clone().or(Some(Time(now)));
    status.observed_generation = found.metadata.generation;
    status.conditions = conditions::render(
        &before.conditions,
        &phase_conditions(recovery.phase, &recovery.message),
        found.metadata.generation,
        now,
    );
    Ok(if found.status.as_ref() == Some(&status) { Swap::Done } else { Swap::Write(status) })
}

/// The record's conditions.
fn phase_conditions(phase: Phase, message: &str) -> [Wanted; 3] {
    let reason = format!("{phase:?}");
    let stalled = matches!(phase, Phase::Failed | Phase::Refused);
    let condition = |type_, holds: bool| Wanted::new(type_, Truth::from(holds), &reason, message);
    [
        condition("Ready", phase == Phase::Succeeded),
        condition("Reconciling", !phase.finished()),
        condition("Stalled", stalled),
    ]
}

/// What to write into the cluster so that `name` begins the epoch.
fn epoch_swap(
    cluster: &MysqlCluster,
    name: &str,
    recovery: &Recovery,
) -> Result<Swap<MysqlClusterStatus>, JournalError> {
    let mut status = cluster.status.clone().unwrap_or_default();
    let current = status.epoch.unwrap_or_default();
    let wanted = i64::try_from(recovery.epoch.0).unwrap_or(i64::MAX);
    let holder = status.last_failover.as_ref().map(|last| last.record.as_str());
    match current.cmp(&wanted) {
        std::cmp::Ordering::Equal if recovery.part == Part::IntermediatePrimary => Ok(Swap::Done),
        _ if recovery.part == Part::IntermediatePrimary => {
            Err(JournalError::Lost(format!("epoch {current} has begun")))
        }
        std::cmp::Ordering::Greater => Err(JournalError::Lost(format!("epoch {current} has begun"))),
        std::cmp::Ordering::Equal if holder == Some(name) => Ok(Swap::Done),
        std::cmp::Ordering::Equal => {
            let holder = holder.unwrap_or("somebody else");
            Err(JournalError::Lost(format!("epoch {current} is begun by {holder}")))
        }
        std::cmp::Ordering::Less => {
            status.epoch = Some(wanted);
            status.last_failover = Some(FailoverSummary {
                record: name.to_owned(),
                time: Time(Timestamp::now()),
                phase: "Pending".to_owned(),
                from: Some(recovery.old_primary.to_string()),
                to: None,
            });
            Ok(Swap::Write(status))
        }
    }
}

#[cfg(test)]
mod tests;
