//! `status.quarantined[].rebuild` of a cluster: what is done about overwriting a server, written before it is done.
//!
//! Written by compare-and-swap on the newest version of the object, in which everything that it rests on must still
//! be written as the writer believes: a leader who is out of date begins nothing.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{Records, SWAPS_MAX, params, unavailable};
use crate::{
    api::{
        MysqlCluster, MysqlClusterStatus,
        mysql_cluster::{self as wire, AcknowledgedStatus, ExportState, QuarantineStatus, RebuildState, RebuildStatus},
    },
    core::{
        gtid::GtidSet,
        id::{Epoch, ServerAddr},
        rebuild::{Rebuild, State},
    },
    engine::ports::JournalError,
    k8s::deadline::within,
};

/// What must be written when overwriting a server begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Basis {
    /// The generation that the wishes were read from.
    pub generation: Option<i64>,
    /// The reign.
    pub epoch: Epoch,
    /// The primary.
    pub primary: ServerAddr,
    /// Name of the failover that replaced the server.
    pub record: String,
    /// The Job that saved exactly what the server has alone.
    pub job: String,
    /// What that is.
    pub extra: GtidSet,
}

impl Records {
    /// Writes what is said about overwriting `addr`, where `from` is written. That it is there already, or that there
    /// is no entry and nothing to say, is as good. `basis`: what must hold besides.
    ///
    /// # Errors
    /// [`JournalError::Lost`] when something else is written there, [`JournalError::Unavailable`] when that is unknown.
    pub async fn rebuild(
        &self,
        addr: &ServerAddr,
        from: Option<&Rebuild>,
        to: Option<&Rebuild>,
        basis: Option<&Basis>,
    ) -> Result<(), JournalError> {
        self.swap(|cluster, status| {
            if let Some(problem) = basis.and_then(|basis| against(cluster, status, addr, basis)) {
                return Err(JournalError::Lost(problem));
            }
            let Some(entry) = status.quarantined.iter_mut().find(|entry| entry.address == addr.to_string()) else {
                let gone = || JournalError::Lost(format!("{addr} is not in quarantine any more"));
                return if to.is_none() { Ok(false) } else { Err(gone()) };
            };
            let found = entry.rebuild.as_ref().map(rebuild);
            if found.as_ref() == to {
                return Ok(false);
            }
            if found.as_ref() != from {
                return Err(JournalError::Lost(format!("something else is written about rebuilding {addr} by now")));
            }
            entry.rebuild = to.map(written);
            Ok(true)
        })
        .await
    }

    /// Writes down that the old primary of a failover is overwritten now, where `running` is written about it: that is
    /// done once, whatever comes of it.
    ///
    /// # Errors
    /// [`JournalError::Lost`] when that is written already or something else is written about the server,
    /// [`JournalError::Unavailable`] when it is unknown whether it is written.
    pub async fn rebuilt(&self, addr: &ServerAddr, record: &str, running: &Rebuild) -> Result<(), JournalError> {
        self.swap(|_, status| {
            let mut entries = status.quarantined.iter();
            let entry = entries.find(|entry| entry.address == addr.to_string());
            let found = entry.and_then(|entry| entry.rebuild.as_ref()).map(rebuild);
            match () {
                () if status.rebuilt.as_deref() == Some(record) => Err(JournalError::Lost(format!("{addr}: {ONCE}"))),
                () if found.as_ref() != Some(running) => {
                    Err(JournalError::Lost(format!("something else is written about rebuilding {addr} by now")))
                }
                () => {
                    status.rebuilt = Some(record.to_owned());
                    Ok(true)
                }
            }
        })
        .await
    }

    /// Writes down that clients may have been told that what a server has alone is committed. That stays, whoever leads.
    ///
    /// # Errors
    /// [`JournalError`].
    pub async fn doubt(&self, addr: &ServerAddr, record: &str, reason: &str) -> Result<(), JournalError> {
        self.swap(|_, status| {
            let same = |entry: &&mut QuarantineStatus| {
                entry.address == addr.to_string() && entry.record.as_deref() == Some(record)
            };
            let Some(entry) = status.quarantined.iter_mut().find(same) else { return Ok(false) };
            if entry.acknowledged == AcknowledgedStatus::Possible {
                return Ok(false);
            }
            (entry.acknowledged, entry.reason) = (AcknowledgedStatus::Possible, reason.to_owned());
            Ok(true)
        })
        .await
    }

    /// Changes the newest status; `false`: there is nothing to change.
    async fn swap(
        &self,
        change: impl Fn(&MysqlCluster, &mut MysqlClusterStatus) -> Result<bool, JournalError>,
    ) -> Result<(), JournalError> {
        let mut cluster = self.cluster().await?;
        for _ in 0..SWAPS_MAX {
            let mut status = cluster.status.clone().unwrap_or_default();
            if !change(&cluster, &mut status)? {
                return Ok(());
            }
            cluster.status = Some(status);
            let params = params();
            let put = self.clusters.replace_status(&self.key.name, &params, &cluster);
            match within(self.budget, "write the rebuild", put).await {
                Ok(_) => return Ok(()),
                Err(error) if error.is_refusal() && !error.is_conflict() => return Err(unavailable(&error)),
                // It may have been written all the same.
                Err(error) => cluster = self.cluster().await.map_err(|_| unavailable(&error))?,
            }
        }
        Err(JournalError::Unavailable(format!("the status of {} changes all the time", self.key)))
    }
}

/// Why nothing begins a second time.
const ONCE: &str = "it was overwritten, or was to be, since that failover already";

/// What is not as the writer believes.
fn against(cluster: &MysqlCluster, status: &MysqlClusterStatus, addr: &ServerAddr, basis: &Basis) -> Option<String> {
    let epoch = status.epoch.and_then(|epoch| u64::try_from(epoch).ok()).unwrap_or_default();
    let running = |entry: &&QuarantineStatus| {
        let runs = entry.rebuild.as_ref().is_some_and(|rebuild| rebuild.state == RebuildState::Running);
        runs && entry.address != addr.to_string()
    };
    let entry = status.quarantined.iter().find(|entry| entry.address == addr.to_string());
    let saved = |entry: &QuarantineStatus| {
        let export = entry.export.as_ref();
        export.is_some_and(|export| export.state == ExportState::Succeeded && export.job == basis.job)
    };
    let problem = match entry {
        _ if cluster.metadata.generation != basis.generation => "the MysqlCluster has changed",
        _ if cluster.spec.failover.rebuild != wire::Rebuild::Clone || cluster.spec.paused => "it is not wished for",
        _ if epoch != basis.epoch.0 => "another reign has begun",
        _ if status.primary.as_ref() != Some(&basis.primary.to_string()) => "another primary is written down",
        _ if status.rebuilt.as_ref() == Some(&basis.record) => ONCE,
        _ if status.quarantined.iter().any(|entry| running(&entry)) => "another server is being rebuilt",
        _ if status.semi_sync.iter().any(|known| known.ackers.contains(&addr.to_string())) => {
            "it is written down as one that may acknowledge"
        }
        None => "it is not in quarantine",
        Some(entry) if entry.record.as_ref() != Some(&basis.record) => "another failover replaced it",
        Some(entry) if entry.acknowledged != AcknowledgedStatus::Impossible => {
            "it is written down that clients may have been told that its transactions are committed"
        }
        Some(entry) if entry.extra.as_ref().and_then(|extra| extra.set.clone()) != Some(basis.extra.to_string()) => {
            "other transactions are written down, or too many to be written down"
        }
        Some(entry) if !saved(entry) => "it is not written down that its transactions are saved",
        Some(_) => return None,
    };
    Some(format!("{addr}: {problem}"))
}

/// What a status says about each server.
#[must_use]
pub fn rebuilds(status: &MysqlClusterStatus) -> BTreeMap<ServerAddr, Rebuild> {
    let all = status.quarantined.iter();
    all.filter_map(|entry| Some((entry.address.parse().ok()?, rebuild(entry.rebuild.as_ref()?)))).collect()
}

/// Servers that are being overwritten, or that may have lost their data by it; never the primary.
#[must_use]
pub fn unusable(status: &MysqlClusterStatus) -> BTreeSet<ServerAddr> {
    let primary = status.primary.as_ref().and_then(|text| text.parse().ok());
    let all =
        rebuilds(status).into_iter().filter(|(addr, rebuild)| rebuild.unusable() && primary.as_ref() != Some(addr));
    all.map(|(addr, _)| addr).collect()
}

/// Whether an entry stays until it is known how what was begun has ended.
#[must_use]
pub fn stays(entry: &QuarantineStatus) -> bool {
    entry.rebuild.as_ref().is_some_and(|rebuild| self::rebuild(rebuild).unusable())
}

fn rebuild(status: &RebuildStatus) -> Rebuild {
    Rebuild {
        state: match status.state {
            RebuildState::Waiting => State::Waiting,
            RebuildState::Running => State::Running,
            RebuildState::Failed => State::Failed,
        },
        donor: status.donor.as_ref().and_then(|text| text.parse().ok()),
        uuid: status.server_uuid.clone(),
        extra: status.extra.as_ref().and_then(|text| text.parse().ok()),
        began: status.began.as_ref().map(|time| time.0),
        message: status.message.clone().unwrap_or_default(),
    }
}

fn written(rebuild: &Rebuild) -> RebuildStatus {
    RebuildStatus {
        state: match rebuild.state {
            State::Waiting => RebuildState::Waiting,
            State::Running => RebuildState::Running,
            State::Failed => RebuildState::Failed,
        },
        donor: rebuild.donor.as_ref().map(ToString::to_string),
        server_uuid: rebuild.uuid.clone(),
        extra: rebuild.extra.as_ref().map(ToString::to_string),
        began: rebuild.began.map(Time),
        message: Some(rebuild.message.clone()).filter(|message| !message.is_empty()),
    }
}
