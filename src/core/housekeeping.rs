//! What is left to do when nothing is wrong with the primary: the old primary is kept fenced and
//! brought back, late replicas are repointed, replication settings and semi-sync are kept.
//!
//! Level-triggered: one snapshot gives at most one action per server; the next look shows what it did.

mod admission;
mod failover;
mod settings;

use self::{
    failover::{after_failover, leftover},
    settings::settings,
};
use super::step::Action;
pub use super::step::Duty;
use super::{
    id::ServerAddr, observation::Observation, policy::Policy, recovery::Recovery, semi_sync, snapshot::Snapshot,
};

/// Everything that is due now, at most one action per server.
#[must_use]
pub fn due(snapshot: &Snapshot, policy: &Policy, last: Option<&Recovery>) -> Vec<Duty> {
    let answers = |addr| Some((addr, snapshot.servers.get(addr)?.answering()?));
    let Some((primary_addr, primary)) = snapshot.primary.as_ref().and_then(answers) else {
        return Vec::new();
    };
    let rests = policy.rests(primary_addr).is_some();
    let leftover = last.filter(|_| !rests).and_then(|last| leftover(snapshot, last, (primary_addr, primary)));
    if !primary.settings.writable() {
        return leftover.into_iter().collect();
    }
    let promoted = last.filter(|record| record.phase.promoted() && record.new_primary.as_ref() == Some(primary_addr));
    let others =
        snapshot.servers.iter().filter(|(addr, _)| *addr != primary_addr && !policy.maintenance.contains(*addr));
    let duty = |addr: &ServerAddr, seen: &Observation| {
        let of_record =
            promoted.and_then(|record| after_failover(snapshot, policy, record, (addr, seen), (primary_addr, primary)));
        of_record.or_else(|| settings(snapshot, policy, addr, seen, primary_addr))
    };
    // One that is being rebuilt has nothing to lose, and must not let clients in when it is back.
    let free = |duty: &Duty| policy.rests(&duty.server).is_none() || duty.action == Action::Fence;
    let due = others.filter_map(|(addr, state)| duty(addr, state.answering()?)).filter(free);
    let mut due: Vec<_> = leftover.into_iter().chain(due).collect();
    let admission = admission::due(snapshot, policy, primary_addr, primary);
    for duty in semi_sync::plan(snapshot, policy).duties.into_iter().chain(admission) {
        if due.iter().all(|other| other.server != duty.server) {
            due.push(duty);
        }
    }
    due
}
