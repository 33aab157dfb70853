//! The status as people read it, and that it changes only when its meaning does.

use super::*;
use crate::core::{
    id::ServerAddr,
    policy::PromotionRule,
    readiness::Readiness,
    status::{AnalysisView, Role},
};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn addr(text: &str) -> ServerAddr {
    text.parse().unwrap()
}

fn server_view(text: &str, role: Role) -> ServerView {
    ServerView {
        addr: addr(text),
        role,
        source: (role == Role::Replica).then(|| addr("db-1:3306")),
        version: Some("9.7.4".to_owned()),
        promotion: PromotionRule::Neutral,
        alias: (role == Role::Replica).then(|| "blue".to_owned()),
        environment: (role == Role::Replica).then(|| "production".to_owned()),
        zone: Some("a".to_owned()),
        region: None,
        state: Reachability::Answering,
        writable: role == Role::Primary,
        maintenance: false,
        rebuilding: false,
        problems: Vec::new(),
    }
}

pub(crate) fn view() -> ClusterView {
    let yes = |reason, message: &str| Answer::new(Some(true), reason, message);
    ClusterView {
        name: None,
        domain: None,
        primary: Some(addr("db-1:3306")),
        epoch: Epoch(3),
        servers: vec![server_view("db-1:3306", Role::Primary), server_view("db-2:3306", Role::Replica)],
        quarantined: Vec::new(),
        unjudged: std::collections::BTreeSet::new(),
        analyses: vec![AnalysisView {
            code: "ReplicaLags".to_owned(),
            server: addr("db-2:3306"),
            message: "it lags".to_owned(),
        }],
        readiness: Readiness {
            ready: true,
            reason: "Ready",
            message: "db-2:3306 would be promoted".to_owned(),
            would_promote: Some(addr("db-2:3306")),
            candidates: Vec::new(),
        },
        writable: yes("Writable", "db-1:3306 accepts writes"),
        replicating: yes("Replicating", ""),
        durable: Answer::new(Some(false), "Asynchronous", "a write is acknowledged before a replica has it"),
        ready: yes("Ready", ""),
        paused: Answer::new(Some(false), "Active", ""),
        recovering: None,
    }
}

pub(crate) fn shown() -> Shown {
    Shown {
        generation: Some(2),
        cluster_name: "shop".to_owned(),
        domain: None,
        view: Some(view()),
        instructions: BTreeMap::new(),
        exports: BTreeMap::new(),
        last_failover: None,
        problem: None,
        routing: None,
    }
}

fn condition<'a>(status: &'a MysqlClusterStatus, type_: &str) -> (&'a str, &'a str) {
    let found = status.conditions.iter().find(|condition| condition.type_ == type_).unwrap();
    (&found.status, &found.reason)
}

#[test]
fn everything_known_is_shown() {
    insta::assert_yaml_snapshot!(render(&shown(), &MysqlClusterStatus::default(), at(0)));
}

#[test]
fn names_told_by_the_primary_are_shown_unless_the_owner_gives_them() {
    let told = ClusterView { name: Some("told".to_owned()), domain: Some("told.example".to_owned()), ..view() };
    let told = Shown { view: Some(told), ..shown() };
    let status = render(&told, &MysqlClusterStatus::default(), at(0));
    assert_eq!((status.cluster_name.as_deref(), status.domain.as_deref()), (Some("told"), Some("told.example")));
    let given = Shown { domain: Some("given.example".to_owned()), ..told.clone() };
    assert_eq!(render(&given, &status, at(1)).domain.as_deref(), Some("given.example"));
    let blind = Shown { view: None, ..told };
    assert_eq!(render(&blind, &status, at(1)).domain.as_deref(), Some("told.example"), "what was known stays");
}

#[test]
fn nothing_changes_while_nothing_changes() {
    let first = render(&shown(), &MysqlClusterStatus::default(), at(1));
    let later = render(&shown(), &first, at(1000));
    assert_eq!(first, later);
}

#[test]
fn the_epoch_never_falls() {
    let mut previous = render(&shown(), &MysqlClusterStatus::default(), at(1));
    previous.epoch = Some(9);
    assert_eq!(render(&shown(), &previous, at(2)).epoch, Some(9));
}

#[test]
fn an_analysis_keeps_its_beginning_while_it_lasts() {
    let first = render(&shown(), &MysqlClusterStatus::default(), at(1));
    let mut reworded = shown();
    reworded.view.as_mut().unwrap().analyses[0].message = "it lags more".to_owned();
    let second = render(&reworded, &first, at(2));
    assert_eq!(second.analyses[0].since.0, at(1));
    let mut gone = shown();
    gone.view.as_mut().unwrap().analyses.clear();
    let third = render(&gone, &second, at(3));
    assert_eq!(render(&shown(), &third, at(4)).analyses[0].since.0, at(4));
}

#[test]
fn a_problem_stalls_and_keeps_what_is_known() {
    let first = render(&shown(), &MysqlClusterStatus::default(), at(1));
    let problem = Problem { category: "SecretMissing".to_owned(), message: "secret s is missing".to_owned() };
    let stalled = render(&Shown { problem: Some(problem.clone()), ..shown() }, &first, at(2));
    assert_eq!(condition(&stalled, "Stalled"), ("True", "SecretMissing"));
    assert_eq!(condition(&stalled, "Ready"), ("False", "SecretMissing"));
    assert_eq!(condition(&stalled, "Writable"), ("True", "Writable"));
    let never_served = Shown { view: None, problem: Some(problem), ..shown() };
    let refused = render(&never_served, &MysqlClusterStatus::default(), at(3));
    assert_eq!(condition(&refused, "FailoverReady"), ("False", "SecretMissing"));
    assert_eq!(condition(&refused, "Writable"), ("Unknown", "NotServed"));
    assert_eq!(condition(&refused, "Reconciling"), ("False", "NotServed"));
}

#[test]
fn a_recovery_is_reconciling() {
    let mut shown = shown();
    shown.view.as_mut().unwrap().recovering = Some(Epoch(4));
    let status = render(&shown, &MysqlClusterStatus::default(), at(1));
    assert_eq!(condition(&status, "Reconciling"), ("True", "Recovering"));
}

#[test]
fn a_record_that_the_reader_does_not_know_yet_is_kept() {
    let summary = |record: &str, second| FailoverSummary {
        record: record.to_owned(),
        time: Time(at(second)),
        phase: "Pending".to_owned(),
        from: None,
        to: None,
    };
    let previous = MysqlClusterStatus { last_failover: Some(summary("shop-4", 10)), ..MysqlClusterStatus::default() };
    let stale = Shown { last_failover: Some(summary("shop-3", 5)), ..shown() };
    assert_eq!(render(&stale, &previous, at(11)).last_failover.unwrap().record, "shop-4");
    let newer = Shown { last_failover: Some(summary("shop-5", 20)), ..shown() };
    assert_eq!(render(&newer, &previous, at(21)).last_failover.unwrap().record, "shop-5");
}
