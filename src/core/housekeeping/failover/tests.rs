//! What is due after a failover.

use crate::{
    core::{
        gtid::GtidSet,
        housekeeping::due,
        id::Epoch,
        observation::{FailureKind, Receiver},
        policy::{OldPrimary, Policy},
        recovery::{Cause, Outcome, Phase, Recovery, StepRecord, machine::Machine},
        step::Action,
        time::Mono,
    },
    testing::snapshot::{Cluster, addr, policy, transactions, uuid},
};

#[test]
fn a_primary_of_an_earlier_reign_is_fenced_and_rejoins_and_a_stranger_is_left_alone() {
    // x reigned before p, and p before r1; nobody knows s.
    let mut cluster = Cluster::default();
    ["x", "p", "r1", "r2", "s"].into_iter().for_each(|name| {
        cluster.add(name);
    });
    cluster.follow("r2", "r1");
    let (x, p) = (cluster.number("x"), cluster.number("p"));
    let executed = &mut cluster.server("r1").observation.executed;
    *executed = executed.union(&transactions(x, 100)).union(&transactions(p, 100));
    let cause = Cause { analysis: "DeadPrimary".to_owned(), server: addr("p"), reason: String::new() };
    let mut machine = Machine::new(&cluster.look(), &policy(), cause, Epoch(7), "a", Mono(0));
    let record = machine.record_mut();
    (record.phase, record.new_primary) = (Phase::Succeeded, Some(addr("r1")));
    cluster.snapshot.primary = Some(addr("r1"));
    let duties = due(&cluster.look(), &policy(), Some(machine.record()));
    let fenced = duties.iter().filter(|duty| duty.action == Action::Fence).map(|duty| duty.server.clone());
    assert_eq!(fenced.collect::<Vec<_>>(), [addr("p"), addr("x")]);
    cluster.server("x").observation.settings.read_only = true;
    let duties = due(&cluster.look(), &policy(), Some(machine.record()));
    let moved = duties.iter().filter(|duty| matches!(duty.action, Action::Repoint { .. }));
    assert_eq!(moved.map(|duty| duty.server.clone()).collect::<Vec<_>>(), [addr("x")]);
    let mut leave = policy();
    leave.failover.old_primary = OldPrimary::Leave;
    assert!(!due(&cluster.snapshot, &leave, Some(machine.record())).iter().any(|duty| duty.action == Action::Fence));
}

#[test]
fn an_old_primary_that_lost_its_data_or_is_being_rebuilt_is_fenced_and_nothing_more() {
    let mut cluster = Cluster::default();
    ["p", "r1", "r2"].into_iter().for_each(|name| {
        cluster.add(name);
    });
    cluster.follow("r2", "r1");
    let shared = cluster.server("r1").observation.executed.clone();
    let cause = Cause { analysis: "DeadPrimary".to_owned(), server: addr("p"), reason: String::new() };
    let mut machine = Machine::new(&cluster.look(), &policy(), cause, Epoch(7), "a", Mono(0));
    let record = machine.record_mut();
    (record.phase, record.new_primary) = (Phase::Succeeded, Some(addr("r1")));
    cluster.snapshot.primary = Some(addr("r1"));
    let mut wishes = policy();
    let mut due = |cluster: &mut Cluster, rebuilding: bool| {
        wishes.rebuilding = rebuilding.then(|| addr("p")).into_iter().collect();
        cluster.look_at("p");
        cluster.advance(10);
        cluster.look_at("r1");
        let due = due(&cluster.snapshot, &wishes, Some(machine.record()));
        due.into_iter().filter(|duty| duty.server == addr("p")).map(|duty| duty.action.name()).collect::<Vec<_>>()
    };
    for rebuilding in [false, true] {
        assert_eq!(due(&mut cluster, rebuilding), ["Fence"]);
    }
    cluster.server("p").observation.settings.read_only = true;
    cluster.server("p").observation.executed = shared;
    assert_eq!(due(&mut cluster, false), ["Repoint"]);
    assert_eq!(due(&mut cluster, true), Vec::<&str>::new());
    cluster.server("p").observation.executed = GtidSet::default();
    assert_eq!(due(&mut cluster, false), Vec::<&str>::new(), "its data is gone");
}

/// `x` reigned before `p`, and `p` before `r1`; `r2` was away and is below `x` still.
#[test]
fn a_replica_below_a_primary_of_an_earlier_reign_is_moved_unless_that_one_replicates() {
    let mut cluster = Cluster::default();
    ["x", "p", "r1", "r2"].into_iter().for_each(|name| {
        cluster.add(name);
    });
    cluster.follow("r2", "x").received = transactions(4, 0);
    cluster.server("r2").observation.executed = transactions(1, 50);
    let record = {
        let cause = Cause { analysis: "DeadPrimary".to_owned(), server: addr("p"), reason: String::new() };
        let mut machine = Machine::new(&cluster.look(), &policy(), cause, Epoch(7), "a", Mono(0));
        let record = machine.record_mut();
        (record.phase, record.new_primary) = (Phase::Succeeded, Some(addr("r1")));
        record.clone()
    };
    let moved = |cluster: &mut Cluster| {
        cluster.snapshot.primary = Some(addr("r1"));
        cluster.look_at("r2");
        cluster.advance(10);
        cluster.look_at("r1");
        let due = due(&cluster.snapshot, &policy(), Some(&record));
        due.into_iter().any(|duty| duty.server == addr("r2") && duty.action == Action::StopReceiver)
    };
    assert!(!moved(&mut cluster), "nothing says that x ever was a primary");
    let x = cluster.number("x");
    let executed = &mut cluster.server("r1").observation.executed;
    *executed = executed.union(&transactions(x, 100));
    assert!(moved(&mut cluster));
    cluster.follow("x", "r1");
    cluster.look_at("x");
    assert!(!moved(&mut cluster), "it gets everything by way of x");
}

/// Looks come in a rhythm: the one at the primary may always have begun a moment before the other one ended.
#[test]
fn an_old_primary_rejoins_whichever_look_came_first() {
    let rejoins = |own: u64| {
        let mut cluster = Cluster::default();
        ["p", "r1"].into_iter().for_each(|name| {
            cluster.add(name);
        });
        cluster.follow("r1", "p");
        let cause = Cause { analysis: "DeadPrimary".to_owned(), server: addr("p"), reason: String::new() };
        let mut machine = Machine::new(&cluster.look(), &policy(), cause, Epoch(7), "a", Mono(0));
        let record = machine.record_mut();
        (record.phase, record.new_primary) = (Phase::Succeeded, Some(addr("r1")));
        let before = cluster.server("p").observation.executed.clone();
        let (old, new) = (cluster.server("p").observation.settings.clone(), "r1");
        cluster.server("p").observation.settings = cluster.server(new).observation.settings.clone();
        cluster.server("p").observation.executed = before.union(&transactions(1, own));
        let promoted = &mut cluster.server(new).observation;
        promoted.channels.clear();
        (promoted.settings, promoted.executed) = (old, before.union(&transactions(2, 9)));
        cluster.snapshot.primary = Some(addr(new));
        cluster.look_at(new);
        cluster.advance(10);
        cluster.look_at("p");
        let due = due(&cluster.snapshot, &policy(), Some(machine.record()));
        due.into_iter().any(|duty| duty.server == addr("p") && matches!(duty.action, Action::Repoint { .. }))
    };
    assert!(rejoins(0));
    assert!(!rejoins(1_000_000), "the primary may have got them since");
}

#[test]
fn a_new_primary_that_died_before_it_forgot_its_source_forgets_it_once() {
    let mut cluster = Cluster::default();
    ["p", "r1", "r2"].into_iter().for_each(|name| {
        cluster.add(name);
    });
    cluster.follow("r1", "p").receiver = Receiver::Connecting;
    cluster.follow("r2", "r1");
    let cause = Cause { analysis: "DeadPrimary".to_owned(), server: addr("p"), reason: String::new() };
    let mut machine = Machine::new(&cluster.look(), &policy(), cause, Epoch(7), "a", Mono(0));
    let record = machine.record_mut();
    (record.phase, record.new_primary) = (Phase::Succeeded, Some(addr("r1")));
    cluster.fail("p", FailureKind::Refused);
    let forgets = |cluster: &mut Cluster, record: &Recovery| {
        cluster.snapshot.primary = Some(addr("r1"));
        cluster.look();
        let due = due(&cluster.snapshot, &policy(), Some(record));
        due.into_iter().any(|duty| duty.server == addr("r1") && duty.action == Action::ForgetSource)
    };
    assert!(forgets(&mut cluster, machine.record()), "it is closed, as it boots");
    let record = machine.record_mut();
    let step = |outcome| StepRecord {
        step: Action::ForgetSource.name().to_owned(),
        server: addr("r1"),
        started_ms: 0,
        took_ms: 0,
        outcome,
    };
    record.steps.push(step(Outcome::Failed("no answer".to_owned())));
    assert!(forgets(&mut cluster, record));
    cluster.server("r1").observation.channels[0].receiver = Receiver::Running;
    assert!(forgets(&mut cluster, record), "the old primary is back, and nobody can write");
    let closed = cluster.server("r1").observation.settings.clone();
    cluster.server("r1").observation.settings = cluster.server("p").observation.settings.clone();
    assert!(!forgets(&mut cluster, record), "somebody may want it so");
    cluster.server("r1").observation.settings = closed;
    record.steps.push(step(Outcome::Done));
    assert!(!forgets(&mut cluster, record), "somebody gave it that source again");
}

#[test]
fn an_old_primary_without_any_transactions_rejoins_only_if_it_had_none_before() {
    let mut cluster = Cluster::default();
    ["p", "r1"].into_iter().for_each(|name| {
        cluster.add(name);
    });
    cluster.follow("r1", "p");
    cluster.server("p").observation.executed = GtidSet::default();
    let cause = Cause { analysis: "DeadPrimary".to_owned(), server: addr("p"), reason: String::new() };
    let mut machine = Machine::new(&cluster.look(), &policy(), cause, Epoch(7), "a", Mono(0));
    let record = machine.record_mut();
    (record.phase, record.new_primary) = (Phase::Succeeded, Some(addr("r1")));
    let (old, new) = (cluster.server("p").observation.settings.clone(), "r1");
    cluster.server("p").observation.settings = cluster.server(new).observation.settings.clone();
    let promoted = &mut cluster.server(new).observation;
    promoted.channels.clear();
    (promoted.settings, promoted.executed) = (old, transactions(2, 1));
    cluster.snapshot.primary = Some(addr(new));
    cluster.look_at("p");
    cluster.advance(10);
    cluster.look_at(new);
    let with = |policy: &Policy, record: &Recovery| {
        let due = due(&cluster.snapshot, policy, Some(record));
        due.into_iter().any(|duty| duty.server == addr("p") && matches!(duty.action, Action::Repoint { .. }))
    };
    let rejoins = |record: &Recovery| with(&policy(), record);
    let mut overwrites = policy();
    overwrites.failover.rebuild = true;
    assert!(!with(&overwrites, machine.record()), "a copy to it may have been broken off");
    assert!(rejoins(machine.record()), "nobody had written to it");
    machine.record_mut().old_primary_uuid = Some("another".to_owned());
    assert!(!rejoins(machine.record()), "it may have a new disk");
    machine.record_mut().old_primary_uuid = Some(uuid(1));
    assert!(rejoins(machine.record()));
    machine.record_mut().old_primary_set = Some(transactions(1, 5));
    assert!(!rejoins(machine.record()), "it has lost what it had");
    machine.record_mut().old_primary_set = None;
    assert!(!rejoins(machine.record()), "it may have lost what it had");
}

/// `p` was lost, `r1` was chosen and then left for `r2`; `r3` had been moved under `r1` by then.
#[test]
fn a_replica_below_a_server_that_was_left_for_another_is_moved_if_it_is_pending() {
    let mut cluster = Cluster::default();
    ["p", "r1", "r2", "r3"].into_iter().for_each(|name| {
        cluster.add(name);
    });
    cluster.follow("r1", "r2");
    cluster.follow("r3", "r1").received = transactions(3, 100);
    let cause = Cause { analysis: "DeadPrimary".to_owned(), server: addr("p"), reason: String::new() };
    let mut machine = Machine::new(&cluster.look(), &policy(), cause, Epoch(7), "a", Mono(0));
    let record = machine.record_mut();
    (record.phase, record.new_primary) = (Phase::Succeeded, Some(addr("r2")));
    record.steps.push(StepRecord {
        step: Recovery::LEFT.to_owned(),
        server: addr("r1"),
        started_ms: 0,
        took_ms: 0,
        outcome: Outcome::Done,
    });
    cluster.snapshot.primary = Some(addr("r2"));
    cluster.look_at("r3");
    cluster.advance(10);
    cluster.look_at("r2");
    let moved = |record: &Recovery| {
        let due = due(&cluster.snapshot, &policy(), Some(record));
        due.into_iter().any(|duty| duty.server == addr("r3") && duty.action == Action::StopReceiver)
    };
    assert!(!moved(machine.record()), "it may always have been below r1");
    machine.record_mut().pending_replicas.push(addr("r3"));
    assert!(moved(machine.record()));
}

/// `r2` was away when `r1` replaced `p`, and follows `p` still.
#[test]
fn a_replica_that_cannot_follow_is_detached_when_it_is_back_and_one_below_a_replica_is_let_be() {
    let mut cluster = Cluster::default();
    ["p", "r1", "r2"].into_iter().for_each(|name| {
        cluster.add(name);
    });
    cluster.follow("r2", "p");
    let cause = Cause { analysis: "DeadPrimary".to_owned(), server: addr("p"), reason: String::new() };
    let mut machine = Machine::new(&cluster.look(), &policy(), cause, Epoch(7), "a", Mono(0));
    let record = machine.record_mut();
    (record.phase, record.new_primary) = (Phase::Succeeded, Some(addr("r1")));
    let due = |cluster: &mut Cluster, record: &Recovery| {
        cluster.snapshot.primary = Some(addr("r1"));
        cluster.look();
        cluster.advance(10);
        cluster.look_at("r1");
        let due = due(&cluster.snapshot, &policy(), Some(record));
        due.into_iter().find(|duty| duty.server == addr("r2")).map(|duty| duty.action.name())
    };
    cluster.server("r1").observation.purged = cluster.server("r1").observation.executed.clone();
    cluster.server("r2").observation.executed = GtidSet::default();
    assert_eq!(due(&mut cluster, record), Some("StopReceiver"), "it would acknowledge for the old primary");
    cluster.server("r2").observation.channels[0].receiver = Receiver::Stopped;
    assert_eq!(due(&mut cluster, record), None);
    cluster.server("r2").observation.channels[0].receiver = Receiver::Running;
    cluster.server("p").observation.settings.read_only = true;
    cluster.follow("p", "r1");
    assert_eq!(due(&mut cluster, record), None, "it gets everything by way of p");
    record.pending_replicas.push(addr("r2"));
    assert_eq!(due(&mut cluster, record), None, "it may catch up there");
    cluster.server("r2").observation.executed = cluster.server("r1").observation.executed.clone();
    cluster.server("r2").observation.channels[0].received = GtidSet::default();
    assert_eq!(due(&mut cluster, record), Some("StopReceiver"), "it was waited for");
}

/// `r2` was chosen and forgot its source, died before anybody wrote there, and `r1` was chosen.
#[test]
fn who_was_chosen_and_left_out_follows_when_it_has_nothing_of_its_own() {
    let mut cluster = Cluster::default();
    ["p", "r1", "r2"].into_iter().for_each(|name| {
        cluster.add(name);
    });
    let cause = Cause { analysis: "DeadPrimary".to_owned(), server: addr("p"), reason: String::new() };
    let mut machine = Machine::new(&cluster.look(), &policy(), cause, Epoch(7), "a", Mono(0));
    let record = machine.record_mut();
    (record.phase, record.new_primary) = (Phase::Succeeded, Some(addr("r1")));
    let shared = cluster.server("r1").observation.executed.clone();
    cluster.server("r2").observation.settings.read_only = true;
    let follows = |cluster: &mut Cluster, record: &Recovery| {
        cluster.snapshot.primary = Some(addr("r1"));
        cluster.look();
        let due = due(&cluster.snapshot, &policy(), Some(record));
        due.into_iter().any(|duty| duty.server == addr("r2") && matches!(duty.action, Action::Repoint { .. }))
    };
    cluster.server("r2").observation.executed = shared.clone();
    assert!(!follows(&mut cluster, record), "it may never have been a replica");
    record.pending_replicas.push(addr("r2"));
    assert!(!follows(&mut cluster, record), "nobody named it");
    cluster.snapshot.servers.get_mut(&addr("r2")).unwrap().named = true;
    assert!(follows(&mut cluster, record));
    cluster.server("r2").observation.settings.read_only = false;
    assert!(!follows(&mut cluster, record), "somebody opened it");
    cluster.server("r2").observation.settings.read_only = true;
    cluster.server("r2").observation.executed = shared.union(&transactions(3, 9));
    assert!(!follows(&mut cluster, record), "it has something of its own");
}
