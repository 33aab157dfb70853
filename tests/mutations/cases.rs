//! Cases for rules whose absence breaks no invariant by itself: each tells whether its rule holds.

use std::collections::{BTreeMap, BTreeSet};

use baton::{
    core::{
        analysis::analyse,
        candidate::{self, Ballot, Chosen, NoCandidate},
        claim::{Right, overdue},
        election::Timing,
        gtid::GtidSet,
        observation::{FailureKind, Receiver},
        policy::{Mode, PromotionRule},
        readiness::assess,
        rebuild,
        recovery::{Hold, Phase},
        reopen::{self, Reopening},
        status::{Acknowledged, Quarantined},
        throttle::{Failing, Past, Sign, blocked},
        time::Mono,
        version::Version,
    },
    testing::snapshot::{Cluster, addr, policy, transactions, uuid},
};

/// Each of two replicas has a transaction of the primary that the other one lacks: nobody is promoted.
pub fn two_sets_that_each_have_something() -> bool {
    let mut cluster = Cluster::primary_and_replicas(2);
    for (name, numbers) in [("r1", "1-100:102"), ("r2", "1-101")] {
        let seen = &mut cluster.server(name).observation;
        seen.executed = format!("{}:{numbers}", uuid(1)).parse().unwrap();
        seen.channels[0].received = seen.executed.clone();
    }
    cluster.server("p").observation.executed = format!("{}:1-100", uuid(1)).parse().unwrap();
    cluster.look();
    cluster.fail("p", FailureKind::Refused);
    ["r1", "r2"].into_iter().for_each(|name| cluster.lose_source(name));
    !assess(&cluster.look(), Some(&addr("p")), &policy(), None).ready
}

/// A primary that refused one look, and whose replicas lost it.
pub fn one_failed_look() -> bool {
    let mut cluster = Cluster::primary_and_replicas(2);
    cluster.look();
    cluster.advance(100);
    cluster.fail("p", FailureKind::Refused);
    ["r1", "r2"].into_iter().for_each(|name| cluster.lose_source(name));
    cluster.look();
    for name in ["r1", "r2"] {
        cluster.advance(10);
        cluster.look_at(name);
    }
    analyse(&cluster.snapshot, &policy()).iter().all(|analysis| !analysis.calls_for_failover())
}

/// The outcome of a ballot over replicas with what each executed and received, `r1` with the rule Must.
fn outcome(replicas: &[(&str, &str, &str)]) -> Result<Chosen, NoCandidate> {
    let mut cluster = Cluster::primary_and_replicas(replicas.len());
    let set = |numbers: &str| -> GtidSet {
        if numbers.is_empty() { GtidSet::default() } else { format!("{}:{numbers}", uuid(1)).parse().unwrap() }
    };
    let mut seen = BTreeMap::new();
    for (name, executed, received) in replicas {
        let observation = &mut cluster.server(name).observation;
        (observation.executed, observation.channels[0].received) = (set(executed), set(received));
        observation.channels[0].receiver = Receiver::Stopped;
        seen.insert(addr(name), observation.clone());
    }
    let mut policy = policy();
    policy.servers.entry(addr("r1")).or_default().promotion = Some(PromotionRule::Must);
    let old = cluster.server("p").observation.clone();
    let decision = candidate::decide(&Ballot {
        old_primary: &addr("p"),
        old_uuid: Some(&uuid(1)),
        old: Some(&old),
        old_set: Some(&old.executed),
        replicas: &seen,
        absent: &BTreeMap::new(),
        rejected: &BTreeMap::new(),
        wanted: None,
        chosen_before: &BTreeSet::new(),
        policy: &policy,
        semi_sync: false,
        lossless: false,
    });
    decision.outcome
}

/// One replica executed more, the other received more.
pub fn what_was_only_received() -> bool {
    outcome(&[("r1", "1-100", "1-100"), ("r2", "1-90", "1-101")]).is_ok_and(|chosen| chosen.set.count() == 101)
}

/// The preferred replica lacks what another one has.
pub fn a_preferred_server_that_is_behind() -> bool {
    outcome(&[("r1", "1-100", "1-100"), ("r2", "1-101", "1-101")]).is_ok_and(|chosen| chosen.set.count() == 101)
}

/// The only replica that answers has nothing, and the primary had.
pub fn a_server_without_transactions() -> bool {
    outcome(&[("r1", "", "")]).is_err()
}

/// A Job whose renewal was answered late acts no longer than others wait.
pub fn a_renewal_that_took_long() -> bool {
    let (started, answered) = (Mono(1000), Mono(1900));
    let until = Right::claimed(Timing::FAST, started, answered).until();
    until.is_none_or(|until| until < started.plus_ms(Timing::FAST.lease_ms()))
}

/// A Job that renewed its claim a moment ago keeps what it has.
pub fn a_claim_that_is_alive() -> bool {
    let hold = Hold { version: "1".to_owned(), patience_ms: 3000, reason: String::new() };
    !overdue(&hold, Mono(1000), Mono(3999)) && overdue(&hold, Mono(1000), Mono(4000))
}

/// A new primary whose process is gone, the third within the block period.
pub fn one_failover_after_the_other() -> bool {
    let past = |name: &str, age_ms| Past {
        name: name.to_owned(),
        phase: Phase::Succeeded,
        age_ms,
        acknowledged: false,
        made: Some(addr("r1")),
        old: None,
        reopened: false,
    };
    let history = [past("shop-1", 3000), past("shop-2", 2000), past("shop-3", 1000)];
    let gone =
        |history: &[Past]| blocked(history, None, 60_000, Some(Failing { server: &addr("r1"), sign: Sign::Gone }));
    assert_eq!(gone(&history[1..]), None, "two are not too many");
    gone(&history).is_some()
}

/// A primary that came back closed, while a replica has a transaction that it lacks.
pub fn a_closed_primary_that_lacks_something() -> bool {
    let found = |more: bool| {
        let (mut cluster, mut policy) = (Cluster::primary_and_replicas(2), policy());
        policy.failover.read_only = Mode::Automatic;
        cluster.look();
        cluster.fail("p", FailureKind::Refused);
        cluster.look();
        let primary = cluster.server("p");
        primary.failure = None;
        (primary.observation.settings.read_only, primary.observation.settings.super_read_only) = (true, true);
        if more {
            cluster.server("r1").observation.channels[0].received = transactions(1, 101);
        }
        for _ in 0..5 {
            cluster.advance(1000);
            cluster.look();
        }
        let snapshot = &cluster.snapshot;
        reopen::find(snapshot, &policy, &analyse(snapshot, &policy), &[])
    };
    assert!(matches!(found(false), Some(Reopening::Due(_))), "one that lacks nothing stays closed");
    matches!(found(true), Some(Reopening::Held(..)))
}

/// What only the old primary has is not saved yet.
pub fn a_rebuild_before_the_export() -> bool {
    let mut policy = policy();
    policy.failover.rebuild = true;
    let one = Quarantined {
        server: addr("x"),
        version: Version::mysql(9, 7, 4),
        record: Some("shop-7".to_owned()),
        extra: Some(transactions(4, 3)),
        acknowledged: Acknowledged::Impossible,
        reason: "because".to_owned(),
    };
    let (ackers, looks) = (BTreeSet::new(), BTreeMap::new());
    let wanted = |saved| {
        rebuild::wanted(&rebuild::Scene {
            policy: &policy,
            one: &one,
            replaced: None,
            saved,
            rebuilt: false,
            account: true,
            open: None,
            primary: None,
            ackers: &ackers,
            looks: &looks,
            verify: false,
        })
    };
    assert!(wanted(true).is_ok(), "nothing else speaks against it");
    wanted(false).is_err()
}
