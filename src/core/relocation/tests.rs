//! Whom replicas of a lost intermediate primary follow next, by place and by what they have.

use super::*;
use crate::{
    core::{
        observation::{BinlogFormat, FailureKind, GtidMode},
        policy::ServerFacts,
        version::Version,
    },
    testing::snapshot::{Cluster, addr, policy, transactions},
};

/// `m` and `s` below `p`, `a` and `b` below `m`; `m` is gone.
fn chain(siblings: &[&str]) -> Cluster {
    let mut cluster = Cluster::default();
    let names = ["p", "m"].into_iter().chain(siblings.iter().copied()).chain(["a", "b"]);
    names.for_each(|name| {
        cluster.add(name);
    });
    ["m"].iter().chain(siblings).for_each(|name| {
        cluster.follow(name, "p");
    });
    ["a", "b"].iter().for_each(|name| {
        cluster.follow(name, "m");
    });
    cluster.snapshot.primary = Some(addr("p"));
    cluster.look();
    cluster.fail("m", FailureKind::Refused);
    ["a", "b"].into_iter().for_each(|name| cluster.lose_source(name));
    cluster
}

fn planned(cluster: &mut Cluster, policy: &Policy, tried: &Tried) -> Plan {
    let snapshot = cluster.look();
    plan(&snapshot, &Topology::of(&snapshot), policy, &addr("m"), tried)
}

fn fates(cluster: &mut Cluster, policy: &Policy) -> Vec<Fate> {
    planned(cluster, policy, &Tried::default()).orphans.into_values().collect()
}

fn moves(name: &str) -> Fate {
    Fate::Moves(addr(name))
}

fn zones(places: &[(&str, &str)]) -> Policy {
    let mut policy = policy();
    for (name, zone) in places {
        let facts = ServerFacts { zone: Some((*zone).to_owned()), ..ServerFacts::default() };
        policy.servers.insert(addr(name), facts);
    }
    policy
}

#[test]
fn a_sibling_in_the_same_zone_comes_first() {
    let mut cluster = chain(&["s1", "s2"]);
    let policy = zones(&[("p", "x"), ("s1", "x"), ("s2", "y"), ("a", "y"), ("b", "y")]);
    assert_eq!(fates(&mut cluster, &policy), [moves("s2"), moves("s2")]);
}

#[test]
fn without_one_the_most_advanced_goes_elsewhere_and_the_others_follow_it() {
    let mut cluster = chain(&["s"]);
    let policy = zones(&[("p", "x"), ("s", "x"), ("a", "y"), ("b", "y")]);
    cluster.server("b").observation.channels[0].received = transactions(1, 101);
    let plan = planned(&mut cluster, &policy, &Tried::default());
    assert_eq!(plan.orphans[&addr("b")], moves("s"), "it has more");
    assert!(matches!(&plan.orphans[&addr("a")], Fate::Waits(reason) if reason == "b:3306 is moved first"));
    assert_eq!(plan.due.len(), 1);
    // It is moved.
    cluster.server("b").observation.channels.clear();
    cluster.follow("b", "s");
    let tried = Tried { moved: [addr("b")].into(), ..Tried::default() };
    let plan = planned(&mut cluster, &policy, &tried);
    assert_eq!(plan.orphans.into_values().collect::<Vec<_>>(), [moves("b")]);
    // Nobody waits for ever.
    let mut cluster = chain(&["s"]);
    let plan = planned(&mut cluster, &policy, &Tried { direct: true, ..Tried::default() });
    assert_eq!(plan.orphans.into_values().collect::<Vec<_>>(), [moves("s"), moves("s")]);
}

#[test]
fn in_the_end_there_is_the_source_above() {
    let mut cluster = chain(&[]);
    cluster.server("b").observation.settings.log_replica_updates = false;
    cluster.server("a").observation.settings.log_replica_updates = false;
    assert_eq!(fates(&mut cluster, &policy()), [moves("p"), moves("p")]);
    // Two lost servers, one above the other.
    let mut cluster = Cluster::default();
    for name in ["p", "n", "m", "a"] {
        cluster.add(name);
    }
    cluster.follow("n", "p");
    cluster.follow("m", "n");
    cluster.follow("a", "m");
    cluster.snapshot.primary = Some(addr("p"));
    cluster.look();
    ["m", "n"].into_iter().for_each(|name| cluster.fail(name, FailureKind::Silent));
    assert_eq!(fates(&mut cluster, &policy()), [moves("p")]);
    cluster.server("n").failure = None;
    assert_eq!(fates(&mut cluster, &policy()), [moves("n")]);
}

/// Why `s` is not chosen after `change`.
fn unfit(change: impl Fn(&mut Cluster)) -> String {
    let mut cluster = chain(&["s"]);
    change(&mut cluster);
    let plan = planned(&mut cluster, &policy(), &Tried::default());
    assert!(plan.orphans.values().all(|fate| *fate != moves("s")), "{plan:?}");
    plan.candidates.into_iter().find(|judged| judged.server == addr("s")).unwrap().reason
}

#[test]
fn what_cannot_be_relied_on_is_no_source() {
    let seen = |change: fn(&mut Observation)| unfit(move |cluster| change(&mut cluster.server("s").observation));
    assert_eq!(seen(|s| s.settings.log_replica_updates = false), "it does not log replicated transactions");
    assert_eq!(seen(|s| s.channels[0].filtered = true), "its replication is filtered");
    assert_eq!(seen(|s| s.channels[0].delay_s = 60), "it is delayed on purpose");
    assert_eq!(seen(|s| s.channels[0].applier_running = false), "it does not replicate");
    assert_eq!(seen(|s| s.settings.gtid_mode = GtidMode::OnPermissive), "it does not use GTIDs");
    assert_eq!(seen(|s| s.executed = transactions(9, 3)), "it has transactions that the primary lacks");
    assert_eq!(unfit(|cluster| cluster.fail("s", FailureKind::Silent)), "it does not answer");
}

/// What becomes of `a` after `change`, with `s` as the only source at hand.
fn fate(change: impl Fn(&mut Cluster)) -> Fate {
    let mut cluster = chain(&["s"]);
    change(&mut cluster);
    planned(&mut cluster, &policy(), &Tried::default()).orphans.remove(&addr("a")).unwrap()
}

#[test]
fn a_replica_that_cannot_follow_stays_and_says_why() {
    let lost = |change: fn(&mut Cluster)| match fate(change) {
        Fate::Lost(reason) => reason,
        other => panic!("{other:?}"),
    };
    let errant = lost(|cluster| {
        let seen = &mut cluster.server("a").observation;
        seen.executed = seen.executed.union(&transactions(9, 3));
    });
    assert_eq!(errant, "it has transactions that neither the new source nor the primary has");
    let purged = lost(|cluster| {
        for name in ["p", "s"] {
            cluster.server(name).observation.purged = transactions(1, 150);
            cluster.server(name).observation.executed = transactions(1, 200);
        }
    });
    assert_eq!(purged, "it lacks transactions whose binary logs the new source no longer has");
    let old = lost(|cluster| cluster.server("a").observation.identity.version = Version::mysql(8, 0, 40));
    assert_eq!(old, "its version is older than the new source's");
    let format = lost(|cluster| cluster.server("a").observation.settings.binlog_format = BinlogFormat::Statement);
    assert_eq!(format, "it logs in a format that cannot follow the new source's");
    let position = lost(|cluster| cluster.server("a").observation.channels[0].auto_position = false);
    assert!(position.contains("file and position"), "{position}");
    let channels = lost(|cluster| {
        cluster.follow("a", "s");
    });
    assert_eq!(channels, "it has several channels");
}

#[test]
fn a_sibling_that_no_longer_has_what_is_missing_is_passed_over() {
    let fate = fate(|cluster| {
        cluster.server("s").observation.purged = transactions(1, 150);
        cluster.server("s").observation.executed = transactions(1, 200);
        cluster.server("p").observation.executed = transactions(1, 200);
    });
    assert!(fate == moves("p") || matches!(fate, Fate::Waits(_)), "{fate:?}");
}

#[test]
fn what_was_refused_is_not_tried_again() {
    let mut cluster = chain(&["s"]);
    let in_vain = [(addr("a"), addr("s")), (addr("b"), addr("s"))].into();
    let tried = Tried { in_vain, direct: true, ..Tried::default() };
    let plan = planned(&mut cluster, &policy(), &tried);
    assert_eq!(plan.orphans.into_values().collect::<Vec<_>>(), [moves("p"), moves("p")]);
}

#[test]
fn who_is_away_or_under_maintenance_is_left() {
    let mut policy = policy();
    policy.maintenance.insert(addr("a"));
    let mut cluster = chain(&["s"]);
    cluster.fail("b", FailureKind::Silent);
    let absent = |reason: &str| Fate::Absent(reason.to_owned());
    assert_eq!(fates(&mut cluster, &policy), [absent("it is under maintenance"), absent("it does not answer")]);
}

#[test]
fn nothing_is_planned_while_the_primary_does_not_answer() {
    let mut cluster = chain(&["s"]);
    cluster.fail("p", FailureKind::Silent);
    assert!(planned(&mut cluster, &policy(), &Tried::default()).orphans.is_empty());
}

#[test]
fn what_was_received_is_applied_before_a_source_is_changed_where_that_would_discard_it() {
    let mut cluster = chain(&["s"]);
    let seen = &mut cluster.server("a").observation;
    seen.channels[0].received = transactions(1, 120);
    let source = addr("s");
    assert!(matches!(toward(seen, &source), Ok((Action::Repoint { .. }, _))), "9.7 keeps relay logs");
    seen.identity.version = Version::mysql(5, 7, 44);
    assert!(matches!(toward(seen, &source), Ok((Action::WaitApplied { .. }, _))));
    seen.channels[0].applier_running = false;
    assert_eq!(toward(seen, &source).unwrap().0, Action::StartApplier);
    seen.channels[0].applier_error = Some(crate::core::observation::ThreadError { code: 1062, message: String::new() });
    assert_eq!(toward(seen, &source).unwrap_err(), "its applier stopped with error 1062");
    seen.executed = transactions(1, 120);
    assert!(matches!(toward(seen, &source), Ok((Action::Repoint { .. }, _))));
}
