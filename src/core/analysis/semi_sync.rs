//! Semi-synchronous replication: commits that hang, fell back, or may be acknowledged by a stranger.

use super::{
    Analysis, Context,
    code::{Act, Code},
    evidence::Evidence,
};
use crate::core::{
    durability::{Durability, source_side_on},
    id::ServerAddr,
    observation::{Observation, SemiSyncSource},
    snapshot::ServerState,
};

/// How long commits must have hung before it is more than a hypothesis, in milliseconds; orchestrator's
/// default for `ReasonableLockedSemiSyncMasterSeconds`.
const LOCKED_MS: u64 = 10_000;

/// What is wrong with semi-sync at one server.
pub(super) fn analyse(
    cx: &Context<'_>,
    addr: &ServerAddr,
    state: &ServerState,
    seen: &Observation,
) -> Option<Analysis> {
    if cx.topology.primary.as_ref() != Some(addr) {
        return on_replica(addr, seen);
    }
    let source = seen.semi_sync.source.as_ref().filter(|source| source.enabled && source.wait_count > 0)?;
    let few = source.clients < source.wait_count;
    let stuck = state.stuck_since.is_some_and(|since| seen.at.since_ms(since) >= LOCKED_MS);
    let code = match (few, source.active) {
        (true, true) if stuck => Code::LockedSemiSyncPrimary,
        (true, true) => Code::LockedSemiSyncPrimaryHypothesis,
        (true, false) => Code::NotEnoughValidSemiSyncReplicas,
        (false, _) => return strangers(cx, addr, seen),
    };
    let evidence = vec![Evidence::new(addr, seen.at, words(source))];
    let since = state.stuck_since.filter(|_| code == Code::LockedSemiSyncPrimary);
    Some(Analysis { since, ..Analysis::new(code, addr, evidence) })
}

fn words(source: &SemiSyncSource) -> String {
    let SemiSyncSource { clients, wait_count, waiting, .. } = source;
    format!("waits for {wait_count} acknowledgements, {clients} replicas can give one, {waiting} sessions wait")
}

/// More ackers than known replicas, once every known replica was looked at.
fn strangers(cx: &Context<'_>, addr: &ServerAddr, seen: &Observation) -> Option<Analysis> {
    let known = cx.snapshot.servers.values().all(|state| state.last.is_some());
    let unknown = Durability::found(cx.snapshot, addr).unknown_ackers;
    let clients = seen.semi_sync.source.as_ref()?.clients;
    (known && unknown > 0).then(|| {
        let saw = format!("counts {clients} acknowledging replicas, {unknown} of them unknown");
        Analysis::new(Code::PrimaryWithTooManySemiSyncReplicas, addr, vec![Evidence::new(addr, seen.at, saw)])
    })
}

/// The source side where there is nobody to acknowledge (M10). It is not switched off while clients may
/// be writing there: that would release commits that nobody has (M2).
fn on_replica(addr: &ServerAddr, seen: &Observation) -> Option<Analysis> {
    (!seen.channels.is_empty() && source_side_on(seen)).then(|| {
        let evidence = vec![Evidence::new(addr, seen.at, "is a replica with the source side of semi-sync on")];
        let analysis = Analysis::new(Code::SemiSyncSourceOnReplica, addr, evidence);
        let act = if seen.settings.writable() { Act::Nothing } else { analysis.act };
        Analysis { act, ..analysis }
    })
}
