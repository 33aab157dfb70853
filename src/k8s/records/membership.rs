//! `status.semiSync` of a cluster: who may acknowledge, written before it takes effect.
//!
//! Written by compare-and-swap against what the writer believed, so that a leader who is out of date
//! changes nothing.

use super::{Records, SWAPS_MAX, params, unavailable};
use crate::{
    api::mysql_cluster::SemiSyncStatus, core::membership::Membership, engine::ports::JournalError,
    k8s::deadline::within,
};

impl Records {
    /// Writes `to` where `from` is written; that it is there already is as good, and costs no write.
    ///
    /// # Errors
    /// [`JournalError::Lost`] when something else is written there, [`JournalError::Unavailable`] when that
    /// is unknown.
    pub async fn members(&self, from: Option<&Membership>, to: &Membership) -> Result<(), JournalError> {
        let mut cluster = self.cluster().await?;
        for _ in 0..SWAPS_MAX {
            let mut status = cluster.status.clone().unwrap_or_default();
            let found = status.semi_sync.as_ref().and_then(membership);
            if found.as_ref() == Some(to) {
                return Ok(());
            }
            if found.as_ref() != from {
                return Err(JournalError::Lost("other ackers are written down by now".to_owned()));
            }
            status.semi_sync = Some(written(to));
            cluster.status = Some(status);
            let params = params();
            let put = self.clusters.replace_status(&self.key.name, &params, &cluster);
            match within(self.budget, "write the ackers", put).await {
                Ok(_) => return Ok(()),
                Err(error) if error.is_refusal() && !error.is_conflict() => return Err(unavailable(&error)),
                // It may have been written all the same.
                Err(error) => cluster = self.cluster().await.map_err(|_| unavailable(&error))?,
            }
        }
        Err(JournalError::Unavailable(format!("the status of {} changes all the time", self.key)))
    }
}

/// What the status says; `None`: an address in it is none.
#[must_use]
pub fn membership(status: &SemiSyncStatus) -> Option<Membership> {
    let ackers = status.ackers.iter().map(|text| text.parse());
    Some(Membership {
        source: status.source.parse().ok()?,
        acks: status.acks,
        ackers: ackers.collect::<Result<_, _>>().ok()?,
    })
}

fn written(membership: &Membership) -> SemiSyncStatus {
    SemiSyncStatus {
        source: membership.source.to_string(),
        acks: membership.acks,
        ackers: membership.ackers.iter().map(ToString::to_string).collect(),
    }
}
