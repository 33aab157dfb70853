//! What is wrong with a cluster, most urgent first, each diagnosis with the evidence it rests on.
//!
//! The conditions are orchestrator's, tightened where safety.md demands it: a server is dead only if
//! our looks say so in a way that only a dead one causes *and* no replica that answers hears it *and*
//! at least one of them lost it by itself.

mod co_primary;
pub mod code;
mod errant;
pub mod evidence;
mod intermediate;
mod life;
mod mute;
mod primary;
mod replica;
mod restart;
mod semi_sync;
mod stall;
mod structure;
mod witness;

use std::collections::BTreeSet;

pub use self::{
    code::{Act, Code, Row, Severity},
    evidence::Evidence,
    restart::receivers_to_restart,
};
use self::{life::Life, mute::Finding};
use super::{
    id::ServerAddr,
    observation::{Channel, Observation, Receiver},
    policy::Policy,
    snapshot::{ServerState, Snapshot},
    status::Role,
    time::Mono,
    topology::Topology,
};

/// One diagnosis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Analysis {
    /// What.
    pub code: Code,
    /// The server it is about.
    pub server: ServerAddr,
    /// Since when, where it has a beginning.
    pub since: Option<Mono>,
    /// What it rests on.
    pub evidence: Vec<Evidence>,
    /// What may be done about it; never more than the code's row allows.
    pub act: Act,
    /// A weakness of the structure rather than a failure.
    pub structure: bool,
    /// Not acted upon, because the server, or all who could tell, are under maintenance.
    pub skipped: bool,
}

impl Analysis {
    fn new(code: Code, server: &ServerAddr, evidence: Vec<Evidence>) -> Self {
        let Row { act, structure, .. } = code.row();
        Self { code, server: server.clone(), since: None, evidence, act, structure, skipped: false }
    }

    fn of(finding: Finding, code: Code, server: &ServerAddr) -> Self {
        Self { since: Some(finding.since), ..Self::new(code, server, finding.evidence) }
    }

    /// Whether something is to be done about it now.
    #[must_use]
    pub fn actionable(&self) -> bool {
        !self.skipped && self.act != Act::Nothing
    }

    /// Whether another server is to become the primary.
    #[must_use]
    pub fn calls_for_failover(&self) -> bool {
        self.actionable() && self.act == Act::Failover
    }
}

/// What every part of the analysis needs.
#[derive(Debug)]
struct Context<'a> {
    snapshot: &'a Snapshot,
    policy: &'a Policy,
    topology: &'a Topology,
}

impl<'a> Context<'a> {
    fn life(&self, state: &'a ServerState) -> Life<'a> {
        Life::of(state, self.snapshot, &self.policy.detection)
    }

    fn answering(&self, addr: &ServerAddr) -> Option<&'a Observation> {
        self.snapshot.servers.get(addr)?.answering()
    }

    /// The channels by which a server replicates from `source`.
    fn channels_to<'b>(&'b self, seen: &'b Observation, source: &'b ServerAddr) -> impl Iterator<Item = &'b Channel> {
        seen.channels.iter().filter(move |channel| self.snapshot.source_of(channel) == Some(source))
    }

    /// The direct replicas that answer, with the channel to `source`.
    fn replicas_answering(&self, source: &ServerAddr) -> Vec<(&ServerAddr, &Observation, &Channel)> {
        let replicas = self.topology.replicas(source);
        let answering = replicas.filter_map(|addr| Some((addr, self.answering(addr)?)));
        let channel = |seen: &'a Observation| {
            seen.channels.iter().find(|channel| self.snapshot.source_of(channel) == Some(source))
        };
        answering.filter_map(|(addr, seen)| Some((addr, seen, channel(seen)?))).collect()
    }
}

/// Everything that is wrong, most urgent first, with the cluster's shape worked out on the way.
#[must_use]
pub fn analyse(snapshot: &Snapshot, policy: &Policy) -> Vec<Analysis> {
    analyse_topology(snapshot, policy, &Topology::of(snapshot))
}

/// The same for a shape that is known already.
#[must_use]
pub fn analyse_topology(snapshot: &Snapshot, policy: &Policy, topology: &Topology) -> Vec<Analysis> {
    let cx = Context { snapshot, policy, topology };
    let missing = life::not_looked_at(snapshot, &policy.detection);
    // Whoever is looked at first, it is one and the same finding.
    let about = topology.primary.as_ref().or(snapshot.servers.keys().next());
    if let Some(first) = about.filter(|_| !missing.is_empty()) {
        let waits = |addr| Evidence::new(addr, snapshot.at, "was not looked at since Baton began to watch");
        return vec![Analysis::new(Code::WatchingAnew, first, missing.iter().map(waits).collect())];
    }
    let mut found: Vec<Analysis> = snapshot.servers.iter().flat_map(|(addr, state)| server(&cx, addr, state)).collect();
    found.extend(primary::rivals(&cx));
    found.extend(structure::rings(&cx));
    hold_back(&mut found, policy);
    found.sort_by(|left, right| (left.code, &left.server).cmp(&(right.code, &right.server)));
    found
}

fn server(cx: &Context<'_>, addr: &ServerAddr, state: &ServerState) -> Vec<Analysis> {
    let mut found = match (cx.life(state), cx.topology.role_of(addr)) {
        (Life::Unknown, _) => Vec::new(),
        (Life::Refusing, _) => replica::refusing(addr, state),
        (_, _) if cx.topology.co_primary(addr).is_some() => co_primary::analyse(cx, addr),
        (_, Role::Primary | Role::Detached) => primary::analyse(cx, addr),
        (_, Role::Replica | Role::IntermediatePrimary) => intermediate::analyse(cx, addr),
        (_, Role::CoPrimary | Role::Unknown) => Vec::new(),
    };
    if let Some(seen) = state.answering() {
        found.extend(semi_sync::analyse(cx, addr, state, seen));
        found.extend(stall::analyse(cx, addr, state, seen));
        found.extend(replica::refusing_new(addr, seen));
        found.extend(replica::analyse(cx, addr, seen));
        found.extend(errant::analyse(cx, addr, state, seen));
        found.extend(structure::of_server(addr, seen));
        found.extend(structure::of_source(cx, addr, seen));
    }
    found
}

/// When we may be the ones who are cut off, nothing is done about anybody; and what concerns servers
/// under maintenance is shown but left alone.
fn hold_back(found: &mut [Analysis], policy: &Policy) {
    let isolated = found.iter().any(|analysis| analysis.code == Code::OperatorIsolated);
    for analysis in found {
        if isolated {
            analysis.act = Act::Nothing;
        }
        let others: BTreeSet<_> =
            analysis.evidence.iter().map(|seen| &seen.server).filter(|server| **server != analysis.server).collect();
        let all_others = !others.is_empty() && others.iter().all(|server| policy.rests(server).is_some());
        analysis.skipped = policy.rests(&analysis.server).is_some() || all_others;
    }
}

/// Whether a replica replicates: both threads run.
fn replicates(channel: &Channel) -> bool {
    channel.receiver == Receiver::Running && channel.applier_running
}
