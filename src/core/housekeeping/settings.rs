//! Replication settings that make silence noticeable, where the owner wants them kept.

use super::Duty;
use crate::core::{
    id::ServerAddr,
    observation::{Observation, Receiver},
    policy::Policy,
    snapshot::Snapshot,
    step::Action,
};

/// The settings that are wrong on a server.
pub(super) fn settings(
    snapshot: &Snapshot,
    policy: &Policy,
    addr: &ServerAddr,
    seen: &Observation,
    primary: &ServerAddr,
) -> Option<Duty> {
    if !policy.detection.enforce {
        return None;
    }
    let channel = seen.channels.iter().find(|channel| snapshot.source_of(channel) == Some(primary))?;
    let wanted_ms = policy.detection.heartbeat_ms;
    let net_timeout_s = net_timeout_s(wanted_ms);
    let wrong = channel.heartbeat_interval_ms.is_some_and(|found| found != wanted_ms)
        || seen.settings.net_timeout_s != net_timeout_s;
    let healthy = channel.receiver == Receiver::Running && channel.applier_running && channel.drained(&seen.executed);
    (wrong && healthy).then(|| Duty {
        server: addr.clone(),
        action: Action::EnforceReplicationSettings { heartbeat_ms: wanted_ms, net_timeout_s },
        reason: "its replication settings would hide a failure of the source",
    })
}

/// `replica_net_timeout` that goes with a heartbeat: whole seconds, at least two heartbeats and a bit.
fn net_timeout_s(heartbeat_ms: u64) -> u64 {
    heartbeat_ms.saturating_mul(4).div_ceil(1000).max(2)
}
