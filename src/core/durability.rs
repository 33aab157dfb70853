//! What the found semi-synchronous settings guarantee, and when the old primary surely can acknowledge
//! nothing any more.
//!
//! One rule serves detection, fence and choice (safety.md, "Failing over", 2): with N servers that
//! could acknowledge and W acknowledgements needed, R stopped ackers prove it when R >= N - W + 1.

use std::collections::BTreeSet;

use super::{
    gtid::GtidSet,
    id::ServerAddr,
    observation::{Channel, Observation, Receiver, SemiSyncSource},
    rules::{Rule, holds},
    snapshot::{ServerState, Snapshot},
    time::Mono,
};

/// How long a primary's count of its ackers may lag behind what looks at replicas show, in milliseconds.
const COUNT_LAG_MS: u64 = 3000;

/// Who could acknowledge a primary's commits, and how many had to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Durability {
    /// Known ackers.
    pub ackers: BTreeSet<ServerAddr>,
    /// Ackers the primary counted beyond the known ones.
    pub unknown_ackers: u32,
    /// Acknowledgements a commit needed; 0: asynchronous.
    pub wait_count: u32,
    /// The primary never fell back to asynchronous: no copy, no acknowledgement.
    pub lossless: bool,
}

impl Durability {
    /// Reads the guarantee from the newest observations of a primary and of its replicas.
    ///
    /// A primary that was never observed (it died before Baton started) is assumed to have waited for
    /// one acknowledgement if any replica was acknowledging, which asks for all of them; a server that
    /// was never observed either may be one more.
    #[must_use]
    pub fn found(snapshot: &Snapshot, primary: &ServerAddr) -> Self {
        let replicas = snapshot.replicas_of(primary);
        let known: Vec<_> = replicas
            .into_iter()
            .filter(|(_, state)| state.last.as_ref().is_some_and(|seen| seen.semi_sync.acknowledges()))
            .collect();
        let seen_to = known.iter().map(|(addr, _)| *addr);
        let lost = lost(snapshot, &known);
        let others = snapshot.ledger.ackers().chain(lost).filter(|addr| *addr != primary);
        let ackers: BTreeSet<_> = seen_to.chain(others).cloned().collect();
        let (at, source) = promise(snapshot, primary).unzip();
        // A known acker that was not connected is not among those that the primary counted.
        let counted = known.iter().filter(|(_, state)| at.is_some_and(|at| connected(snapshot, primary, state, at)));
        match source {
            Some(Some(source)) if source.enabled && source.active && source.wait_count > 0 => Self {
                unknown_ackers: unknown_ackers(&source, &known, counted.count()),
                wait_count: snapshot.ledger.acks(primary).map_or(source.wait_count, |acks| acks.min(source.wait_count)),
                lossless: source.lossless(),
                ackers,
            },
            None if !ackers.is_empty() => {
                let unseen = |(addr, state): &(&ServerAddr, &ServerState)| *addr != primary && state.last.is_none();
                let unseen = snapshot.servers.iter().filter(unseen).count();
                Self { ackers, unknown_ackers: count(unseen), wait_count: 1, lossless: false }
            }
            _ => match snapshot.ledger.acks(primary).filter(|_| closed(snapshot, primary)) {
                // A restart took what Baton had set there, and what it acknowledged before it closed waited.
                Some(wait_count) => Self { ackers, unknown_ackers: 0, wait_count, lossless: false },
                None => Self::default(),
            },
        }
    }

    /// Number of servers that could have acknowledged (N).
    #[must_use]
    pub fn ackers_count(&self) -> u32 {
        count(self.ackers.len()).saturating_add(if holds(Rule::UnknownAckers) { self.unknown_ackers } else { 0 })
    }

    /// How many ackers must be stopped before nobody can be acknowledged (N - W + 1, at least 1); 0
    /// when commits wait for nobody, because then stopping replicas fences nothing.
    #[must_use]
    pub fn fence_needs(&self) -> u32 {
        match self.wait_count {
            0 => 0,
            wait_count => {
                self.ackers_count().saturating_add(u32::from(holds(Rule::Quorum))).saturating_sub(wait_count).max(1)
            }
        }
    }

    /// Whether the stopped servers fence the primary.
    #[must_use]
    pub fn fenced_by<'a>(&self, stopped: impl Iterator<Item = &'a ServerAddr>) -> bool {
        count(stopped.filter(|addr| self.ackers.contains(*addr)).count()) >= self.fence_needs()
    }
}

/// Servers that lost what they had acknowledged, and with it perhaps their source, where it is not all on the `known`
/// ackers: without a source they can acknowledge nothing more.
fn lost<'a>(snapshot: &'a Snapshot, known: &[(&ServerAddr, &ServerState)]) -> Vec<&'a ServerAddr> {
    let forgot = |state: &'a ServerState| state.forgot.as_ref().filter(|forgot| forgot.acked);
    let mut lost = snapshot.servers.iter().filter_map(|(addr, state)| Some((addr, forgot(state)?))).peekable();
    if lost.peek().is_none() {
        return Vec::new();
    }
    let all = all(known.iter().filter_map(|(_, state)| state.last.as_ref()));
    lost.filter(|(_, forgot)| !forgot.made_good(&all)).map(|(addr, _)| addr).collect()
}

/// All that is on these servers.
fn all<'a>(servers: impl Iterator<Item = &'a Observation>) -> GtidSet {
    servers.fold(GtidSet::default(), |all, seen| all.union(&seen.total()))
}

/// Whether a server refuses writes, by the newest look.
fn closed(snapshot: &Snapshot, addr: &ServerAddr) -> bool {
    snapshot.last(addr).is_some_and(|seen| !seen.settings.writable())
}

/// Those of `servers` whose sets tell what they may have acknowledged: they lost nothing that they had, or all of it is
/// there among `servers`.
#[must_use]
pub fn vouching<'a>(snapshot: &Snapshot, servers: impl IntoIterator<Item = &'a ServerAddr>) -> Vec<&'a ServerAddr> {
    let servers: Vec<_> = servers.into_iter().collect();
    let forgot = |addr: &ServerAddr| snapshot.servers.get(addr).and_then(|state| state.forgot.as_ref());
    if servers.iter().all(|addr| forgot(addr).is_none()) {
        return servers;
    }
    let all = all(servers.iter().filter_map(|addr| snapshot.last(addr)));
    let wrote = |state: &ServerState| state.last.as_ref().is_some_and(|seen| !seen.executed.is_empty());
    let nobody = !snapshot.servers.values().any(wrote);
    let vouches = |addr: &&ServerAddr| nobody || forgot(addr).is_none_or(|forgot| forgot.made_good(&all));
    servers.into_iter().filter(vouches).collect()
}

/// The source side of semi-sync with which a server last accepted writes, else the newest; and when that was seen.
fn promise(snapshot: &Snapshot, primary: &ServerAddr) -> Option<(Mono, Option<SemiSyncSource>)> {
    let state = snapshot.servers.get(primary)?;
    let newest = || state.last.as_ref().map(|seen| (seen.at, seen.semi_sync.source.clone()));
    state.opened_with.clone().filter(|_| holds(Rule::OpenedWith)).or_else(newest)
}

fn count(servers: usize) -> u32 {
    u32::try_from(servers).unwrap_or(u32::MAX)
}

/// Ackers that the primary has beyond the known ones: by name where it names all of them, else by
/// count, which errs on the safe side while a lost connection lingers. `counted`: known ones that the
/// count may include.
fn unknown_ackers(source: &SemiSyncSource, known: &[(&ServerAddr, &ServerState)], counted: usize) -> u32 {
    let is = |state: &ServerState, named: &String| state.last.as_ref().is_some_and(|seen| seen.identity.uuid == *named);
    let is_known = |named: &&String| known.iter().any(|(_, state)| is(state, named));
    match &source.replicas {
        Some(named) => count(named.iter().filter(|named| !is_known(named)).count()),
        None => source.clients.saturating_sub(count(counted)),
    }
}

/// Whether a replica may have been connected to its source when that was looked at: unless looks show
/// that its receiver had not been running for a while.
fn connected(snapshot: &Snapshot, source: &ServerAddr, state: &ServerState, at: Mono) -> bool {
    let Some(seen) = &state.last else { return true };
    let recent = |when: Option<Mono>| when.is_some_and(|when| when.plus_ms(COUNT_LAG_MS) >= at);
    let may = |channel: &Channel| {
        let hearing = state.hearing.get(&channel.name).copied().unwrap_or_default();
        channel.receiver == Receiver::Running || recent(hearing.left_at) || recent(hearing.heard_at)
    };
    seen.channels.iter().filter(|channel| snapshot.source_of(channel) == Some(source)).any(may)
}

/// Whether a server has the source side of semi-sync on while it is a replica (M10): its applier waits
/// for acknowledgements that nobody sends.
#[must_use]
pub fn source_side_on(seen: &Observation) -> bool {
    seen.semi_sync.source.as_ref().is_some_and(|source: &SemiSyncSource| source.enabled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        core::{membership::Membership, observation::FailureKind},
        testing::snapshot::{Cluster, addr, transactions, uuid},
    };

    fn durability(known: u16, unknown: u32, wait_count: u32) -> Durability {
        let ackers = (1..=known).map(|port| ServerAddr::new("r", port).unwrap()).collect();
        Durability { ackers, unknown_ackers: unknown, wait_count, lossless: true }
    }

    #[test]
    fn the_quorum_follows_the_rule() {
        // N, unknown, W, needed: F09, F10 of the fault scenarios among them.
        for (known, unknown, wait_count, needed) in
            [(2, 0, 1, 2), (4, 0, 2, 3), (3, 0, 1, 3), (2, 1, 1, 3), (1, 0, 1, 1), (1, 0, 2, 1), (3, 0, 0, 0)]
        {
            assert_eq!(
                durability(known, unknown, wait_count).fence_needs(),
                needed,
                "N={known}+{unknown} W={wait_count}"
            );
        }
    }

    /// A replica that connected anew counts twice at the primary; the fence must not wait for its ghost.
    #[test]
    fn a_lingering_connection_is_no_other_acker() {
        let world = |named: Option<&[u32]>| {
            let mut cluster = Cluster::primary_and_replicas(2);
            cluster.semi_sync(1);
            let source = cluster.server("p").observation.semi_sync.source.as_mut().unwrap();
            source.clients = 4;
            source.replicas = named.map(|named| named.iter().copied().map(uuid).collect());
            Durability::found(&cluster.look(), &addr("p"))
        };
        assert_eq!(world(None).ackers_count(), 4, "only counted");
        assert_eq!(world(Some(&[2, 3])).ackers_count(), 2, "all of them known");
        assert_eq!(world(Some(&[2, 3, 9])).ackers_count(), 3, "one of them not known");
    }

    #[test]
    fn a_known_acker_that_is_not_connected_hides_no_stranger() {
        let mut cluster = Cluster::primary_and_replicas(3);
        cluster.semi_sync(1);
        cluster.look();
        cluster.server("r3").observation.channels[0].receiver = Receiver::Stopped;
        cluster.server("r3").observation.semi_sync.replica_active = false;
        cluster.advance(10_000);
        // r1, r2 and somebody else.
        let snapshot = cluster.look();
        let found = Durability::found(&snapshot, &addr("p"));
        assert_eq!((found.ackers.len(), found.unknown_ackers, found.fence_needs()), (3, 1, 4));
        // Replicas that lost the primary when it died were connected when it was last looked at.
        cluster.server("p").observation.semi_sync.source.as_mut().unwrap().clients = 2;
        cluster.look();
        cluster.fail("p", FailureKind::Refused);
        ["r1", "r2"].into_iter().for_each(|name| cluster.lose_source(name));
        for _ in 0..100 {
            cluster.advance(100);
            cluster.look();
        }
        assert_eq!(Durability::found(&cluster.snapshot, &addr("p")).unknown_ackers, 0);
    }

    /// A restart leaves what the configuration says; what was acknowledged before was acknowledged with what was set.
    #[test]
    fn what_a_closed_primary_acknowledged_it_acknowledged_as_it_was_set_then() {
        let mut cluster = Cluster::primary_and_replicas(2);
        cluster.semi_sync(1);
        cluster.look();
        cluster.fail("p", FailureKind::Refused);
        cluster.look();
        cluster.server("p").failure = None;
        let primary = &mut cluster.server("p").observation;
        (primary.settings.read_only, primary.settings.super_read_only) = (true, true);
        primary.semi_sync.source.as_mut().unwrap().enabled = false;
        for _ in 0..3 {
            let found = Durability::found(&cluster.look(), &addr("p"));
            assert_eq!((found.wait_count, found.lossless, found.fence_needs()), (1, true, 2));
        }
        let primary = &mut cluster.server("p").observation;
        (primary.settings.read_only, primary.settings.super_read_only) = (false, false);
        assert_eq!(Durability::found(&cluster.look(), &addr("p")).wait_count, 0, "from now on it acknowledges alone");
    }

    /// A new process knows what Baton had set from what is written down.
    #[test]
    fn a_closed_primary_was_set_as_it_is_written_down() {
        let mut cluster = Cluster::primary_and_replicas(2);
        cluster.semi_sync(1);
        let primary = &mut cluster.server("p").observation;
        (primary.settings.read_only, primary.semi_sync.source) = (true, None);
        let ackers = ["r1", "r2"].map(addr).into();
        cluster.snapshot.ledger.read = Some(Membership { source: addr("p"), acks: 1, ackers });
        let found = Durability::found(&cluster.look(), &addr("p"));
        assert_eq!((found.wait_count, found.lossless, found.fence_needs()), (1, false, 2));
    }

    /// A new disk has no source either: whom it may have acknowledged for is remembered.
    #[test]
    fn who_lost_its_source_with_its_data_still_could_have_acknowledged() {
        let mut cluster = Cluster::primary_and_replicas(2);
        cluster.semi_sync(1);
        cluster.look();
        cluster.fail("p", FailureKind::Silent);
        cluster.look();
        let seen = &mut cluster.server("r1").observation;
        (seen.executed, seen.channels, seen.semi_sync) = Default::default();
        let found = Durability::found(&cluster.look(), &addr("p"));
        assert_eq!(found.ackers, ["r1", "r2"].map(addr).into());
        let both = ["r1", "r2"].map(addr);
        assert!(!found.fenced_by(vouching(&cluster.snapshot, &both).into_iter()));
        cluster.server("p").observation.semi_sync.source.as_mut().unwrap().clients = 1;
        cluster.server("p").failure = None;
        let found = Durability::found(&cluster.look(), &addr("p"));
        assert_eq!(found.ackers, [addr("r2")].into(), "the other has all that the primary had since");
    }

    /// One that lost its data is among those that could have acknowledged. Whether the others have what it lost shows
    /// what the primary had after that.
    #[test]
    fn who_lost_something_vouches_for_what_the_others_have() {
        let mut cluster = Cluster::primary_and_replicas(2);
        let mut looks = |primary: u64, other: u64| {
            cluster.server("p").observation.executed = transactions(1, primary);
            let seen = &mut cluster.server("r2").observation;
            (seen.executed, seen.channels[0].received) = (transactions(1, other), transactions(1, other));
            let seen = &mut cluster.server("r1").observation;
            (seen.executed, seen.channels[0].received) = Default::default();
            let snapshot = cluster.look();
            let replicas = ["r1", "r2"].map(addr);
            vouching(&snapshot, &replicas).into_iter().map(|addr| addr.host().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(looks(120, 110), ["r2"]);
        assert_eq!(looks(300, 119), ["r2"]);
        assert_eq!(looks(300, 120), ["r1", "r2"]);
    }

    /// Whom the primary counted is not known when it was never seen.
    #[test]
    fn every_server_that_was_never_seen_may_be_an_acker_of_such_a_primary() {
        let mut cluster = Cluster::primary_and_replicas(3);
        cluster.semi_sync(1);
        cluster.fail("p", FailureKind::Refused);
        cluster.fail("r3", FailureKind::Refused);
        let found = Durability::found(&cluster.look(), &addr("p"));
        assert_eq!((found.ackers.len(), found.unknown_ackers, found.fence_needs()), (2, 1, 3));
    }

    #[test]
    fn only_ackers_count() {
        let two = durability(2, 0, 1);
        let stopped: Vec<_> = [1, 9].map(|port| ServerAddr::new("r", port).unwrap()).into();
        assert!(!two.fenced_by(stopped.iter()));
        assert!(two.fenced_by(two.ackers.iter()));
    }
}
