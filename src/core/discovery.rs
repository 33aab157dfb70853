//! Which servers join a cluster because its servers name them, and which leave it.
//!
//! Names are data: what is no address is left out, nothing is ever resolved, and how many servers a
//! cluster can grow to is bounded, so that a hostile or broken server cannot flood the operator.

use std::collections::BTreeSet;

use super::{
    id::ServerAddr,
    observation::{Channel, Downstream, Observation},
    policy::{DiscoverFrom, Discovery, Policy},
    snapshot::{Reach, ServerState, Snapshot},
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
/// servers ever did and that was long ago; and nobody mentions them, nobody follows them, they follow
/// nobody here and none of them is the primary. A second address of one server leaves, too.
#[must_use]
pub fn forgotten(snapshot: &Snapshot, policy: &Policy) -> Vec<ServerAddr> {
    let left = |addr: &&ServerAddr| !policy.servers.contains_key(*addr);
    let mut candidates = snapshot.servers.keys().filter(left).peekable();
    if candidates.peek().is_none() {
        return Vec::new();
    }
    let topology = Topology::of(snapshot);
    let mentioned = mentioned(snapshot, policy);
    let leaves = |addr: &&ServerAddr| {
        same_server(snapshot, policy, addr).is_some()
            || (!mentioned.contains(*addr) && vanished(snapshot, policy, &topology, addr))
    };
    candidates.filter(leaves).cloned().collect()
}

/// The address under which the server at `addr` is known better: the owner's, or the first of several
/// that other servers named. `None`: `addr` is the best.
#[must_use]
pub fn same_server<'a>(snapshot: &'a Snapshot, policy: &Policy, addr: &ServerAddr) -> Option<&'a ServerAddr> {
    let own = &snapshot.last(addr).filter(|_| !policy.servers.contains_key(addr))?.identity;
    let same = |state: &ServerState| {
        let other = state.last.as_ref().map(|seen| &seen.identity);
        // A copied server may have the same UUID, but not the same host.
        other.is_some_and(|other| other.uuid == own.uuid && other.hostname == own.hostname)
    };
    let better = |other: &ServerAddr| policy.servers.contains_key(other) || other < addr;
    snapshot
        .servers
        .iter()
        .find(|(other, state)| *other != addr && better(other) && same(state))
        .map(|(other, _)| other)
}

fn vanished(snapshot: &Snapshot, policy: &Policy, topology: &Topology, addr: &ServerAddr) -> bool {
    let Some(state) = snapshot.servers.get(addr) else { return false };
    let member = topology.members.get(addr);
    let alone = member.is_none_or(|member| member.replicas.is_empty());
    let is_primary = topology.primary.as_ref() == Some(addr) || snapshot.primary.as_ref() == Some(addr);
    // Without discovery the owner alone says who belongs to the cluster.
    let follows = policy.discovery.follow
        && state.answering().is_some()
        && member.is_some_and(|member| !member.sources.is_empty());
    let failing = matches!(state.reach(), Reach::Failing(failure) if !failure.kind.alive());
    let long = failing && state.mute_since.is_some_and(|since| snapshot.at.since_ms(since) >= FORGET_MS);
    (state.named || long) && alone && !follows && !is_primary
}

/// Every server that one that answers mentions as its source or its replica.
fn mentioned(snapshot: &Snapshot, policy: &Policy) -> BTreeSet<ServerAddr> {
    if !policy.discovery.follow {
        return BTreeSet::new();
    }
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

/// Addresses that the servers name and that Baton does not know yet under any name. Nobody is found
/// before all that are known were looked at: one of them may be the same server under another name.
fn neighbours(snapshot: &Snapshot, policy: &Policy) -> BTreeSet<ServerAddr> {
    let unseen = |state: &ServerState| state.reach() == Reach::Unknown;
    if !policy.discovery.follow || snapshot.servers.values().any(unseen) {
        return BTreeSet::new();
    }
    let answering = snapshot.servers.iter().filter_map(|(addr, state)| Some((addr, state.answering()?)));
    let named = answering
        .flat_map(|(addr, seen)| sources(snapshot, seen).into_iter().chain(replicas(snapshot, policy, addr, seen)));
    named.filter(|addr| !ignored(&policy.discovery, addr)).collect()
}

fn sources(snapshot: &Snapshot, seen: &Observation) -> Vec<ServerAddr> {
    let unknown = seen.channels.iter().filter(|channel| snapshot.source_of(channel).is_none());
    unknown.filter_map(|channel| channel.source.clone()).collect()
}

fn replicas(snapshot: &Snapshot, policy: &Policy, source: &ServerAddr, seen: &Observation) -> Vec<ServerAddr> {
    let registered = policy.discovery.from == DiscoverFrom::ReplicaHosts;
    let listed = seen.downstream.iter().filter(|below| below.port.is_some() == registered);
    // Without port and UUID (MySQL 5.6, MariaDB) a connection from the host of a known replica is taken for
    // that one: it may listen on any port.
    let unclear = |below: &&Downstream| below.port.is_none() && below.uuid.is_none();
    let named = listed.filter(|below| !(unclear(below) && follower_at(snapshot, source, &below.host)));
    let named = named.filter_map(|below| Some((below, address(policy, below)?)));
    named.filter(|(below, addr)| !known(snapshot, below, addr)).map(|(_, addr)| addr).collect()
}

fn known(snapshot: &Snapshot, below: &Downstream, addr: &ServerAddr) -> bool {
    let same_id = |other: &Observation| {
        below.server_id == Some(other.identity.server_id) && other.identity.hostname == below.host
    };
    snapshot.resolve(Some(addr), below.uuid.as_deref()).is_some()
        || snapshot.servers.values().filter_map(|state| state.last.as_ref()).any(same_id)
}

/// Whether a known server at `host` replicates from `source`.
fn follower_at(snapshot: &Snapshot, source: &ServerAddr, host: &str) -> bool {
    let follows = |channel: &Channel| snapshot.source_of(channel) == Some(source);
    let mut at_host = snapshot.servers.iter().filter(|(addr, _)| addr.host().eq_ignore_ascii_case(host));
    at_host.any(|(_, state)| state.last.iter().flat_map(|seen| &seen.channels).any(follows))
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
        testing::snapshot::{Cluster, addr, policy, uuid},
    };

    fn below(host: &str, port: Option<u16>, uuid: Option<&str>) -> Downstream {
        Downstream { host: host.to_owned(), port, server_id: None, uuid: uuid.map(ToOwned::to_owned) }
    }

    #[test]
    fn sources_and_replicas_are_followed() {
        let mut cluster = Cluster::primary_and_replicas(1);
        cluster.server("r1").observation.channels[0].source = Some(addr("up"));
        cluster.server("r1").observation.channels[0].source_uuid = None;
        cluster.server("p").observation.downstream =
            vec![below("r1", None, None), below("r9", None, None), below("r9", Some(40000), None)];
        let snapshot = cluster.look();
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
    fn replicas_on_other_ports_of_a_host_are_not_found_again() {
        let mut cluster = Cluster::primary_and_replicas(1);
        let mut snapshot = cluster.look();
        let mut state = snapshot.servers.remove(&addr("r1")).unwrap();
        state.last.as_mut().unwrap().identity.uuid = uuid(8);
        snapshot.servers.insert(ServerAddr::new("many", 3307).unwrap(), state);
        let mut found = |downstream: Vec<Downstream>| {
            snapshot.servers.get_mut(&addr("p")).unwrap().last.as_mut().unwrap().downstream = downstream;
            super::found(&snapshot, &policy())
        };
        assert!(found(vec![below("many", None, None)]).is_empty(), "it may be the known one");
        assert!(found(vec![below("many", None, Some(&uuid(8)))]).is_empty(), "and this is");
        assert_eq!(found(vec![below("many", None, Some(&uuid(9)))]), [addr("many")], "another one");
    }

    #[test]
    fn nobody_is_found_before_everybody_known_was_looked_at() {
        let mut cluster = Cluster::primary_and_replicas(1);
        cluster.server("r1").observation.channels[0].source = Some(addr("name-of-p"));
        cluster.look_at("r1");
        assert!(found(&cluster.snapshot, &policy()).is_empty(), "p may have that name");
        cluster.look();
        assert!(found(&cluster.snapshot, &policy()).is_empty(), "and has it, as its UUID shows");
    }

    #[test]
    fn a_second_address_of_a_server_leaves() {
        let mut cluster = Cluster::primary_and_replicas(1);
        let mut snapshot = cluster.look();
        let twin = snapshot.servers[&addr("p")].clone();
        snapshot.servers.insert(addr("a-name-of-p"), twin);
        let mut policy = policy();
        policy.servers.insert(addr("p"), ServerFacts::default());
        assert_eq!(forgotten(&snapshot, &policy), [addr("a-name-of-p")], "the owner's name stays");
        policy.servers.clear();
        assert_eq!(same_server(&snapshot, &policy, &addr("p")), Some(&addr("a-name-of-p")), "else the first");
        snapshot.servers.get_mut(&addr("p")).unwrap().last.as_mut().unwrap().identity.hostname = "other".to_owned();
        assert!(forgotten(&snapshot, &policy).is_empty(), "a copy with the same UUID is another server");
    }

    #[test]
    fn who_is_named_no_more_leaves_even_if_something_answers_there() {
        let mut cluster = Cluster::primary_and_replicas(2);
        let mut snapshot = cluster.look();
        let state = snapshot.servers.get_mut(&addr("r1")).unwrap();
        state.named = true;
        let mut policy = policy();
        assert!(forgotten(&snapshot, &policy).is_empty(), "it is a replica still");
        policy.discovery.follow = false;
        assert_eq!(forgotten(&snapshot, &policy), [addr("r1")], "without discovery the owner decides");
        policy.discovery.follow = true;
        let state = snapshot.servers.get_mut(&addr("r1")).unwrap();
        state.last.as_mut().unwrap().channels.clear();
        assert_eq!(forgotten(&snapshot, &policy), [addr("r1")], "its address has another server now");
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
