//! What is left to do when nothing is wrong with the primary: the old primary is kept fenced and
//! brought back, late replicas are repointed, replication settings are kept.
//!
//! Level-triggered: one snapshot gives at most one action per server; the next look shows what it did.

mod failover;
mod settings;

use self::{failover::after_failover, settings::settings};
use super::{
    id::ServerAddr, observation::Observation, policy::Policy, recovery::Recovery, snapshot::Snapshot, step::Action,
};

/// Something due on a server, with the reason in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Duty {
    /// The server.
    pub server: ServerAddr,
    /// What.
    pub action: Action,
    /// Why.
    pub reason: &'static str,
}

/// Everything that is due now, at most one action per server.
#[must_use]
pub fn due(snapshot: &Snapshot, policy: &Policy, last: Option<&Recovery>) -> Vec<Duty> {
    let Some((primary_addr, primary)) = snapshot.primary.as_ref().and_then(|addr| {
        let seen = snapshot.servers.get(addr)?.answering()?;
        seen.settings.writable().then_some((addr, seen))
    }) else {
        return Vec::new();
    };
    let promoted = last.filter(|record| record.phase.promoted() && record.new_primary.as_ref() == Some(primary_addr));
    let others =
        snapshot.servers.iter().filter(|(addr, _)| *addr != primary_addr && !policy.maintenance.contains(*addr));
    let duty = |addr: &ServerAddr, seen: &Observation| {
        let of_record =
            promoted.and_then(|record| after_failover(snapshot, policy, record, (addr, seen), (primary_addr, primary)));
        of_record.or_else(|| settings(snapshot, policy, addr, seen, primary_addr))
    };
    others.filter_map(|(addr, state)| duty(addr, state.answering()?)).collect()
}
