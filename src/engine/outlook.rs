//! What is to be done about intermediate primaries that are lost and about replicas in disorder, and why it
//! is not: worked out with every decision, so that it is shown whoever leads.

use std::collections::{BTreeMap, BTreeSet};

use super::facts::Facts;
use crate::core::{
    analysis::Analysis,
    housekeeping::Duty,
    id::ServerAddr,
    policy::Mode,
    relocation::{self, Fate, Plan, Tried, hold},
    repair,
    snapshot::Snapshot,
    topology::Topology,
};

/// What is to be done about intermediate primaries that are lost.
#[derive(Debug, Clone, Default)]
pub struct Outlook {
    /// Nothing more urgent is going on, and the primary answers: replicas may be moved.
    pub free: bool,
    /// Servers whose replicas are to be moved.
    pub lost: BTreeSet<ServerAddr>,
    /// The recovery to begin next.
    pub begin: Option<(Analysis, Plan)>,
    /// Repairs that the owner asked for.
    pub repairs: Vec<Duty>,
    /// Why the replicas of a server stay where they are, or why one of them cannot be moved.
    pub reasons: BTreeMap<ServerAddr, String>,
}

/// The outlook. `urgent`: something else is to be done first.
pub(super) fn outlook(
    snapshot: &Snapshot,
    facts: &Facts<'_>,
    topology: &Topology,
    analyses: &[Analysis],
    urgent: bool,
) -> Outlook {
    let policy = &facts.desired.policy;
    let primary = snapshot.primary.as_ref().and_then(|addr| snapshot.servers.get(addr)?.answering());
    let mut outlook = Outlook { free: !urgent && !policy.paused && primary.is_some(), ..Outlook::default() };
    for analysis in analyses.iter().filter(|analysis| relocation::called_for(snapshot, analysis)) {
        let lost = &analysis.server;
        if policy.failover.intermediate == Mode::DetectOnly {
            let reason = "its replicas stay with it: failover.intermediate is DetectOnly".to_owned();
            outlook.reasons.insert(lost.clone(), reason);
            continue;
        }
        outlook.lost.insert(lost.clone());
        let plan = relocation::plan(snapshot, topology, policy, lost, &Tried::default());
        for (addr, fate) in &plan.orphans {
            if let Fate::Lost(reason) = fate {
                outlook.reasons.insert(addr.clone(), format!("cannot be moved away from {lost}: {reason}"));
            }
        }
        let movable = plan.movable();
        if movable.is_empty() {
            continue;
        }
        match hold::held(facts.relocations, policy.failover.block_ms, lost, &movable) {
            Some(reason) => {
                outlook.reasons.insert(lost.clone(), format!("its replicas stay with it: {reason}"));
            }
            None if outlook.begin.is_none() => outlook.begin = Some((analysis.clone(), plan)),
            None => {}
        }
    }
    let repairs = repair::find(snapshot, topology, policy, facts.history.last.as_ref());
    // Who is to be moved is not to be repaired where it is.
    let orphaned = |addr: &ServerAddr| outlook.lost.iter().any(|lost| topology.replicas(lost).any(|one| one == addr));
    outlook.repairs = repairs.due.into_iter().filter(|duty| !orphaned(&duty.server)).collect();
    for (addr, reason) in repairs.reasons {
        outlook.reasons.entry(addr).or_insert(reason);
    }
    outlook
}
