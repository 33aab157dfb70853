//! A primary that refuses writes, as all servers do after they were restarted: whether it may accept them again
//! without an election, because nobody has anything that it lacks.

use std::collections::BTreeMap;

use super::{
    analysis::{Analysis, Code, Evidence},
    durability::{Durability, vouching},
    id::ServerAddr,
    membership::Membership,
    observation::{GtidMode, Observation, Receiver},
    policy::{Mode, Policy},
    rules::{Rule, holds},
    snapshot::Snapshot,
    throttle::Past,
    version::Flavor,
};

/// A primary must have refused writes for so long, in milliseconds: a person may be at it.
const PATIENCE_MS: u64 = 3000;
/// Attempts before a person has to look.
const ATTEMPTS_MAX: usize = 3;
/// Pause after one that failed, in milliseconds.
const REST_MS: u64 = 30_000;

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
pub fn find(snapshot: &Snapshot, policy: &Policy, analyses: &[Analysis], past: &[Past]) -> Option<Reopening> {
    let primary = snapshot.primary.as_ref()?;
    let refuses = |analysis: &&Analysis| analysis.code == Code::NoWritablePrimary && analysis.server == *primary;
    let analysis = analyses.iter().find(refuses)?;
    let since = snapshot.servers.get(primary)?.closed_since?;
    if snapshot.at.since_ms(since) < PATIENCE_MS {
        return None;
    }
    let proof = match unwanted(primary, policy).or_else(|| tried(policy, past)) {
        Some(reason) => Err(reason),
        None => proof(snapshot, policy, primary),
    };
    Some(match proof {
        Ok(evidence) => {
            let evidence = analysis.evidence.iter().cloned().chain(evidence).collect();
            Reopening::Due(Box::new(Analysis { evidence, since: Some(since), ..analysis.clone() }))
        }
        Err(reason) => Reopening::Held(primary.clone(), format!("not made writable: {reason}")),
    })
}

/// What speaks against carrying on with it, whoever began it and when.
#[must_use]
pub fn objection(snapshot: &Snapshot, policy: &Policy, primary: &ServerAddr) -> Option<String> {
    let unsure = || {
        let written = snapshot.ledger.newest().is_some() && !snapshot.ledger.certain() && policy.semi_sync.is_some();
        written.then(|| "it is not known for sure who is written down as ackers".to_owned())
    };
    unwanted(primary, policy).or_else(unsure).or_else(|| proof(snapshot, policy, primary).err())
}

/// Why the owner does not want it.
fn unwanted(primary: &ServerAddr, policy: &Policy) -> Option<String> {
    match () {
        () if policy.failover.read_only == Mode::DetectOnly => {
            Some("failover.readOnlyPrimary is DetectOnly".to_owned())
        }
        () if policy.paused => Some("the cluster is paused".to_owned()),
        () if policy.maintenance.contains(primary) => Some("it is under maintenance".to_owned()),
        () => None,
    }
}

/// Why not again: whoever closes it again meant it, and what fails again and again needs a person.
fn tried(policy: &Policy, past: &[Past]) -> Option<String> {
    let recent = |past: &&Past| past.reopened && !past.acknowledged && past.age_ms < policy.failover.block_ms;
    let recent: Vec<_> = past.iter().filter(recent).collect();
    let newest = recent.iter().min_by_key(|past| past.age_ms)?;
    if recent.len() >= ATTEMPTS_MAX || recent.iter().any(|past| past.phase.promoted()) {
        return Some(format!("{} tried that not long ago; acknowledge it to have it done again", newest.name));
    }
    (newest.age_ms < REST_MS).then(|| format!("{} has just failed", newest.name))
}

/// That nothing acknowledged can be elsewhere and not here: with semi-sync as many ackers answer as a failover
/// would have to stop, else everybody does, and none of them has anything that the primary lacks.
///
/// Each was looked at after the primary had closed, and nobody but the primary feeds them.
///
/// # Errors
/// What is not proven.
fn proof(snapshot: &Snapshot, policy: &Policy, primary: &ServerAddr) -> Result<Vec<Evidence>, String> {
    if !holds(Rule::ReopenProof) {
        return Ok(Vec::new());
    }
    let state = snapshot.servers.get(primary).ok_or("it is not known")?;
    let (Some(since), Some(seen)) = (state.closed_since, state.answering()) else {
        return Err("it does not answer, or accepts writes".to_owned());
    };
    if seen.began() < since {
        return Err("it has not been looked at since".to_owned());
    }
    if let Some(channel) = seen.channels.first() {
        let source = channel.source.as_ref().map_or_else(|| "another server".to_owned(), ToString::to_string);
        return Err(format!("it replicates from {source}"));
    }
    match seen.identity.version.flavor {
        Flavor::MariaDb => return Err("positions of MariaDB do not tell what others have".to_owned()),
        Flavor::MySql if seen.settings.gtid_mode != GtidMode::On => {
            return Err("without GTIDs nobody can tell whether others have more".to_owned());
        }
        Flavor::MySql => {}
    }
    let (mut evidence, mut answering, mut silent) = (Vec::new(), BTreeMap::new(), Vec::new());
    for (addr, other) in snapshot.servers.iter().filter(|(addr, _)| *addr != primary) {
        let counts = |other: &&Observation| other.began() >= since && !policy.rebuilding.contains(addr);
        let Some(other) = other.answering().filter(counts) else {
            silent.push(addr.to_string());
            continue;
        };
        lacks_nothing_of(snapshot, (primary, seen), addr, other)?;
        evidence.push(Evidence::new(addr, other.at, "has nothing that the primary lacks"));
        answering.insert(addr, other);
    }
    let durability = Durability::found(snapshot, primary);
    let vouch = vouching(snapshot, answering.keys().copied());
    let enough = durability.lossless && durability.fenced_by(vouch.into_iter());
    if !silent.is_empty() && !enough {
        return Err(format!("{} may have more than it", silent.join(", ")));
    }
    commits(snapshot, policy, primary, &durability, &answering)?;
    Ok(evidence)
}

fn lacks_nothing_of(
    snapshot: &Snapshot,
    (primary, seen): (&ServerAddr, &Observation),
    addr: &ServerAddr,
    other: &Observation,
) -> Result<(), String> {
    if other.settings.writable() {
        return Err(format!("{addr} accepts writes"));
    }
    for channel in other.channels.iter().filter(|channel| channel.receiver != Receiver::Stopped) {
        let source = snapshot.source_of(channel);
        if !source.is_some_and(|source| snapshot.leads_to(source, primary)) {
            return Err(format!("{addr} replicates from elsewhere"));
        }
    }
    let lacking = other.total().subtract(&seen.executed);
    if lacking.is_empty() { Ok(()) } else { Err(format!("{addr} has transactions that it lacks ({lacking})")) }
}

/// That a commit on it would not wait for more ackers than answer.
fn commits(
    snapshot: &Snapshot,
    policy: &Policy,
    primary: &ServerAddr,
    durability: &Durability,
    answering: &BTreeMap<&ServerAddr, &Observation>,
) -> Result<(), String> {
    let (needs, have) = match kept(snapshot, policy, primary) {
        Some(kept) => (kept.acks, kept.ackers.iter().filter(|addr| answering.contains_key(addr)).count()),
        None => {
            let would = |(addr, seen): &(&&ServerAddr, &&Observation)| {
                durability.ackers.contains(**addr) && seen.semi_sync.replica_enabled == Some(true)
            };
            let source = snapshot.last(primary).and_then(|seen| seen.semi_sync.source.as_ref());
            let now = source.filter(|source| source.enabled).map_or(0, |source| source.wait_count);
            if durability.wait_count > now {
                let before = durability.wait_count;
                return Err(format!("its commits waited for replicas before it closed ({before}), now for {now}"));
            }
            (now, answering.iter().filter(would).count())
        }
    };
    let have = u32::try_from(have).unwrap_or(u32::MAX);
    if have >= needs {
        return Ok(());
    }
    Err(format!("a commit would wait for {needs} replicas, and {have} answer that acknowledge"))
}

/// Who acknowledges for `primary` as it is written down, where Baton keeps semi-sync, and what a commit there waits
/// for: not fewer than what is written or wished for.
#[must_use]
pub fn kept(snapshot: &Snapshot, policy: &Policy, primary: &ServerAddr) -> Option<Membership> {
    let wish = policy.semi_sync?;
    let written = snapshot.ledger.newest().filter(|known| known.source == *primary)?;
    let counts = snapshot.last(primary).is_none_or(|seen| seen.identity.version.has_semi_sync_count());
    let acks = if counts { written.acks.max(wish.acks) } else { 1 };
    Some(Membership { acks, ..written.clone() })
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
        closed_with(1, 2, past, change)
    }

    /// The same with so many acknowledgements and replicas.
    fn closed_with(
        acks: u32,
        replicas: usize,
        past: &[Past],
        change: impl Fn(&mut Cluster, &mut Policy),
    ) -> Option<Reopening> {
        let (mut cluster, mut policy) = (Cluster::primary_and_replicas(replicas), policy());
        policy.failover.read_only = Mode::Automatic;
        cluster.semi_sync(acks);
        cluster.look();
        cluster.fail("p", FailureKind::Refused);
        cluster.look();
        cluster.server("p").failure = None;
        cluster.server("p").observation.settings.super_read_only = true;
        cluster.server("p").observation.settings.read_only = true;
        change(&mut cluster, &mut policy);
        for _ in 0..5 {
            cluster.advance(1000);
            cluster.look();
        }
        let snapshot = cluster.snapshot.clone();
        find(&snapshot, &policy, &analyse(&snapshot, &policy), past)
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

    fn reopened(phase: Phase, age_ms: u64, acknowledged: bool) -> Past {
        Past { name: "shop-3".to_owned(), phase, age_ms, acknowledged, made: None, old: None, reopened: true }
    }

    #[test]
    fn a_primary_that_lacks_nothing_is_opened_once() {
        assert!(is_due(closed(&[], |_, _| {})));
        let done = |acknowledged| reopened(Phase::Succeeded, 60_000, acknowledged);
        assert!(reason(closed(&[done(false)], |_, _| {})).contains("shop-3 tried that not long ago"));
        assert!(is_due(closed(&[done(true)], |_, _| {})));
        let failed = |age_ms| reopened(Phase::Failed, age_ms, false);
        assert!(reason(closed(&[failed(10)], |_, _| {})).contains("shop-3 has just failed"));
        assert!(is_due(closed(&[failed(60_000)], |_, _| {})));
        let often = [failed(40_000), failed(80_000), failed(120_000)];
        assert!(reason(closed(&often, |_, _| {})).contains("tried that not long ago"));
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
        let rebuilt = |_: &mut Cluster, policy: &mut Policy| {
            policy.rebuilding.insert(addr("r2"));
        };
        let told = reason(closed(&[], rebuilt));
        assert!(told.contains("r2:3306 may have more than it"), "what a copy has proves nothing: {told}");
        let elsewhere = |cluster: &mut Cluster, _: &mut Policy| {
            let channel = &mut cluster.server("r2").observation.channels[0];
            (channel.source, channel.source_uuid) = (Some(addr("elsewhere")), None);
        };
        assert!(reason(closed(&[], elsewhere)).contains("r2:3306 replicates from elsewhere"));
    }

    /// Both ackers could have acknowledged, so both must answer; with more acknowledgements fewer would be enough to
    /// prove it, but not to commit.
    #[test]
    fn as_many_ackers_answer_as_a_failover_would_stop() {
        let away = |cluster: &mut Cluster, _: &mut Policy| cluster.fail("r2", FailureKind::Refused);
        assert_eq!(reason(closed(&[], away)), "not made writable: r2:3306 may have more than it");
        assert!(reason(closed_with(2, 2, &[], away)).contains("a commit would wait for 2 replicas, and 1 answer"));
        assert!(is_due(closed_with(2, 3, &[], away)));
        let asynchronous = |cluster: &mut Cluster, policy: &mut Policy| {
            cluster.server("p").observation.semi_sync.source = None;
            away(cluster, policy);
        };
        assert!(reason(closed_with(1, 2, &[], asynchronous)).contains("r2:3306 may have more"));
        let alone = |cluster: &mut Cluster, _: &mut Policy| {
            cluster.server("p").observation.semi_sync.source.as_mut().unwrap().enabled = false;
        };
        assert!(reason(closed(&[], alone)).contains("its commits waited for replicas before it closed"));
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
            assert_eq!(find(&snapshot, &policy, &analyse(&snapshot, &policy), &[]), None);
            cluster.advance(900);
        }
    }
}
