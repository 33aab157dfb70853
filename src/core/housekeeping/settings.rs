//! Replication settings that make silence noticeable, where the owner wants them kept.

use super::Duty;
use crate::core::{
    id::ServerAddr,
    observation::{Observation, Receiver},
    policy::Policy,
    snapshot::Snapshot,
    step::Action,
};

/// A leader that is lost is replaced within its Lease and one look more (3.4 s), and receivers count from the last
/// heartbeat, which may be half a second old. In seconds.
const LEADER_LOST_S: u64 = 5;

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

/// `replica_net_timeout` that goes with a heartbeat: whole seconds, and several heartbeats.
///
/// A source that hangs is noticed by heartbeats long before. A receiver that waits for one stops at once, and one that
/// has begun to connect to it after this time takes two seconds (MySQL 9.7): a leader that hangs with it is replaced by
/// then.
fn net_timeout_s(heartbeat_ms: u64) -> u64 {
    heartbeat_ms.saturating_mul(4).div_ceil(1000).max(LEADER_LOST_S)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{election::Timing, policy::Detection, policy::Tier};

    #[test]
    fn a_receiver_still_waits_for_a_source_that_hangs_when_another_leads() {
        for tier in [Tier::Fast, Tier::Standard, Tier::Relaxed] {
            let heartbeat_ms = Detection::of(tier, None, true).heartbeat_ms;
            let lost_ms = Timing::FAST.lease_ms() + Timing::FAST.retry_ms() + heartbeat_ms;
            assert!(net_timeout_s(heartbeat_ms) * 1000 > lost_ms, "{tier:?}");
        }
    }
}
