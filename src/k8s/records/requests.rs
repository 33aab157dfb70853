//! What a person asks for in the journal: their object becomes the record, or says why it does not.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{Claim, Records, SWAPS_MAX, left, params, phase_conditions, unavailable};
use crate::{
    api::{MysqlCluster, MysqlFailover, MysqlFailoverStatus, mysql_failover::status::FailoverPhase},
    core::recovery::{Phase, Recovery},
    engine::ports::JournalError,
    k8s::{conditions, deadline::within},
};

/// Longest reason of a refusal, in bytes.
const REASON_LEN_MAX: usize = 1024;

impl Records {
    /// Begins what a person asks for: the object is there and becomes the record. In this order: whoever
    /// finds a record without its epoch can still win the epoch or refuse the record.
    pub(super) async fn begin_request(&self, cluster: MysqlCluster, recovery: &Recovery) -> Result<(), JournalError> {
        let record = self.record(&recovery.record).await?;
        Box::pin(self.write(record, recovery, Claim::Begin)).await?;
        let won = Box::pin(self.win_epoch(cluster, &recovery.record, recovery)).await;
        if let Err(JournalError::Lost(reason)) = &won {
            Box::pin(self.save(&left(recovery.clone(), reason))).await?;
        }
        won
    }

    /// Writes into an object that nobody has begun that it is refused. One that is begun stays as it is.
    ///
    /// # Errors
    /// [`JournalError::Unavailable`]: it is not known whether it was done.
    pub async fn refuse(&self, name: &str, reason: &str) -> Result<(), JournalError> {
        for _ in 0..SWAPS_MAX {
            let get = self.records.get_opt(name);
            let found =
                within(self.budget, "read the MysqlFailover", get).await.map_err(|error| unavailable(&error))?;
            let Some(mut record) = found.filter(|found| found.status.as_ref().is_none_or(|old| old.phase.is_none()))
            else {
                return Ok(());
            };
            record.status = Some(refused(&record, reason));
            let params = params();
            let put = self.records.replace_status(name, &params, &record);
            match within(self.budget, "refuse the MysqlFailover", put).await {
                Ok(_) => return Ok(()),
                Err(error) if error.is_conflict() => {}
                Err(error) => return Err(unavailable(&error)),
            }
        }
        Err(JournalError::Unavailable(format!("{name} changes all the time")))
    }
}

/// The status of an object that is refused at once.
fn refused(found: &MysqlFailover, reason: &str) -> MysqlFailoverStatus {
    let now = Timestamp::now();
    let (generation, before) = (found.metadata.generation, found.status.clone().unwrap_or_default());
    MysqlFailoverStatus {
        observed_generation: generation,
        phase: Some(FailoverPhase::Refused),
        started_at: Some(Time(now)),
        message: Some(conditions::cut(reason, REASON_LEN_MAX).to_owned()),
        conditions: conditions::render(&before.conditions, &phase_conditions(Phase::Refused, reason), generation, now),
        ..before
    }
}
