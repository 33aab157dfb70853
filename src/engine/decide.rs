//! From a snapshot to what is shown and what is done next: the one place where analysis, readiness,
//! throttle and housekeeping come together. Pure, like the core it calls.

use std::collections::BTreeMap;

use super::{
    calm::is_calm,
    facts::{Facts, History},
    outlook::{Outlook, outlook},
    view::{explain, view},
};
use crate::core::{
    analysis::{self, Analysis, Code},
    discovery,
    housekeeping::{self, Duty},
    id::ServerAddr,
    membership::Membership,
    observation::{FailureKind, Observation},
    policy::Policy,
    readiness::{self, Readiness},
    recovery::{Cause, Evidence, Recovery},
    reopen::{self, Reopening},
    request::{self, Answer},
    rules::{Rule, holds},
    semi_sync,
    snapshot::{Reach, ServerState, Snapshot},
    status::ClusterView,
    throttle::{self, Sign},
    time::Mono,
    topology::Topology,
    version::Flavor,
};

/// What is to be done next by the leader.
#[derive(Debug, Clone)]
pub enum Next {
    /// Continue an unfinished recovery.
    Resume(String),
    /// Begin what a person asks for: the server to be replaced, and whether it is dead.
    Force(ServerAddr, bool),
    /// Refuse what a person asks for.
    Refuse(String),
    /// Begin one.
    Failover(Box<Analysis>),
    /// Begin to open the primary there is, which refuses writes.
    Reopen(Box<Analysis>),
    /// Nothing urgent: keep house.
    Duties(Vec<Duty>),
}

/// What is shown and done.
#[derive(Debug, Clone)]
pub struct Decision {
    /// The cluster as it is shown.
    pub view: ClusterView,
    /// What the leader does.
    pub next: Next,
    /// What it writes down about who may acknowledge.
    pub record: Option<Membership>,
    /// What is done about intermediate primaries, besides.
    pub outlook: Outlook,
    /// All is well, and nothing is to be done.
    pub calm: bool,
}

/// How each server is to be looked at.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Watching {
    /// Servers with the time between looks in milliseconds.
    pub servers: BTreeMap<ServerAddr, u64>,
    /// The primary, whose closed connection is to be seen at once.
    pub primary: Option<ServerAddr>,
    /// A look that takes longer counts as silence, in milliseconds.
    pub answer_ms: u64,
    /// Something is wrong: look with this pause, in milliseconds, instead.
    pub hurry_ms: Option<u64>,
    /// Where the write canary is to sing.
    pub canary: Option<ServerAddr>,
}

/// Works out everything that follows from a snapshot.
#[must_use]
pub fn decide(snapshot: &Snapshot, facts: &Facts<'_>) -> Decision {
    let policy = &facts.desired.policy;
    let topology = Topology::of(snapshot);
    let mut analyses = analysis::analyse_topology(snapshot, policy, &topology);
    // What is being made of it would be told as many things that are wrong with it.
    let promoted = facts.recovering.and_then(|record| record.new_primary.as_ref());
    analyses.retain(|analysis| Some(&analysis.server) != promoted);
    let failing = analyses.iter().find(|analysis| analysis.calls_for_failover());
    let failing = failing.map(|it| throttle::Failing { server: &it.server, sign: sign(snapshot, it) });
    let history = &facts.history;
    let blocked = throttle::blocked(&history.past, history.last.as_ref(), policy.failover.block_ms, failing);
    let primary = snapshot.primary.as_ref();
    let readiness = readiness::assess(snapshot, primary, policy, blocked.as_deref());
    let reopening = reopen::find(snapshot, policy, &analyses, &facts.history.past);
    let next = next(snapshot, facts, &analyses, &readiness, reopening.as_ref());
    let rests = matches!(&next, Next::Duties(duties) if duties.is_empty());
    let calm = rests && facts.recovering.is_none() && is_calm(snapshot, &analyses);
    let failing = analyses.iter().any(|analysis| analysis.calls_for_failover());
    let urgent = !matches!(next, Next::Duties(_)) || failing || facts.history.unfinished.is_some();
    let record = semi_sync::plan(snapshot, policy).record.filter(|_| !urgent && !policy.paused);
    let mut outlook = outlook(snapshot, facts, &topology, &analyses, urgent || facts.recovering.is_some());
    if let Some(Reopening::Held(addr, reason)) = reopening.filter(|_| facts.recovering.is_none()) {
        outlook.reasons.insert(addr, reason);
    }
    let mut view = view(snapshot, facts, &topology, &analyses, readiness);
    explain(&mut view, &outlook.reasons);
    Decision { view, next, record, outlook, calm }
}

/// What shows that a primary is to be replaced.
fn sign(snapshot: &Snapshot, analysis: &Analysis) -> Sign {
    let failure = snapshot.servers.get(&analysis.server).and_then(|state| state.failure.as_ref());
    match analysis.code {
        Code::StalledPrimary => Sign::Stalled,
        // The newest look found its host without the process.
        _ if failure.is_some_and(|failure| failure.kind == FailureKind::Refused) => Sign::Gone,
        _ => Sign::Silent,
    }
}

fn next(
    snapshot: &Snapshot,
    facts: &Facts<'_>,
    analyses: &[Analysis],
    readiness: &Readiness,
    reopening: Option<&Reopening>,
) -> Next {
    if let Some(record) = &facts.history.unfinished {
        let seen = snapshot.servers.values().all(|state| state.reach() != Reach::Unknown);
        return if seen { Next::Resume(record.clone()) } else { Next::Duties(Vec::new()) };
    }
    let policy = &facts.desired.policy;
    let answer = |(asked, open_ms)| request::answer(asked, open_ms, snapshot, policy, analyses);
    match facts.request.map(answer) {
        Some(Answer::Begin { old_primary, dead }) => return Next::Force(old_primary, dead),
        Some(Answer::Refuse(reason)) => return Next::Refuse(reason),
        Some(Answer::Wait) | None => {}
    }
    let dead = analyses.iter().find(|analysis| analysis.calls_for_failover());
    match dead {
        Some(analysis) if readiness.ready => Next::Failover(Box::new(analysis.clone())),
        Some(_) => Next::Duties(Vec::new()),
        None if facts.desired.policy.paused => Next::Duties(Vec::new()),
        None if let Some(Reopening::Due(analysis)) = reopening => Next::Reopen(analysis.clone()),
        None => {
            let mut duties = analysis::receivers_to_restart(snapshot, &facts.desired.policy, analyses);
            duties.extend(housekeeping::due(snapshot, &facts.desired.policy, facts.history.last.as_ref()));
            Next::Duties(duties)
        }
    }
}

/// The primary as the topology shows it, or the one remembered. Whom a failover replaced, the newest or, where it has
/// no part in what came after, one before, is not the primary again because the new one is away, read-only or without
/// replicas: only when that one follows it.
#[must_use]
pub fn primary(snapshot: &Snapshot, history: &History) -> Option<ServerAddr> {
    let known = snapshot.primary.clone();
    let found = Topology::of(snapshot).primary.or_else(|| known.clone());
    let (Some(new), Some(old)) = (&known, &found) else { return found };
    let newest = history.last.as_ref().filter(|last| last.phase.promoted());
    let by_newest = newest.is_some_and(|last| last.old_primary == *old && last.new_primary.as_ref() == Some(new));
    let replaced = by_newest || history.replaced(old) && !took_part(snapshot, old, new, newest);
    let answering = snapshot.servers.get(new).and_then(|state| state.answering());
    let follows = |seen: &Observation| seen.channels.iter().any(|channel| snapshot.source_of(channel) == Some(old));
    let stays = replaced && !answering.is_some_and(follows) && holds(Rule::ReplacedStays);
    if stays { known } else { found }
}

/// Whether a server that was replaced has had a part in the reign of the one that is the primary now: it has some of
/// what that one wrote, or what it had when it was made the primary. A person may have handed over to it since.
fn took_part(snapshot: &Snapshot, old: &ServerAddr, new: &ServerAddr, last: Option<&Recovery>) -> bool {
    let Some(has) = snapshot.last(old).map(|seen| &seen.executed) else { return false };
    match snapshot.last(new) {
        Some(seen) if seen.identity.version.flavor == Flavor::MySql => {
            let own = seen.executed.of_source(&seen.identity.uuid);
            own.subtract(has) != own
        }
        Some(_) => true,
        None => last.and_then(|last| last.promoted_set.as_ref()).is_none_or(|set| has.contains(set)),
    }
}

/// Servers to add and to drop.
#[must_use]
pub fn membership(snapshot: &Snapshot, policy: &Policy) -> (Vec<ServerAddr>, Vec<ServerAddr>) {
    (discovery::found(snapshot, policy), discovery::forgotten(snapshot, policy))
}

/// How servers are to be looked at: the primary more often, all of them back to back when something
/// is wrong with it.
#[must_use]
pub fn watching(snapshot: &Snapshot, policy: &Policy, recovering: bool) -> Watching {
    let detection = &policy.detection;
    let interval = |addr: &ServerAddr| {
        if snapshot.primary.as_ref() == Some(addr) { detection.primary_interval_ms } else { detection.interval_ms }
    };
    let primary = snapshot.primary.as_ref().and_then(|addr| snapshot.servers.get(addr));
    let suspicious = |state: &ServerState| {
        let long = state.failing_since.is_some_and(|since| snapshot.at.since_ms(since) > URGENT_MS);
        matches!(state.reach(), Reach::Failing(_)) && !long
    };
    Watching {
        servers: snapshot.servers.keys().map(|addr| (addr.clone(), interval(addr))).collect(),
        primary: snapshot.primary.clone(),
        answer_ms: detection.answer_ms,
        hurry_ms: if recovering {
            Some(RECOVERING_MS)
        } else {
            primary.is_some_and(suspicious).then_some(SUSPICIOUS_MS)
        },
        canary: if recovering { None } else { canary(snapshot, policy) },
    }
}

/// The primary, where the owner wants the canary and nothing speaks against writing there. A commit that hangs is
/// what it is there for, so a primary that answers keeps it.
fn canary(snapshot: &Snapshot, policy: &Policy) -> Option<ServerAddr> {
    let open = |(_, state): &(&ServerAddr, &ServerState)| {
        state.answering().is_some_and(|seen| seen.settings.writable() && seen.channels.is_empty())
    };
    let mut open = snapshot.servers.iter().filter(open).map(|(addr, _)| addr);
    let only = open.next().filter(|_| open.next().is_none() && policy.detection.write_canary && !policy.paused);
    only.filter(|addr| snapshot.primary.as_ref() == Some(*addr)).cloned()
}

/// Pause between looks while a primary is in doubt, in milliseconds.
const SUSPICIOUS_MS: u64 = 20;

/// The same during a recovery, in milliseconds. Each of its steps ends with a look of its own, and the
/// servers have enough to do.
const RECOVERING_MS: u64 = 100;

/// Looks are made back to back for at most this long after a primary fell silent, in milliseconds.
const URGENT_MS: u64 = 60_000;

/// The cause of a recovery, from the analysis.
#[must_use]
pub fn cause(analysis: &Analysis) -> Cause {
    Cause { analysis: analysis.code.name().to_owned(), server: analysis.server.clone(), reason: String::new() }
}

/// The evidence as it is recorded, relative to the first sign.
#[must_use]
pub fn evidence(analysis: &Analysis, first_sign: Mono) -> Vec<Evidence> {
    let relative = |at: Mono| {
        let (after, before) = (at.since_ms(first_sign), first_sign.since_ms(at));
        i64::try_from(after).unwrap_or(i64::MAX).saturating_sub(i64::try_from(before).unwrap_or(i64::MAX))
    };
    let record = |evidence: &analysis::Evidence| Evidence {
        server: evidence.server.clone(),
        saw: evidence.saw.clone(),
        at_ms: relative(evidence.at),
    };
    analysis.evidence.iter().map(record).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{candidate, id::Epoch, recovery::Phase, throttle::Past};
    use crate::{
        engine::facts::Desired,
        testing::{
            record::recovery,
            snapshot::{Cluster, addr, policy, transactions},
        },
    };

    /// Problems shown for the old primary `r1`, after `p` was promoted.
    fn problems(cluster: &Cluster) -> Vec<String> {
        let desired = Desired { policy: policy(), primary: None, epoch: Epoch(1), semi_sync: None };
        let mut last = recovery(1, "baton-0", &addr("r1"));
        last.new_primary = Some(addr("p"));
        let history = History { last: Some(last), ..History::default() };
        let facts = Facts {
            desired: &desired,
            history: &history,
            epoch: Epoch(1),
            request: None,
            recovering: None,
            relocations: &[],
        };
        let view = decide(&cluster.snapshot, &facts).view;
        view.servers.into_iter().find(|server| server.addr == addr("r1")).unwrap().problems
    }

    fn quarantined(cluster: &Cluster) -> bool {
        problems(cluster).iter().any(|problem| problem.starts_with("quarantined: "))
    }

    #[test]
    fn a_quarantine_is_shown_steadily_until_it_is_disproved() {
        let mut cluster = Cluster::primary_and_replicas(1);
        let shared = cluster.server("r1").observation.executed.clone();
        cluster.server("r1").observation.executed = shared.union(&transactions(2, 3));
        cluster.look();
        assert!(quarantined(&cluster), "{:?}", problems(&cluster));
        // A look at the old primary alone proves nothing new.
        cluster.advance(10);
        cluster.look_at("r1");
        assert!(quarantined(&cluster), "{:?}", problems(&cluster));
        cluster.server("r1").observation.executed = shared;
        cluster.look();
        assert!(!quarantined(&cluster), "{:?}", problems(&cluster));
    }

    #[test]
    fn a_server_that_lost_its_data_is_said_to_be_empty() {
        let mut cluster = Cluster::primary_and_replicas(1);
        let empty = |cluster: &Cluster| problems(cluster).iter().any(|problem| problem == candidate::EMPTY);
        cluster.look();
        assert!(!empty(&cluster));
        let seen = &mut cluster.server("r1").observation;
        (seen.executed, seen.channels) = Default::default();
        cluster.look();
        assert!(empty(&cluster), "{:?}", problems(&cluster));
        cluster.server("p").observation.executed = Default::default();
        cluster.look();
        assert!(!empty(&cluster), "nobody has written anything: {:?}", problems(&cluster));
    }

    /// `r1` was replaced by `p`; `r2` was left behind with `r1`, which is back as its configuration has it.
    #[test]
    fn whom_a_failover_replaced_is_not_the_primary_again_because_the_new_one_is_away() {
        let mut cluster = Cluster::default();
        ["p", "r1", "r2"].into_iter().for_each(|name| {
            cluster.add(name);
        });
        cluster.follow("r2", "r1");
        cluster.snapshot.primary = Some(addr("p"));
        cluster.look();
        cluster.fail("p", FailureKind::Refused);
        let mut last = recovery(1, "baton-0", &addr("r1"));
        (last.phase, last.new_primary) = (Phase::Succeeded, Some(addr("p")));
        let snapshot = cluster.look();
        let history = History { last: Some(last), ..History::default() };
        assert_eq!(primary(&snapshot, &History::default()), Some(addr("r1")), "as the topology shows it");
        assert_eq!(primary(&snapshot, &history), Some(addr("p")));
        // It comes back as its configuration has it.
        cluster.server("p").failure = None;
        cluster.server("p").observation.settings.read_only = true;
        assert_eq!(primary(&cluster.look(), &history), Some(addr("p")));
        cluster.follow("p", "r1");
        assert_eq!(primary(&cluster.look(), &history), Some(addr("r1")), "somebody handed over");
    }

    /// `r1` was replaced two failovers ago, and `r2` was left with it.
    #[test]
    fn whom_an_earlier_failover_replaced_is_the_primary_again_only_if_it_was_there_since() {
        let found = |follows: bool| {
            let mut cluster = Cluster::default();
            ["p", "r1", "r2"].into_iter().for_each(|name| {
                cluster.add(name);
            });
            cluster.follow("r2", "r1");
            cluster.snapshot.primary = Some(addr("p"));
            let own = cluster.server("p").observation.executed.clone();
            if follows {
                let seen = &mut cluster.server("r1").observation;
                seen.executed = seen.executed.union(&own);
            }
            cluster.look();
            cluster.fail("p", FailureKind::Refused);
            let mut last = recovery(2, "baton-0", &addr("x"));
            (last.phase, last.new_primary) = (Phase::Succeeded, Some(addr("p")));
            let past = |old: &str, made: &str, age_ms| Past {
                name: "shop-1".to_owned(),
                phase: Phase::Succeeded,
                age_ms,
                acknowledged: false,
                made: Some(addr(made)),
                old: Some(addr(old)),
                reopened: false,
            };
            let past = vec![past("x", "p", 500), past("r1", "x", 900)];
            primary(&cluster.look(), &History { past, last: Some(last), ..History::default() })
        };
        assert_eq!(found(false), Some(addr("p")));
        assert_eq!(found(true), Some(addr("r1")), "somebody handed over");
    }
}
