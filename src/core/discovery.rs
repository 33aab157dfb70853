//! Which servers join a cluster because its servers name them, and which leave it.
//!
//! Names are data: what is no address is left out, nothing is ever resolved, and how many servers a
//! cluster can grow to is bounded, so that a hostile or broken server cannot flood the operator.

use std::collections::BTreeSet;

use super::{
    id::ServerAddr,
    observation::{Downstream, Observation},
    policy::{DiscoverFrom, Discovery, Policy},
    snapshot::{Reach, Snapshot},
    topology::Topology,
};

/// Most servers a cluster grows to by discovery; those the owner names come in any case.
pub const SERVERS_MAX: usize = 1000;

/// A server that only other servers named, and that nobody names any more, is looked for this long, in
/// milliseconds: it may come back, and until then it counts among those that could have acknowledged.
pub const FORGET_MS: u64 = 3_600_000;

/// Addresses to look at from now on: what the owner names, and what the servers name.
#[must_use]
pub fn found(snapshot: &Snapshot, policy: &Policy) -> Vec<ServerAddr> {
    let named = policy.servers.keys().filter(|addr| !snapshot.servers.contains_key(*addr));
    let mut add: BTreeSet<ServerAddr> = named.cloned().collect();
    let room = SERVERS_MAX.saturating_sub(snapshot.servers.len().saturating_add(add.len()));
    let neighbours = neighbours(snapshot, policy);
    let fresh: Vec<_> = neighbours.into_iter().filter(|addr| !add.contains(addr)).take(room).collect();
    add.extend(fresh);
    add.into_iter().collect()
}

/// Servers that leave: the owner named them and does so no longer (a pod that is gone), or only other
/// servers ever did and that was long ago; and they do not answer, nobody mentions them, nobody follows
/// them and none of them is the primary.
#[must_use]
pub fn forgotten(snapshot: &Snapshot, policy: &Policy) -> Vec<ServerAddr> {
    let topology = Topology::of(snapshot);
    let mentioned = mentioned(snapshot, policy);
    let leaves = |addr: &&ServerAddr| {
        !policy.servers.contains_key(*addr) && !mentioned.contains(*addr) && vanished(snapshot, &topology, addr)
    };
    snapshot.servers.keys().filter(leaves).cloned().collect()
}

fn vanished(snapshot: &Snapshot, topology: &Topology, addr: &ServerAddr) -> bool {
    let Some(state) = snapshot.servers.get(addr) else { return false };
    let failing = matches!(state.reach(), Reach::Failing(failure) if !failure.kind.alive());
    let long = state.mute_since.is_some_and(|since| snapshot.at.since_ms(since) >= FORGET_MS);
    let is_primary = topology.primary.as_ref() == Some(addr) || snapshot.primary.as_ref() == Some(addr);
    let followed = topology.replicas(addr).next().is_some();
    failing && (state.named || long) && !is_primary && !followed
}

/// Every server that one that answers mentions as its source or its replica.
fn mentioned(snapshot: &Snapshot, policy: &Policy) -> BTreeSet<ServerAddr> {
    let of = |seen: &Observation| {
        let sources = seen.channels.iter().filter_map(|channel| snapshot.source_of(channel));
        let replicas = seen
            .downstream
            .iter()
            .filter_map(|below| snapshot.resolve(address(policy, below).as_ref(), below.uuid.as_deref()));
        sources.chain(replicas).cloned().collect::<Vec<_>>()
    };
    snapshot.servers.values().filter_map(|state| state.answering()).flat_map(of).collect()
}

/// Addresses that the servers name and that Baton does not know yet under any name.
fn neighbours(snapshot: &Snapshot, policy: &Policy) -> BTreeSet<ServerAddr> {
    if !policy.discovery.follow {
        return BTreeSet::new();
    }
    let answering = snapshot.servers.values().filter_map(|state| state.answering());
    let named = answering.flat_map(|seen| sources(snapshot, seen).into_iter().chain(replicas(snapshot, policy, seen)));
    named.filter(|addr| !ignored(&policy.discovery, addr)).collect()
}

fn sources(snapshot: &Snapshot, seen: &Observation) -> Vec<ServerAddr> {
    let unknown = seen.channels.iter().filter(|channel| snapshot.source_of(channel).is_none());
    unknown.filter_map(|channel| channel.source.clone()).collect()
}

fn replicas(snapshot: &Snapshot, policy: &Policy, seen: &Observation) -> Vec<ServerAddr> {
    let known = |downstream: &Downstream, addr: &ServerAddr| {
        let same_id = |other: &Observation| {
            downstream.server_id == Some(other.identity.server_id) && other.identity.hostname == downstream.host
        };
        snapshot.resolve(Some(addr), downstream.uuid.as_deref()).is_some()
            || snapshot.servers.values().filter_map(|state| state.last.as_ref()).any(same_id)
    };
    let addresses = seen.downstream.iter().filter_map(|downstream| Some((downstream, address(policy, downstream)?)));
    addresses.filter(|(downstream, addr)| !known(downstream, addr)).map(|(_, addr)| addr).collect()
}

/// The process list shows the port a replica connects *from*, so there the configured one is taken.
fn address(policy: &Policy, downstream: &Downstream) -> Option<ServerAddr> {
    let port = match policy.discovery.from {
        DiscoverFrom::ProcessList => policy.discovery.port,
        DiscoverFrom::ReplicaHosts => downstream.port.unwrap_or(policy.discovery.port),
    };
    ServerAddr::new(&downstream.host, port).ok()
}

fn ignored(discovery: &Discovery, addr: &ServerAddr) -> bool {
    let text = addr.to_string();
    discovery.ignore.iter().any(|pattern| pattern.is_match(&text))
}

#[cfg(test)]
mod tests {
    use regex::Regex;

    use super::*;
    use crate::{
        core::{observation::FailureKind, policy::ServerFacts},
        testing::snapshot::{Cluster, addr, policy},
    };

    fn below(host: &str, port: Option<u16>, uuid: Option<&str>) -> Downstream {
        Downstream { host: host.to_owned(), port, server_id: None, uuid: uuid.map(ToOwned::to_owned) }
    }

    #[test]
    fn sources_and_replicas_are_followed() {
        let mut cluster = Cluster::primary_and_replicas(1);
        cluster.server("r1").observation.channels[0].source = Some(addr("up"));
        cluster.server("r1").observation.channels[0].source_uuid = None;
        cluster.server("p").observation.downstream = vec![below("r1", None, None), below("r9", Some(40000), None)];
        let snapshot = cluster.look();
        // The port a dump thread comes from says nothing about the port the replica listens on.
        assert_eq!(found(&snapshot, &policy()), [addr("r9"), addr("up")]);
        let mut other = policy();
        other.discovery.from = DiscoverFrom::ReplicaHosts;
        assert_eq!(found(&snapshot, &other), ["r9:40000".parse().unwrap(), addr("up")]);
        other.discovery.ignore = vec![Regex::new("^r9:").unwrap()];
        assert_eq!(found(&snapshot, &other), [addr("up")]);
        other.discovery.follow = false;
        assert!(found(&snapshot, &other).is_empty());
    }

    #[test]
    fn a_server_is_known_under_any_of_its_names() {
        let mut cluster = Cluster::primary_and_replicas(2);
        let uuid = cluster.server("r1").observation.identity.uuid.clone();
        cluster.server("r2").observation.identity.reported = Some("outside:3306".parse().unwrap());
        cluster.server("p").observation.downstream =
            vec![below("10.9.9.9", None, Some(&uuid)), below("outside", None, None)];
        assert!(found(&cluster.look(), &policy()).is_empty());
    }

    #[test]
    fn hostile_names_and_floods_are_bounded() {
        let mut cluster = Cluster::primary_and_replicas(1);
        let flood = (0..5000).map(|index| below(&format!("h{index}"), None, None));
        let hostile = ["$(x)", "a'b", "a\nb", ""].map(|host| below(host, None, None));
        cluster.server("p").observation.downstream = flood.chain(hostile).collect();
        let snapshot = cluster.look();
        assert_eq!(found(&snapshot, &policy()).len(), SERVERS_MAX - snapshot.servers.len());
    }

    #[test]
    fn what_the_owner_names_always_comes() {
        let snapshot = Cluster::primary_and_replicas(1).look();
        let mut policy = policy();
        policy.servers.insert(addr("new"), ServerFacts::default());
        assert_eq!(found(&snapshot, &policy), [addr("new")]);
    }

    #[test]
    fn only_who_is_gone_for_everybody_leaves() {
        let mut cluster = Cluster::primary_and_replicas(2);
        cluster.look();
        cluster.fail("r1", FailureKind::Silent);
        cluster.advance(1000);
        let mut snapshot = cluster.look();
        let mut policy = policy();
        assert!(forgotten(&snapshot, &policy).is_empty(), "discovered, silent for a moment");
        snapshot.servers.get_mut(&addr("r1")).unwrap().named = true;
        assert_eq!(forgotten(&snapshot, &policy), [addr("r1")], "a pod that is gone");
        policy.servers.insert(addr("r1"), ServerFacts::default());
        assert!(forgotten(&snapshot, &policy).is_empty(), "still named");
        policy.servers.clear();
        let primary = snapshot.servers.get_mut(&addr("p")).unwrap();
        primary.last.as_mut().unwrap().downstream = vec![below("r1", None, None)];
        assert!(forgotten(&snapshot, &policy).is_empty(), "the primary still mentions it");
    }

    #[test]
    fn a_dead_primary_never_leaves() {
        let mut cluster = Cluster::primary_and_replicas(1);
        cluster.look();
        cluster.fail("p", FailureKind::Refused);
        cluster.advance(2 * FORGET_MS);
        let mut snapshot = cluster.look();
        snapshot.servers.get_mut(&addr("p")).unwrap().named = true;
        assert!(forgotten(&snapshot, &policy()).is_empty());
    }
}
