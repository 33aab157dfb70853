//! The primary: dead, unreachable, read-only, or without replicas that replicate; and servers that
//! claim its part.

use super::{
    Analysis, Context,
    code::{Act, Code},
    evidence::{Evidence, not_replicating},
    life,
    mute::{self, Finding, Outcome},
    replicates,
};
use crate::core::{id::ServerAddr, observation::Observation};

/// What is wrong with a server that replicates from nobody. Only the cluster's own primary is acted
/// upon: a failover of any other would not make the cluster writable.
pub(super) fn analyse(cx: &Context<'_>, addr: &ServerAddr) -> Vec<Analysis> {
    let ours = cx.topology.primary.as_ref() == Some(addr);
    let mut found = match mute::examine(cx, addr) {
        Some(finding) if ours || finding.replicas > 0 => vec![dead(cx, addr, finding)],
        Some(_) => Vec::new(),
        None => cx.answering(addr).map(|seen| answering(cx, addr, seen, ours)).unwrap_or_default(),
    };
    if !ours {
        found.iter_mut().for_each(|analysis| leave_alone(cx, analysis));
    }
    found
}

/// What is not the primary is not failed over. What was never seen is not taken for the primary: it may
/// still be starting, or its replicas name a server that is long gone.
fn leave_alone(cx: &Context<'_>, analysis: &mut Analysis) {
    let lived = cx.snapshot.servers.get(&analysis.server).is_some_and(|state| state.alive_at.is_some());
    if analysis.act == Act::Failover && cx.topology.primary.is_none() && !lived {
        let saw = "was never seen to live: nothing is done about it";
        analysis.evidence.push(Evidence::new(&analysis.server, cx.snapshot.at, saw));
    }
    analysis.act = Act::Nothing;
}

fn dead(cx: &Context<'_>, addr: &ServerAddr, finding: Finding) -> Analysis {
    let code = match finding.outcome {
        Outcome::NoReplicas => Code::DeadPrimaryWithoutReplicas,
        Outcome::NobodyAnswers => Code::DeadPrimaryAndReplicas,
        Outcome::Dead => Code::DeadPrimary,
        Outcome::DeadAndSome => Code::DeadPrimaryAndSomeReplicas,
        Outcome::Deaf => Code::UnreachablePrimaryWithLaggingReplicas,
        Outcome::Unconfirmed | Outcome::Heard | Outcome::NoEvidence => Code::UnreachablePrimary,
    };
    unless_replaced(cx, unless_isolated(cx, Analysis::of(finding, code, addr)))
}

/// Withholds a failover when somebody else has made another server the primary: it accepts writes and
/// follows nobody, and servers follow it or it has transactions of the lost primary. A replica that was
/// left behind must not become a second one.
fn unless_replaced(cx: &Context<'_>, mut analysis: Analysis) -> Analysis {
    let lost = cx.snapshot.last(&analysis.server).map(|seen| seen.identity.uuid.as_str());
    let succeeds = |addr: &&ServerAddr| {
        let inherits = |seen: &Observation| lost.is_some_and(|uuid| !seen.executed.of_source(uuid).is_empty());
        let followed = cx.topology.replicas(addr).next().is_some();
        cx.topology.co_primary(addr).is_none() && (followed || cx.answering(addr).is_some_and(inherits))
    };
    if analysis.act == Act::Failover
        && let Some(rival) = cx.topology.rivals.iter().find(succeeds)
    {
        let saw = "accepts writes in place of the lost primary: nothing is done about it";
        analysis.evidence.push(Evidence::new(rival, cx.snapshot.at, saw));
        analysis.act = Act::Nothing;
    }
    analysis
}

/// Withholds a verdict of death that our own isolation would explain as well (safety.md, "Deciding", 4).
pub(super) fn unless_isolated(cx: &Context<'_>, mut analysis: Analysis) -> Analysis {
    let nobody_answers = matches!(analysis.code, Code::DeadPrimaryWithoutReplicas | Code::DeadPrimaryAndReplicas);
    if !nobody_answers && analysis.act == Act::Nothing {
        return analysis;
    }
    let states = &cx.snapshot.servers;
    let unseen = states.values().filter(|state| state.last.is_none()).count();
    if unseen.saturating_mul(2) > states.len() {
        // They may be starting, or out of our reach alone: what they could tell is missing.
        let saw = format!("{unseen} of {} servers were never seen: nothing is done about it", states.len());
        analysis.evidence.push(Evidence::new(&analysis.server, cx.snapshot.at, saw));
        analysis.act = Act::Nothing;
        return analysis;
    }
    let Some(silent) = life::isolated(cx, &analysis.server) else { return analysis };
    if nobody_answers {
        return Analysis { evidence: silent, ..Analysis { since: analysis.since, ..isolated(&analysis.server) } };
    }
    // A minority answers and lost it too: it may be cut off together with us.
    let known = cx.snapshot.servers.len();
    let saw = format!("{} of {known} servers fell silent at once: nothing is done about it", silent.len());
    analysis.evidence.push(Evidence::new(&analysis.server, cx.snapshot.at, saw));
    analysis.act = Act::Nothing;
    analysis
}

fn isolated(addr: &ServerAddr) -> Analysis {
    Analysis::new(Code::OperatorIsolated, addr, Vec::new())
}

fn answering(cx: &Context<'_>, addr: &ServerAddr, seen: &Observation, ours: bool) -> Vec<Analysis> {
    let mut found = Vec::new();
    let replicas = cx.topology.replicas(addr).count();
    if ours && replicas > 0 && !seen.settings.writable() {
        found.push(read_only(addr, seen));
    }
    let answers = cx.replicas_answering(addr);
    if answers.iter().any(|(_, _, channel)| replicates(channel)) {
        return found;
    }
    let code = match (replicas, answers.len()) {
        (0, _) => return found,
        (1, 0) => Code::PrimarySingleReplicaDead,
        (1, _) => Code::PrimarySingleReplicaNotReplicating,
        (all, some) if some == all => Code::AllPrimaryReplicasNotReplicating,
        _ => Code::AllPrimaryReplicasNotReplicatingOrDead,
    };
    found.push(Analysis::new(code, addr, states(cx, addr)));
    found
}

/// A primary that refuses writes.
pub(super) fn read_only(addr: &ServerAddr, seen: &Observation) -> Analysis {
    let saw = if seen.settings.offline_mode { "is in offline mode" } else { "is read-only" };
    Analysis::new(Code::NoWritablePrimary, addr, vec![Evidence::new(addr, seen.at, saw)])
}

/// How each direct replica is.
pub(super) fn states(cx: &Context<'_>, addr: &ServerAddr) -> Vec<Evidence> {
    let words = |replica: &ServerAddr| {
        let state = cx.snapshot.servers.get(replica)?;
        let Some(seen) = state.answering() else {
            return state.failure.as_ref().map(|failure| Evidence::of_one_failure(replica, failure));
        };
        let broken = cx.channels_to(seen, addr).find_map(not_replicating);
        Some(Evidence::new(replica, seen.at, broken.unwrap_or_else(|| "replicates".to_owned())))
    };
    cx.topology.replicas(addr).filter_map(words).collect()
}

/// Servers beside the primary that accept writes, and a cluster in which nobody is the primary.
pub(super) fn rivals(cx: &Context<'_>) -> Vec<Analysis> {
    let topology = cx.topology;
    let (first, rest) = match (&topology.primary, topology.rivals.split_first()) {
        (Some(primary), Some(_)) => (primary, topology.rivals.as_slice()),
        (None, Some((first, rest))) => (first, rest),
        (None, None) => return nobody(cx).into_iter().collect(),
        (Some(_), None) => return Vec::new(),
    };
    let Some(seen) = cx.answering(first).filter(|seen| seen.settings.writable()) else { return Vec::new() };
    let others = rest.iter().filter_map(|addr| Some((addr, cx.answering(addr)?)));
    others.map(|(addr, other)| two_writable(cx, (first, seen), (addr, other))).collect()
}

fn two_writable(
    cx: &Context<'_>,
    (first, seen): (&ServerAddr, &Observation),
    (addr, other): (&ServerAddr, &Observation),
) -> Analysis {
    let differ = !seen.executed.contains(&other.executed) && !other.executed.contains(&seen.executed);
    // Two that follow each other always have something on the way.
    let apart = cx.topology.co_primary(first) != Some(addr);
    let code = if differ && apart { Code::SplitBrainSuspected } else { Code::TwoWritable };
    let saw = |addr: &ServerAddr, seen: &Observation, other: &Observation| {
        let own = seen.executed.subtract(&other.executed).count();
        Evidence::new(addr, seen.at, format!("accepts writes and has {own} transactions that the other lacks"))
    };
    Analysis::new(code, addr, vec![saw(first, seen, other), saw(addr, other, seen)])
}

fn nobody(cx: &Context<'_>) -> Option<Analysis> {
    let answering = cx.snapshot.servers.iter().filter_map(|(addr, state)| Some((addr, state.answering()?)));
    let evidence: Vec<_> = answering
        .map(|(addr, seen)| Evidence::new(addr, seen.at, "answers and cannot be told to be the primary"))
        .collect();
    let first = evidence.first()?.server.clone();
    Some(Analysis::new(Code::NoWritablePrimary, &first, evidence))
}
