//! Renders a snapshot as what people are shown: roles, problems and the answers behind conditions.
//! Nothing in it ticks, so that an idle cluster costs no write.

use std::collections::BTreeMap;

use super::facts::Facts;
use crate::core::{
    analysis::{Analysis, Code},
    candidate,
    durability::Durability,
    id::{self, ServerAddr},
    observation::{Channel, Failure, Observation, Receiver},
    policy::{Policy, PromotionRule},
    quarantine,
    readiness::Readiness,
    recovery::Recovery,
    rules::{Rule, holds},
    semi_sync,
    snapshot::{Reach, ServerState, Snapshot},
    status::{AnalysisView, Answer, ClusterView, Quarantined, Reachability, ServerView},
    topology::Topology,
};

/// Problems shown for one server.
const PROBLEMS_MAX: usize = 8;
/// Evidence shown for one analysis.
const EVIDENCE_MAX: usize = 8;

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
    let quarantined = quarantine::find(snapshot, analyses, facts.history.last.as_ref());
    let shown = |(addr, state)| server(snapshot, policy, topology, analyses, &quarantined, addr, state);
    let servers: Vec<_> = snapshot.servers.iter().map(shown).collect();
    let shown = |analysis: &Analysis| AnalysisView {
        code: analysis.code.name().to_owned(),
        server: analysis.server.clone(),
        message: message(analysis),
    };
    let writable = writable(snapshot, primary.as_ref(), facts.recovering);
    // What another process has begun is under way before this one carries it on.
    let left_open = facts.history.unfinished.as_ref().filter(|_| holds(Rule::UnderWay)).map(|_| facts.epoch);
    let told = primary.as_ref().and_then(|addr| snapshot.last(addr)).map(|seen| &seen.facts);
    ClusterView {
        name: told.and_then(|facts| facts.cluster_name.clone()).filter(|name| id::is_cluster_name(name)),
        domain: told.and_then(|facts| facts.domain.clone()).filter(|name| id::is_domain(name)),
        epoch: facts.epoch,
        analyses: analyses.iter().map(shown).collect(),
        replicating: replicating(snapshot, primary.as_ref()),
        durable: semi_sync::durable(snapshot, policy).unwrap_or_else(|| durable(snapshot, primary.as_ref())),
        ready: ready(snapshot, &writable, analyses),
        paused: paused(policy),
        recovering: facts.recovering.map(|record| record.epoch).or(left_open),
        primary,
        servers,
        quarantined,
        unjudged: quarantine::unjudged(snapshot),
        readiness,
        writable,
    }
}

/// Adds why a server is left as it is.
pub(super) fn explain(view: &mut ClusterView, reasons: &BTreeMap<ServerAddr, String>) {
    for server in &mut view.servers {
        let room = server.problems.len() < PROBLEMS_MAX;
        server.problems.extend(reasons.get(&server.addr).filter(|_| room).cloned());
    }
}

/// What an analysis says, with what it rests on where that does not tick; the rest is in the record.
fn message(analysis: &Analysis) -> String {
    let about = analysis.code.description();
    if !is_steady(analysis) {
        return about.to_owned();
    }
    let saw = analysis.evidence.iter().take(EVIDENCE_MAX).map(|seen| format!("{} {}", seen.server, seen.saw));
    format!("{} ({})", about.trim_end_matches('.'), saw.collect::<Vec<_>>().join("; "))
}

/// Whether the evidence stays the same while nothing changes: settings and states of threads, and no
/// counts of looks, transactions or time.
fn is_steady(analysis: &Analysis) -> bool {
    let states = matches!(
        analysis.code,
        Code::NoWritablePrimary
            | Code::StalledPrimary
            | Code::NoNewConnections
            | Code::AllPrimaryReplicasNotReplicating
            | Code::AllPrimaryReplicasNotReplicatingOrDead
            | Code::PrimarySingleReplicaNotReplicating
            | Code::PrimarySingleReplicaDead
            | Code::AllCoPrimaryReplicasNotReplicating
            | Code::AllIntermediatePrimaryReplicasFailingToConnectOrDead
            | Code::AllIntermediatePrimaryReplicasNotReplicating
            | Code::FirstTierReplicaFailingToConnectToPrimary
    );
    states || (analysis.structure && analysis.code != Code::ErrantTransactions)
}

fn server(
    snapshot: &Snapshot,
    policy: &Policy,
    topology: &Topology,
    analyses: &[Analysis],
    quarantined: &[Quarantined],
    addr: &ServerAddr,
    state: &ServerState,
) -> ServerView {
    let seen = state.last.as_ref();
    let source = seen.and_then(|seen| snapshot.source_of(seen.channels.first()?)).cloned();
    let place = candidate::facts_of(addr, seen, policy);
    let mut problems: Vec<String> = analyses.iter().filter(|analysis| analysis.server == *addr).map(message).collect();
    let refuses_new = state.answering().and_then(|seen| seen.refuses_new.as_ref());
    problems.extend(
        state
            .failure
            .as_ref()
            .or(refuses_new)
            .map(|failure| format!("{}; hint: {}", failure.shown(), failure.kind.hint())),
    );
    problems.extend(quarantined.iter().filter(|one| one.server == *addr).map(quarantine));
    problems.extend(is_empty(snapshot, addr, state).then(|| candidate::EMPTY.to_owned()));
    problems.truncate(PROBLEMS_MAX);
    ServerView {
        addr: addr.clone(),
        role: topology.role_of(addr),
        source,
        version: seen.map(|seen| seen.identity.version.to_string()),
        promotion: seen.map_or(PromotionRule::Neutral, |seen| candidate::rule_of(addr, seen, policy)),
        alias: seen.and_then(|seen| seen.facts.server_alias.clone()),
        environment: seen.and_then(|seen| seen.facts.environment.clone()),
        zone: place.zone,
        region: place.region,
        state: match state.reach() {
            Reach::Unknown => Reachability::Unknown,
            Reach::Answering(_) => Reachability::Answering,
            Reach::Failing(_) => Reachability::Unreachable,
        },
        writable: state.answering().is_some_and(|seen| seen.settings.writable()),
        maintenance: policy.maintenance.contains(addr),
        rebuilding: policy.rebuilding.contains(addr),
        problems,
    }
}

/// Whether a server answers and has nothing at all, while the primary has something.
fn is_empty(snapshot: &Snapshot, addr: &ServerAddr, state: &ServerState) -> bool {
    let primary = snapshot.primary.as_ref().filter(|primary| *primary != addr);
    let wrote = primary.and_then(|primary| snapshot.last(primary)).is_some_and(|seen| !seen.executed.is_empty());
    wrote && state.answering().is_some_and(|seen| seen.total().is_empty())
}

/// Why a server is not used: it has transactions that nobody else has. What one pair of looks proved is shown
/// until the next pair proves something.
fn quarantine(one: &Quarantined) -> String {
    let count = one.extra.as_ref().map_or(String::new(), |extra| format!("{} ", extra.count()));
    let close = if one.extra.is_none() { "; they may become more" } else { "" };
    format!("quarantined: it has {count}transactions that the primary lacks{close}; see status.quarantined")
}

/// Whether clients can write. While a recovery has promoted nobody they are sent nowhere, whatever the
/// server that it replaces accepts.
fn writable(snapshot: &Snapshot, primary: Option<&ServerAddr>, recovering: Option<&Recovery>) -> Answer {
    let Some(addr) = primary else { return Answer::new(Some(false), "NoPrimary", "no primary is known") };
    match recovering.filter(|record| !record.phase.promoted()) {
        Some(record) if !record.message.is_empty() => {
            return Answer::new(Some(false), "Blocked", record.message.clone());
        }
        Some(record) if record.cause.reopens() => {
            return Answer::new(Some(false), "ReadOnly", format!("{addr} is being made writable"));
        }
        Some(_) => return Answer::new(Some(false), "FailingOver", format!("{addr} is being replaced")),
        None => {}
    }
    let addr = recovering.and_then(|record| record.new_primary.as_ref()).unwrap_or(addr);
    let say = |value, reason, what| Answer::new(value, reason, format!("{addr} {what}"));
    let state = snapshot.servers.get(addr);
    match (state.and_then(|state| state.answering()), state.map(|state| state.reach())) {
        (Some(seen), _) if seen.settings.writable() => say(Some(true), "Writable", "accepts writes"),
        (Some(_), _) => say(Some(false), "ReadOnly", "is read only"),
        // Clients may write to it: it is Baton that it does not let in.
        (None, Some(Reach::Failing(failure))) if failure.kind.alive() => failing(None, addr, failure),
        (None, _) => say(None, "Unreachable", "does not answer"),
    }
}

/// Why a server cannot be looked at.
fn failing(value: Option<bool>, addr: &ServerAddr, failure: &Failure) -> Answer {
    let (reason, hint) = (failure.kind.reason(), failure.kind.hint());
    Answer::new(value, reason, format!("{addr}: {}; hint: {hint}", failure.shown()))
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
    let runs = |channel: &Channel| channel.receiver == Receiver::Running && channel.applier_running;
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
            Some((addr, failure)) => failing(Some(false), addr, failure),
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
    let resting: Vec<_> = policy.maintenance.iter().map(ToString::to_string).collect();
    match (policy.paused, resting.is_empty()) {
        (true, _) => Answer::new(Some(true), "Paused", "spec.paused is set: no automatic action"),
        (false, true) => Answer::new(Some(false), "Running", "automatic actions are allowed"),
        (false, false) => {
            let message = format!("left alone, because they are under maintenance: {}", resting.join(", "));
            Answer::new(Some(false), "Maintenance", message)
        }
    }
}

#[cfg(test)]
mod tests;
