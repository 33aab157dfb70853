//! A primary that refuses writes, as all servers do after they were restarted: whether it may accept them again
//! without an election, because nobody has anything that it lacks.

use super::{
    analysis::{Analysis, Code, Evidence},
    candidate::total,
    durability::Durability,
    id::ServerAddr,
    observation::{GtidMode, Observation},
    policy::{Mode, Policy},
    snapshot::{ServerState, Snapshot},
    throttle::Past,
    topology::Topology,
    version::Flavor,
};

/// A primary must have refused writes for so long, in milliseconds: a person may be at it.
const PATIENCE_MS: u64 = 3000;

/// What is to be done about a primary that refuses writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reopening {
    /// It is to accept them again.
    Due(Box<Analysis>),
    /// Nothing, for this reason.
    Held(ServerAddr, String),
}

/// What is to be done; `None`: no primary refuses writes, or not for long.
#[must_use]
pub fn find(
    snapshot: &Snapshot,
    topology: &Topology,
    policy: &Policy,
    analyses: &[Analysis],
    past: &[Past],
) -> Option<Reopening> {
    let primary = snapshot.primary.as_ref()?;
    let refuses = |analysis: &&Analysis| analysis.code == Code::NoWritablePrimary && analysis.server == *primary;
    let analysis = analyses.iter().find(refuses)?;
    let state = snapshot.servers.get(primary)?;
    let (since, seen) = (state.closed_since?, state.answering()?);
    if snapshot.at.since_ms(since) < PATIENCE_MS {
        return None;
    }
    let source = seen.channels.first().and_then(|channel| channel.source.as_ref());
    let held = |reason: String| Some(Reopening::Held(primary.clone(), format!("not made writable: {reason}")));
    if let Some(reason) = unwanted(primary, policy, past) {
        return held(reason);
    }
    if let Some(source) = source {
        return held(format!("it replicates from {source}"));
    }
    if let Some(rival) = topology.rivals.first() {
        return held(format!("{rival} accepts writes"));
    }
    match lacks_nothing(snapshot, primary, state, seen) {
        Ok(evidence) => {
            let evidence = analysis.evidence.iter().cloned().chain(evidence).collect();
            Some(Reopening::Due(Box::new(Analysis { evidence, since: Some(since), ..analysis.clone() })))
        }
        Err(reason) => held(reason),
    }
}

/// Why the owner does not want it, or not again.
fn unwanted(primary: &ServerAddr, policy: &Policy, past: &[Past]) -> Option<String> {
    if policy.failover.read_only == Mode::DetectOnly {
        return Some("failover.readOnlyPrimary is DetectOnly".to_owned());
    }
    if policy.paused {
        return Some("the cluster is paused".to_owned());
    }
    if policy.maintenance.contains(primary) {
        return Some("it is under maintenance".to_owned());
    }
    let before = |past: &&Past| past.reopened && !past.acknowledged && past.age_ms < policy.failover.block_ms;
    let before = past.iter().find(before)?;
    Some(format!("{} tried that not long ago; acknowledge it to have it done again", before.name))
}

/// That nothing acknowledged can be elsewhere and not here: with semi-sync as many ackers answer as a failover
/// would have to stop, else everybody does, and none of them has anything that the primary lacks.
///
/// Each was looked at after the primary had closed, and nobody but the primary feeds them.
fn lacks_nothing(
    snapshot: &Snapshot,
    primary: &ServerAddr,
    state: &ServerState,
    seen: &Observation,
) -> Result<Vec<Evidence>, String> {
    let (mut evidence, mut answering, mut silent) = (Vec::new(), Vec::new(), Vec::new());
    if seen.identity.version.flavor == Flavor::MySql && seen.settings.gtid_mode != GtidMode::On {
        return Err("without GTIDs nobody can tell whether others have more".to_owned());
    }
    for (addr, other) in snapshot.servers.iter().filter(|(addr, _)| *addr != primary) {
        let current = other.answering().filter(|other| state.closed_since.is_some_and(|since| other.began() >= since));
        let Some(other) = current else {
            silent.push(addr.to_string());
            continue;
        };
        if other.settings.writable() {
            return Err(format!("{addr} accepts writes"));
        }
        let lacking = total(other).subtract(&seen.executed);
        if !lacking.is_empty() {
            return Err(format!("{addr} has transactions that it lacks ({lacking})"));
        }
        evidence.push(Evidence::new(addr, other.at, "has nothing that the primary lacks"));
        answering.push(addr);
    }
    let durability = Durability::found(snapshot, primary);
    let enough = durability.lossless && durability.fenced_by(answering.into_iter());
    if silent.is_empty() || enough { Ok(evidence) } else { Err(format!("{} may have more than it", silent.join(", "))) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        core::{
            analysis::analyse,
            observation::{Channel, FailureKind},
            recovery::Phase,
        },
        testing::snapshot::{Cluster, addr, policy, transactions},
    };

    /// A cluster whose servers all came back read-only, after `change`, some looks later.
    fn closed(past: &[Past], change: impl Fn(&mut Cluster, &mut Policy)) -> Option<Reopening> {
        let (mut cluster, mut policy) = (Cluster::primary_and_replicas(2), policy());
        policy.failover.read_only = Mode::Automatic;
        cluster.semi_sync(1);
        cluster.look();
        cluster.server("p").observation.settings.super_read_only = true;
        cluster.server("p").observation.settings.read_only = true;
        change(&mut cluster, &mut policy);
        for _ in 0..5 {
            cluster.advance(1000);
            cluster.look();
        }
        let snapshot = cluster.snapshot.clone();
        find(&snapshot, &Topology::of(&snapshot), &policy, &analyse(&snapshot, &policy), past)
    }

    fn reason(found: Option<Reopening>) -> String {
        match found {
            Some(Reopening::Held(addr, reason)) if addr == self::addr("p") => reason,
            other => panic!("{other:?}"),
        }
    }

    fn is_due(found: Option<Reopening>) -> bool {
        matches!(found, Some(Reopening::Due(analysis)) if analysis.server == addr("p") && analysis.evidence.len() > 1)
    }

    fn reopened(acknowledged: bool) -> Past {
        let name = "shop-3".to_owned();
        Past { name, phase: Phase::Failed, age_ms: 10, acknowledged, made: None, reopened: true }
    }

    #[test]
    fn a_primary_that_lacks_nothing_is_opened_once() {
        assert!(is_due(closed(&[], |_, _| {})));
        let again = reason(closed(&[reopened(false)], |_, _| {}));
        assert!(again.contains("shop-3 tried that not long ago"), "{again}");
        assert!(is_due(closed(&[reopened(true)], |_, _| {})));
    }

    #[test]
    fn what_the_owner_does_not_want_is_told() {
        let text = reason(closed(&[], |_, policy| policy.failover.read_only = Mode::DetectOnly));
        assert_eq!(text, "not made writable: failover.readOnlyPrimary is DetectOnly");
        let text = reason(closed(&[], |_, policy| policy.paused = true));
        assert_eq!(text, "not made writable: the cluster is paused");
        let under = |_: &mut Cluster, policy: &mut Policy| {
            policy.maintenance.insert(addr("p"));
        };
        assert_eq!(reason(closed(&[], under)), "not made writable: it is under maintenance");
    }

    #[test]
    fn who_may_lack_something_stays_closed() {
        let more = |cluster: &mut Cluster, _: &mut Policy| {
            cluster.server("r1").observation.channels[0].received = transactions(1, 101);
        };
        assert!(reason(closed(&[], more)).contains("r1:3306 has transactions that it lacks"));
        let fed = |cluster: &mut Cluster, _: &mut Policy| {
            let channel = cluster.server("r1").observation.channels[0].clone();
            let channel = Channel { source: Some(addr("elsewhere")), source_uuid: None, ..channel };
            cluster.server("p").observation.channels.push(channel);
        };
        assert!(reason(closed(&[], fed)).contains("replicates from elsewhere"));
        let other = |cluster: &mut Cluster, _: &mut Policy| {
            let settings = &mut cluster.server("r2").observation.settings;
            (settings.read_only, settings.super_read_only) = (false, false);
        };
        assert!(reason(closed(&[], other)).contains("r2:3306 accepts writes"));
        let blind = |cluster: &mut Cluster, _: &mut Policy| {
            cluster.server("p").observation.settings.gtid_mode = GtidMode::Off;
        };
        assert!(reason(closed(&[], blind)).contains("without GTIDs"));
    }

    /// Both ackers could have acknowledged, so both must answer; with more acknowledgements fewer are enough.
    #[test]
    fn as_many_ackers_answer_as_a_failover_would_stop() {
        let away = |cluster: &mut Cluster, _: &mut Policy| cluster.fail("r2", FailureKind::Refused);
        assert_eq!(reason(closed(&[], away)), "not made writable: r2:3306 may have more than it");
        let both_had_to = |cluster: &mut Cluster, policy: &mut Policy| {
            cluster.semi_sync(2);
            away(cluster, policy);
        };
        assert!(is_due(closed(&[], both_had_to)));
        let asynchronous = |cluster: &mut Cluster, policy: &mut Policy| {
            cluster.server("p").observation.semi_sync.source = None;
            away(cluster, policy);
        };
        assert!(reason(closed(&[], asynchronous)).contains("r2:3306 may have more"));
        let old_look = |cluster: &mut Cluster, _: &mut Policy| cluster.server("r1").looked_at = false;
        assert!(reason(closed(&[], old_look)).contains("r1:3306 may have more"), "looked at before it closed");
    }

    #[test]
    fn a_person_who_closes_it_for_a_moment_is_left_alone() {
        let (mut cluster, mut policy) = (Cluster::primary_and_replicas(2), policy());
        policy.failover.read_only = Mode::Automatic;
        cluster.server("p").observation.settings.read_only = true;
        for _ in 0..3 {
            let snapshot = cluster.look();
            assert_eq!(find(&snapshot, &Topology::of(&snapshot), &policy, &analyse(&snapshot, &policy), &[]), None);
            cluster.advance(900);
        }
    }
}
