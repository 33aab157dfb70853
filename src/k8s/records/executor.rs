//! Who may execute a recovery: the leader by its Lease, or a Job by its claim on the record.
//!
//! A Job claims a record that the leader left to it, by compare-and-swap, and renews the claim likewise. It acts
//! for less time after the start of a renewal than others wait after the last change that they saw, and what they
//! take over is the very version that did not change: so no two executors act at a time, as with the Lease.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::ResourceExt;

use super::{
    Claim, Records, SWAPS_MAX, left, params,
    translate::{read_phase, recovery_of},
    unavailable, unwritten,
};
use crate::{
    api::{MysqlFailover, MysqlFailoverStatus, mysql_failover::status::ClaimStatus},
    core::{
        election::LEASE_MS_MAX,
        recovery::{Hold, Recovery},
    },
    engine::ports::JournalError,
    k8s::deadline::within,
};

/// How long a whole failover waits for its Job, in milliseconds: a pod that starts takes a second or two.
const START_MS: u64 = 10_000;
/// How long one waits for it that has only to be completed, in milliseconds: the Job had time to start.
const COMPLETE_MS: u64 = 5_000;

/// What a Job finds when it looks at its record.
#[derive(Debug, Clone, PartialEq)]
pub enum Found {
    /// It may be claimed.
    Left,
    /// The operator executes it, and may leave it.
    Waiting,
    /// Nothing is to be done any more; why.
    Over(String),
}

/// What a record is to its Job's process `me`.
#[must_use]
pub fn found(record: &MysqlFailover, me: &str) -> Found {
    let Some(status) = &record.status else { return Found::Waiting };
    let phase = status.phase.map(read_phase).unwrap_or_default();
    let executor = status.executor.as_deref().unwrap_or("nobody");
    if phase.finished() {
        return Found::Over(format!("it has ended: {phase:?}"));
    }
    let Some(job) = &status.job else {
        return Found::Over("it is left to no Job".to_owned());
    };
    match (&job.message, &status.executor) {
        (Some(message), _) => Found::Over(format!("{executor} carries it out: {message}")),
        (None, None) => Found::Left,
        // It was claimed, and the answer did not come or not everything was done.
        (None, Some(executor)) if status.claim.is_some() && executor == me => Found::Left,
        (None, Some(_)) if status.claim.is_some() => Found::Over(format!("{executor} carries it out")),
        (None, Some(_)) => Found::Waiting,
    }
}

/// Why the leader is not to go on with an unfinished record; `None`: nothing keeps it from that.
pub(super) fn hold(record: &MysqlFailover) -> Option<Hold> {
    let status = record.status.as_ref()?;
    let job = status.job.as_ref().filter(|job| job.message.is_none())?;
    let (patience_ms, what) = match (&status.claim, &status.executor) {
        (Some(claim), _) => (u64::from(claim.duration_seconds).saturating_mul(1000), "did not renew its claim"),
        (None, None) if status.phase.is_some_and(|phase| read_phase(phase).promoted()) => {
            (COMPLETE_MS, "did not begin")
        }
        (None, None) => (START_MS, "did not begin"),
        (None, Some(_)) => return None,
    };
    let patience_ms = patience_ms.min(LEASE_MS_MAX);
    let version = record.resource_version().unwrap_or_default();
    Some(Hold { version, patience_ms, reason: format!("Job {} {what} within {patience_ms} ms", job.name) })
}

/// Whether a record is its Job's by now, as its executor wanted it.
pub(super) fn is_left(before: &MysqlFailoverStatus, recovery: &Recovery) -> bool {
    let ours = before.executor.as_ref() == Some(&recovery.executor);
    let usable = before.job.as_ref().is_some_and(|job| job.message.is_none());
    usable && !ours && (before.executor.is_none() || before.claim.is_some())
}

/// What a write says of the claim of its writer. That it is written is a sign of life by itself.
pub(super) fn claim(before: &MysqlFailoverStatus, claim_s: Option<u32>, now: Timestamp) -> Option<ClaimStatus> {
    let renewed = before.claim.as_ref().map(|claim| claim.renew_time.clone());
    let renew_time = renewed.unwrap_or(MicroTime(now));
    claim_s.map(|duration_seconds| ClaimStatus { duration_seconds, renew_time })
}

impl Records {
    /// The journal of a Job: what it executes it claims, for `claim_s` seconds from each renewal.
    #[must_use]
    pub fn of_job(mut self, claim_s: u32) -> Self {
        self.claim_s = Some(claim_s);
        self
    }

    /// Takes over the unfinished record `name` for `executor`, completes what [`Self::begin`] may have
    /// left undone, and answers with the record as it is. One whose epoch is somebody else's is closed. One
    /// that is held only if it is as `over` says; a Job takes what is left to it.
    ///
    /// # Errors
    /// As [`Self::begin`].
    pub async fn claim(&self, name: &str, executor: &str, over: Option<&Hold>) -> Result<Recovery, JournalError> {
        let mut record = self.record(name).await?;
        if record.spec.cluster_name != self.key.name {
            return Err(JournalError::Lost(format!("{name} is about another cluster")));
        }
        let ours = record.status.as_ref().and_then(|status| status.executor.as_deref()) == Some(executor);
        if ours && self.claim_s.is_some() {
            // How long it is valid counts from now: whoever waits has to see a change.
            self.renew(name, executor).await?;
            record = self.record(name).await?;
        }
        let read = |record: &MysqlFailover| {
            recovery_of(record).map_err(|error| JournalError::Unavailable(format!("{name}: {error}")))
        };
        let mut recovery = read(&record)?;
        if recovery.phase.finished() {
            return Ok(recovery);
        }
        self.may_claim(&record, &mut recovery, executor, over)?;
        let from = std::mem::replace(&mut recovery.executor, executor.to_owned());
        let from = Some(from.as_str()).filter(|from| !from.is_empty());
        Box::pin(self.write(record, &recovery, Claim::Over(from))).await?;
        let cluster = self.cluster().await?;
        match Box::pin(self.win_epoch(cluster, name, &recovery)).await {
            Err(JournalError::Lost(reason)) => recovery = left(recovery, &reason),
            won => return won.map(|()| recovery),
        }
        Box::pin(self.save(&recovery)).await?;
        Ok(recovery)
    }

    /// Whether a record as it was read now may be claimed. Who takes it from a Job writes down why.
    fn may_claim(
        &self,
        record: &MysqlFailover,
        recovery: &mut Recovery,
        executor: &str,
        over: Option<&Hold>,
    ) -> Result<(), JournalError> {
        let hold = hold(record);
        let elsewhere = |name: String| Err(JournalError::Unavailable(format!("{name} is not this process' to claim")));
        if self.claim_s.is_some() {
            let open = recovery.executor.is_empty() || recovery.executor == executor;
            return if open && hold.is_some() { Ok(()) } else { elsewhere(record.name_any()) };
        }
        match (hold, over, &mut recovery.job) {
            (None, ..) => Ok(()),
            (Some(hold), Some(over), Some(job)) if hold.version == over.version => {
                job.problem.clone_from(&over.reason);
                Ok(())
            }
            _ => elsewhere(record.name_any()),
        }
    }

    /// Writes the record without its executor, which is this process: from then on it is its Job's.
    ///
    /// # Errors
    /// As [`Self::begin`].
    pub async fn leave(&self, recovery: &Recovery) -> Result<(), JournalError> {
        let newest = self.newest.lock().await.take().filter(|record| record.name_any() == recovery.record);
        let record = match newest {
            Some(record) => record,
            None => self.record(&recovery.record).await?,
        };
        Box::pin(self.write(record, recovery, Claim::Leave)).await
    }

    /// Renews the claim of `executor` on `name`.
    ///
    /// # Errors
    /// [`JournalError::Lost`]: another one executes it, or it is gone. [`JournalError::Unavailable`]: it is not known whether it is
    /// renewed.
    pub async fn renew(&self, name: &str, executor: &str) -> Result<(), JournalError> {
        for _ in 0..SWAPS_MAX {
            let mut record = self.record(name).await?;
            let status = record.status.get_or_insert_default();
            if status.executor.as_deref() != Some(executor) {
                let other = status.executor.as_deref().unwrap_or("nobody");
                return Err(JournalError::Lost(format!("{name} is carried out by {other}")));
            }
            let now = MicroTime(Timestamp::now());
            let duration_seconds = self.claim_s.unwrap_or_default();
            status.claim = Some(ClaimStatus { duration_seconds, renew_time: now });
            let params = params();
            let put = self.records.replace_status(name, &params, &record);
            match within(self.budget, "renew the claim", put).await {
                Ok(written) => {
                    *self.newest.lock().await = Some(written);
                    return Ok(());
                }
                Err(error) if error.is_conflict() => {}
                Err(error) => return Err(unwritten(name, &error)),
            }
        }
        Err(JournalError::Unavailable(format!("{name} changes all the time")))
    }

    /// Reads the record `name` for its Job's process `me`.
    ///
    /// # Errors
    /// [`JournalError::Unavailable`].
    pub async fn look(&self, name: &str, me: &str) -> Result<Found, JournalError> {
        let get = self.records.get_opt(name);
        let record = within(self.budget, "read the MysqlFailover", get).await.map_err(|error| unavailable(&error))?;
        Ok(record.map_or_else(|| Found::Over(format!("{name} is gone")), |record| found(&record, me)))
    }
}
