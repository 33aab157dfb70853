//! The cluster's shape: who is the primary, who is on a ring, who is nobody's.

use baton::{
    core::{
        id::ServerAddr,
        observation::{FailureKind, Receiver},
        status::Role,
        topology::Topology,
    },
    testing::snapshot::{Cluster, addr},
};

fn cluster(names: &[&str], edges: &[(&str, &str)]) -> Cluster {
    let mut cluster = Cluster::default();
    for name in names {
        cluster.add(name);
    }
    for (replica, source) in edges {
        cluster.follow(replica, source);
    }
    cluster
}

fn roles(cluster: &mut Cluster) -> Vec<(String, Role, Option<u32>)> {
    let topology = Topology::of(&cluster.look());
    let place = |(addr, member): (&ServerAddr, &baton::core::topology::Member)| {
        (addr.host().to_owned(), member.role, member.depth)
    };
    topology.members.iter().map(place).collect()
}

fn primary(cluster: &mut Cluster) -> Option<String> {
    Topology::of(&cluster.look()).primary.map(|addr| addr.host().to_owned())
}

#[test]
fn a_tree_has_depths() {
    let mut tree = cluster(&["a", "b", "c", "d"], &[("b", "a"), ("c", "b"), ("d", "a")]);
    let want = [
        ("a", Role::Primary, Some(0)),
        ("b", Role::IntermediatePrimary, Some(1)),
        ("c", Role::Replica, Some(2)),
        ("d", Role::Replica, Some(1)),
    ];
    assert_eq!(roles(&mut tree), want.map(|(name, role, depth)| (name.to_owned(), role, depth)));
}

#[test]
fn nobody_is_chosen_before_everybody_was_looked_at() {
    let mut pair = cluster(&["a", "b"], &[("b", "a")]);
    pair.server("b").looked_at = false;
    assert_eq!(primary(&mut pair), None);
    pair.server("b").looked_at = true;
    assert_eq!(primary(&mut pair), Some("a".to_owned()));
}

#[test]
fn a_primary_that_never_answered_is_known_by_its_replicas_once_it_proved_to_live() {
    let mut cluster = cluster(&["a", "b", "c"], &[("b", "a"), ("c", "a")]);
    cluster.fail("a", FailureKind::Refused);
    assert_eq!(primary(&mut cluster), None, "it may still be starting");
    cluster.fail("a", FailureKind::Credentials);
    assert_eq!(primary(&mut cluster), Some("a".to_owned()));
}

#[test]
fn servers_are_known_by_uuid_then_address_then_report() {
    let mut named = cluster(&["a", "b", "c"], &[("b", "a"), ("c", "a")]);
    named.server("b").observation.channels[0].source = Some(addr("other-name"));
    named.server("a").observation.identity.reported = Some(addr("reported"));
    named.server("c").observation.channels[0].source = Some(addr("reported"));
    named.server("c").observation.channels[0].source_uuid = None;
    let topology = Topology::of(&named.look());
    assert_eq!(topology.replicas(&addr("a")).count(), 2);
    named.server("c").observation.channels[0].source = Some(addr("elsewhere"));
    let topology = Topology::of(&named.look());
    assert!(topology.members[&addr("c")].outside_source);
    assert_eq!(topology.role_of(&addr("c")), Role::Detached);
}

#[test]
fn rings_end_and_are_found() {
    let mut ring = cluster(&["a", "b", "c", "d"], &[("b", "a"), ("c", "b"), ("a", "c"), ("d", "c")]);
    let topology = Topology::of(&ring.look());
    assert_eq!(topology.rings, [vec![addr("a"), addr("b"), addr("c")]]);
    assert_eq!(topology.role_of(&addr("d")), Role::Replica);
    let mut chain = cluster(&["a", "b", "c"], &[("b", "a"), ("c", "b")]);
    assert!(Topology::of(&chain.look()).rings.is_empty());
    let mut pair = cluster(&["a", "b"], &[("b", "a"), ("a", "b")]);
    assert!(Topology::of(&pair.look()).rings.is_empty());
}

#[test]
fn a_pair_has_the_writable_one_as_primary() {
    let mut pair = cluster(&["a", "b"], &[("b", "a"), ("a", "b")]);
    pair.server("b").observation.settings.read_only = false;
    pair.server("b").observation.settings.super_read_only = false;
    let topology = Topology::of(&pair.look());
    assert_eq!(topology.primary, Some(addr("b")));
    assert_eq!((topology.role_of(&addr("b")), topology.role_of(&addr("a"))), (Role::Primary, Role::CoPrimary));
}

#[test]
fn two_writable_roots_are_a_question_for_people() {
    let mut split = cluster(&["a", "b", "c", "d"], &[("c", "a"), ("d", "b")]);
    assert_eq!(primary(&mut split), None);
    assert_eq!(Topology::of(&split.look()).rivals, [addr("a"), addr("b")]);
    split.snapshot.primary = Some(addr("b"));
    assert_eq!(primary(&mut split), Some("b".to_owned()));
    assert_eq!(Topology::of(&split.look()).rivals, [addr("a")]);
}

#[test]
fn the_recorded_primary_stays_while_an_old_one_returns_writable() {
    // The new primary still has the stopped channel to the old one.
    let mut back = cluster(&["old", "new", "r"], &[("new", "old"), ("r", "new")]);
    back.snapshot.primary = Some(addr("new"));
    let new = back.server("new");
    new.observation.settings.read_only = false;
    new.observation.settings.super_read_only = false;
    new.observation.channels[0].receiver = Receiver::Stopped;
    assert_eq!(primary(&mut back), Some("new".to_owned()));
}

#[test]
fn a_hand_over_by_others_is_followed_when_complete() {
    let mut moved = cluster(&["old", "new", "r"], &[("old", "new"), ("r", "new")]);
    moved.snapshot.primary = Some(addr("old"));
    assert_eq!(primary(&mut moved), Some("new".to_owned()));
    // Not while the recorded one accepts writes itself, nor before it is connected.
    moved.server("old").observation.channels[0].receiver = Receiver::Connecting;
    moved.follow("r", "old");
    assert_eq!(primary(&mut moved), Some("old".to_owned()));
    let mut dead = cluster(&["old", "new", "r"], &[("r", "new")]);
    dead.snapshot.primary = Some(addr("old"));
    assert_eq!(primary(&mut dead), Some("old".to_owned()), "both accept writes");
    dead.fail("old", FailureKind::Silent);
    assert_eq!(primary(&mut dead), Some("new".to_owned()), "nobody follows the dead one any more");
}

#[test]
fn two_servers_with_one_uuid_change_nothing_from_run_to_run() {
    let mut twins = cluster(&["a", "b", "c"], &[("b", "a"), ("c", "a")]);
    let uuid = twins.server("a").observation.identity.uuid.clone();
    twins.server("b").observation.identity.uuid = uuid;
    let snapshot = twins.look();
    assert_eq!(Topology::of(&snapshot), Topology::of(&snapshot.clone()));
    assert_eq!(primary(&mut twins), Some("a".to_owned()));
}
