//! Renders a snapshot as what people are shown: roles, problems and the answers behind conditions.
//! Nothing in it ticks, so that an idle cluster costs no write.

use super::facts::Facts;
use crate::core::{
    analysis::Analysis,
    candidate,
    durability::Durability,
    id::ServerAddr,
    observation::{Observation, Receiver},
    policy::{Policy, PromotionRule},
    readiness::Readiness,
    recovery::Recovery,
    snapshot::{Reach, ServerState, Snapshot, extra},
    status::{AnalysisView, Answer, ClusterView, Reachability, ServerView},
    topology::Topology,
};

/// Problems shown for one server.
const PROBLEMS_MAX: usize = 8;

/// The cluster as it is shown.
pub(super) fn view(
    snapshot: &Snapshot,
    facts: &Facts<'_>,
    topology: &Topology,
    analyses: &[Analysis],
    readiness: Readiness,
) -> ClusterView {
    let policy = &facts.desired.policy;
    let primary = snapshot.primary.clone();
    let seen = primary.as_ref().and_then(|addr| snapshot.servers.get(addr)?.answering());
    let servers: Vec<_> =
        snapshot.servers.iter().map(|(addr, state)| server(snapshot, facts, topology, analyses, addr, state)).collect();
    let shown = |analysis: &Analysis| AnalysisView {
        code: analysis.code.name().to_owned(),
        server: analysis.server.clone(),
        message: analysis.code.description().to_owned(),
    };
    let writable = writable(primary.as_ref(), seen, facts.recovering);
    ClusterView {
        epoch: facts.epoch,
        analyses: analyses.iter().map(shown).collect(),
        replicating: replicating(snapshot, primary.as_ref()),
        durable: durable(snapshot, primary.as_ref()),
        ready: ready(snapshot, &writable, analyses),
        paused: paused(policy),
        recovering: facts.recovering.map(|record| record.epoch),
        primary,
        servers,
        readiness,
        writable,
    }
}

fn server(
    snapshot: &Snapshot,
    facts: &Facts<'_>,
    topology: &Topology,
    analyses: &[Analysis],
    addr: &ServerAddr,
    state: &ServerState,
) -> ServerView {
    let policy = &facts.desired.policy;
    let seen = state.last.as_ref();
    let source = seen.and_then(|seen| snapshot.source_of(seen.channels.first()?)).cloned();
    let mut problems: Vec<String> = analyses
        .iter()
        .filter(|analysis| analysis.server == *addr)
        .map(|analysis| analysis.code.description().to_owned())
        .collect();
    problems
        .extend(state.failure.as_ref().map(|failure| format!("{}; hint: {}", failure.message, failure.kind.hint())));
    problems.extend(quarantine(snapshot, facts, addr, state));
    problems.truncate(PROBLEMS_MAX);
    ServerView {
        addr: addr.clone(),
        role: topology.role_of(addr),
        source,
        version: seen.map(|seen| seen.identity.version.to_string()),
        promotion: seen.map_or(PromotionRule::Neutral, |seen| candidate::rule_of(addr, seen, policy)),
        state: match state.reach() {
            Reach::Unknown => Reachability::Unknown,
            Reach::Answering(_) => Reachability::Answering,
            Reach::Failing(_) => Reachability::Unreachable,
        },
        writable: state.answering().is_some_and(|seen| seen.settings.writable()),
        maintenance: policy.maintenance.contains(addr),
        problems,
    }
}

/// Why an old primary that is back is not used: it has transactions that nobody else has. What one pair
/// of looks proved is shown until the next pair proves something.
fn quarantine(snapshot: &Snapshot, facts: &Facts<'_>, addr: &ServerAddr, state: &ServerState) -> Option<String> {
    let record = facts.history.last.as_ref().filter(|record| record.old_primary == *addr)?;
    let new_primary = record.new_primary.as_ref().filter(|addr| snapshot.primary.as_ref() == Some(addr))?;
    let primary = snapshot.servers.get(new_primary)?.answering()?;
    let extra = extra(state.answering()?, primary).unwrap_or_else(|| state.errant.clone());
    if extra.is_empty() {
        return None;
    }
    Some(format!(
        "quarantined: it has transactions that the new primary lacks ({extra}); save them, then rebuild it from a replica"
    ))
}

fn writable(primary: Option<&ServerAddr>, seen: Option<&Observation>, recovering: Option<&Recovery>) -> Answer {
    match (primary, seen) {
        (None, _) => Answer::new(Some(false), "NoPrimary", "no primary is known"),
        (Some(addr), Some(seen)) if seen.settings.writable() => {
            Answer::new(Some(true), "Writable", format!("{addr} accepts writes"))
        }
        (Some(addr), Some(_)) => Answer::new(Some(false), "ReadOnly", format!("{addr} is read only")),
        (Some(addr), None) => match recovering {
            Some(record) if !record.message.is_empty() => Answer::new(Some(false), "Blocked", record.message.clone()),
            Some(_) => Answer::new(Some(false), "FailingOver", format!("{addr} is being replaced")),
            None => Answer::new(None, "Unreachable", format!("{addr} does not answer")),
        },
    }
}

fn replicating(snapshot: &Snapshot, primary: Option<&ServerAddr>) -> Answer {
    let Some(primary) = primary else {
        return Answer::new(None, "NoPrimary", "no primary is known");
    };
    let replicas = snapshot.servers.iter().filter(|(addr, _)| *addr != primary);
    let broken = replicas.clone().filter(|(_, state)| !state.answering().is_some_and(replicates));
    let broken: Vec<_> = broken.map(|(addr, _)| addr.to_string()).collect();
    match (replicas.count(), broken.is_empty()) {
        (0, _) => Answer::new(Some(false), "NoReplicas", "the primary has no replicas"),
        (count, true) => Answer::new(Some(true), "Replicating", format!("{count} replicas replicate")),
        (_, false) => Answer::new(Some(false), "NotReplicating", format!("not replicating: {}", broken.join(", "))),
    }
}

fn replicates(seen: &Observation) -> bool {
    let runs =
        |channel: &crate::core::observation::Channel| channel.receiver == Receiver::Running && channel.applier_running;
    !seen.channels.is_empty() && seen.channels.iter().all(runs)
}

fn durable(snapshot: &Snapshot, primary: Option<&ServerAddr>) -> Answer {
    let durability = primary.map(|addr| Durability::found(snapshot, addr)).unwrap_or_default();
    match (durability.wait_count, durability.lossless) {
        (0, _) => Answer::new(Some(false), "Asynchronous", "an acknowledged write may be on the primary alone"),
        (count, true) => Answer::new(
            Some(true),
            "SemiSync",
            format!("an acknowledged write is on {count} replicas besides the primary"),
        ),
        (_, false) => Answer::new(
            Some(false),
            "MayFallBack",
            "semi-sync may fall back to asynchronous: its timeout or its wait point allow it",
        ),
    }
}

fn ready(snapshot: &Snapshot, writable: &Answer, analyses: &[Analysis]) -> Answer {
    let waiting: Vec<_> = snapshot
        .servers
        .iter()
        .filter(|(_, state)| state.reach() == Reach::Unknown)
        .map(|(addr, _)| addr.to_string())
        .collect();
    if snapshot.servers.is_empty() {
        return Answer::new(Some(false), "NoServers", "no server is known");
    }
    if snapshot.servers.values().all(|state| state.last.is_none()) {
        let failure = snapshot.servers.iter().find_map(|(addr, state)| Some((addr, state.failure.as_ref()?)));
        return match failure {
            Some((addr, failure)) => {
                let (reason, hint) = (failure.kind.reason(), failure.kind.hint());
                Answer::new(Some(false), reason, format!("{addr}: {}; hint: {hint}", failure.message))
            }
            None => Answer::new(None, "Observing", format!("waiting for {}", waiting.join(", "))),
        };
    }
    let told = |analysis: &Analysis| format!("{}: {}", analysis.server, analysis.code.description());
    let broken = analyses.iter().find(|analysis| !analysis.structure);
    match (writable.value, broken, analyses.first()) {
        (Some(true), Some(broken), _) => {
            Answer::new(Some(true), "Degraded", format!("{}: {}", broken.code.name(), told(broken)))
        }
        // Nothing is broken, but a failover would be worse for it.
        (Some(true), None, Some(weak)) => Answer::new(Some(true), weak.code.name(), told(weak)),
        (Some(true), None, None) => Answer::new(Some(true), "Healthy", "the primary accepts writes"),
        (_, _, Some(first)) => {
            let message = format!("{}; {}: {}", writable.message, first.code.name(), told(first));
            Answer::new(Some(false), writable.reason, message)
        }
        (_, _, None) => Answer::new(Some(false), writable.reason, writable.message.clone()),
    }
}

fn paused(policy: &Policy) -> Answer {
    if policy.paused {
        Answer::new(Some(true), "Paused", "spec.paused is set: no automatic action")
    } else {
        Answer::new(Some(false), "Running", "automatic actions are allowed")
    }
}
