//! What is shown of a cluster, by examples.

use super::*;
use crate::{
    core::{analysis::analyse, id::Epoch, observation::FailureKind, readiness},
    engine::facts::{Desired, History},
    testing::snapshot::{Cluster, addr, policy, transactions},
};

fn shown(snapshot: &Snapshot, policy: &Policy) -> ClusterView {
    let desired = Desired { policy: policy.clone(), primary: None, epoch: Epoch(1), semi_sync: None };
    let facts = Facts {
        desired: &desired,
        history: &History::default(),
        epoch: Epoch(1),
        request: None,
        recovering: None,
        relocations: &[],
    };
    let readiness = readiness::assess(snapshot, snapshot.primary.as_ref(), policy, None);
    view(snapshot, &facts, &Topology::of(snapshot), &analyse(snapshot, policy), readiness)
}

#[test]
fn nothing_shown_ticks() {
    let mut cluster = Cluster::primary_and_replicas(3);
    cluster.server("r1").observation.settings.net_timeout_s = 3600;
    cluster.server("r2").observation.channels[0].applier_running = false;
    cluster.look();
    cluster.fail("r3", FailureKind::Silent);
    cluster.look();
    let mut first = None;
    for last in 101..110 {
        cluster.server("p").observation.executed = transactions(1, last);
        for name in ["r1", "r2"] {
            let seen = &mut cluster.server(name).observation;
            seen.channels[0].received = transactions(1, last - 1);
            seen.channels[0].seconds_behind = Some(last % 2);
        }
        cluster.advance(990);
        let view = shown(&cluster.look(), &policy());
        assert_eq!(*first.get_or_insert(view.clone()), view, "{last}");
    }
    let said: Vec<_> = first.unwrap().analyses.into_iter().map(|one| one.message).collect();
    let settings = "A replica's settings would hide the death of its source, or keep it from coming back \
                    (r1:3306 its net timeout is 3600 s)";
    assert_eq!(said, [settings], "what is wrong is named");
}

#[test]
fn a_primary_that_does_not_let_baton_in_says_why() {
    let view = |kind| {
        let mut cluster = Cluster::primary_and_replicas(2);
        cluster.look();
        cluster.fail("p", kind);
        shown(&cluster.look(), &policy())
    };
    let (told, silent) = (view(FailureKind::Tls), view(FailureKind::Silent).ready.reason);
    assert_eq!((told.ready.value, told.ready.reason, told.writable.value), (Some(false), "TlsMismatch", None));
    assert!(told.ready.message.contains("check spec.tls") && silent == "Unreachable", "{}", told.ready.message);
}

#[test]
fn the_primary_names_its_cluster_if_the_name_is_one() {
    let mut cluster = Cluster::primary_and_replicas(1);
    let facts = &mut cluster.server("p").observation.facts;
    (facts.cluster_name, facts.domain) = (Some("shop".to_owned()), Some("shop.example".to_owned()));
    (facts.server_alias, facts.zone) = (Some("blue".to_owned()), Some("a".to_owned()));
    let view = shown(&cluster.look(), &policy());
    assert_eq!((view.name.as_deref(), view.domain.as_deref()), (Some("shop"), Some("shop.example")));
    assert_eq!((view.servers[0].alias.as_deref(), view.servers[0].zone.as_deref()), (Some("blue"), Some("a")));
    let facts = &mut cluster.server("p").observation.facts;
    (facts.cluster_name, facts.domain) = (Some("$(id)".to_owned()), Some("<b>".to_owned()));
    let view = shown(&cluster.look(), &policy());
    assert_eq!((view.name, view.domain), (None, None));
}

#[test]
fn a_recovery_that_nobody_has_finished_is_under_way() {
    let (snapshot, policy) = (Cluster::primary_and_replicas(1).look(), policy());
    let desired = Desired { policy: policy.clone(), primary: None, epoch: Epoch(7), semi_sync: None };
    let history = History { unfinished: Some("shop-7".to_owned()), ..History::default() };
    let facts = Facts {
        desired: &desired,
        history: &history,
        epoch: Epoch(7),
        request: None,
        recovering: None,
        relocations: &[],
    };
    let readiness = readiness::assess(&snapshot, None, &policy, None);
    let view = view(&snapshot, &facts, &Topology::of(&snapshot), &[], readiness);
    assert_eq!(view.recovering, Some(Epoch(7)), "clients are not routed by who knows half of it");
}

#[test]
fn clients_cannot_write_while_nobody_is_promoted_though_the_old_primary_lives() {
    let (snapshot, policy) = (Cluster::primary_and_replicas(1).look(), policy());
    let desired = Desired { policy: policy.clone(), primary: None, epoch: Epoch(7), semi_sync: None };
    let mut record = crate::testing::record::recovery(7, "baton-0", &addr("p"));
    let history = History::default();
    let writable = |record: &Recovery| {
        let epoch = Epoch(7);
        let recovering = Some(record);
        let facts = Facts { desired: &desired, history: &history, epoch, request: None, recovering, relocations: &[] };
        let readiness = readiness::assess(&snapshot, None, &policy, None);
        view(&snapshot, &facts, &Topology::of(&snapshot), &[], readiness).writable
    };
    record.phase = crate::core::recovery::Phase::Choosing;
    assert_eq!(writable(&record).reason, "FailingOver");
    record.message = "blocked: split-brain suspicion".to_owned();
    assert_eq!((writable(&record).value, writable(&record).reason), (Some(false), "Blocked"));
    (record.phase, record.new_primary) = (crate::core::recovery::Phase::Writable, Some(addr("r1")));
    assert_eq!(writable(&record).message, "r1:3306 is read only");
}

#[test]
fn maintenance_is_a_condition() {
    let mut policy = policy();
    policy.maintenance.insert(addr("r1"));
    let paused = shown(&Cluster::primary_and_replicas(1).look(), &policy).paused;
    assert_eq!((paused.value, paused.reason), (Some(false), "Maintenance"));
    assert!(paused.message.ends_with("r1:3306"), "{}", paused.message);
}
