//! A primary that answers and cannot commit: its disk stalls or is full. Reads go on, so only what does not
//! happen shows it: nothing is executed and nothing is written while commits are under way.

use super::{
    Analysis, Context,
    code::{Act, Code},
    evidence::Evidence,
};
use crate::core::{
    durability::Durability,
    id::ServerAddr,
    observation::{Channel, Observation, Receiver},
    policy::Mode,
    snapshot::{ServerState, Stall},
};

/// Whether the primary's commits hang, and whether another server is to take over.
pub(super) fn analyse(
    cx: &Context<'_>,
    addr: &ServerAddr,
    state: &ServerState,
    seen: &Observation,
) -> Option<Analysis> {
    let stall = state.stall.filter(|_| cx.topology.primary.as_ref() == Some(addr) && seen.settings.writable())?;
    let hung_ms = seen.at.since_ms(stall.since);
    if hung_ms < Stall::TELL_MS {
        return None;
    }
    let saw = "commits hang: nothing is executed, nothing is written to its binary log";
    let mut evidence = vec![Evidence::new(addr, seen.at, saw)];
    let held_back = why_not(cx, addr, seen).or_else(|| too_early(cx, stall, hung_ms));
    let act = if held_back.is_some() { Act::Nothing } else { Act::Failover };
    evidence.extend(held_back.map(|reason| Evidence::new(addr, seen.at, reason)));
    Some(Analysis { since: Some(stall.since), act, ..Analysis::new(Code::StalledPrimary, addr, evidence) })
}

fn too_early(cx: &Context<'_>, stall: Stall, hung_ms: u64) -> Option<String> {
    let wanted_ms = cx.policy.detection.stall_ms;
    let limit_ms = if stall.binlog_writes.is_some() { wanted_ms } else { wanted_ms.max(Stall::BLIND_MS) };
    (hung_ms < limit_ms).then(|| format!("nothing is done about it before it has lasted {} s", limit_ms / 1000))
}

/// Why no other server takes over, however long it lasts.
fn why_not(cx: &Context<'_>, addr: &ServerAddr, seen: &Observation) -> Option<String> {
    if cx.policy.failover.stalled == Mode::DetectOnly {
        return Some("nothing is done about it: failover.stalledPrimary is DetectOnly".to_owned());
    }
    // Refusing writes waits for the commits that hang; only offline mode does not.
    let version = seen.identity.version;
    if Durability::found(cx.snapshot, addr).wait_count == 0 && !version.has_offline_mode() {
        let saw = "its commits wait for no acknowledgement and it has no offline mode: it cannot be fenced while they \
                   hang; end its process to fail over";
        return Some(saw.to_owned());
    }
    let well = |(_, seen, channel): &(&ServerAddr, &Observation, &Channel)| {
        channel.receiver == Receiver::Running && channel.applier_running && channel.drained(&seen.executed)
    };
    if !cx.replicas_answering(addr).iter().any(well) {
        return Some("no replica has applied all that it received: nothing is done about it".to_owned());
    }
    None
}
