//! What a failover leaves to do: the old primary is kept fenced and brought back, late replicas are
//! repointed.

use super::Duty;
use crate::core::{
    candidate,
    durability::source_side_on,
    gtid::GtidSet,
    id::ServerAddr,
    observation::{Channel, Observation, Receiver},
    policy::{OldPrimary, Policy},
    recovery::{Outcome, Recovery, StepRecord},
    rules::{Rule, holds},
    snapshot::{Snapshot, extra, in_order},
    step::Action,
};

/// Longest wait for an applier in one action, in milliseconds.
const DRAIN_MS: u64 = 500;

/// What is due on a server because of the newest failover.
pub(super) fn after_failover(
    snapshot: &Snapshot,
    policy: &Policy,
    record: &Recovery,
    (addr, seen): (&ServerAddr, &Observation),
    (primary_addr, primary): (&ServerAddr, &Observation),
) -> Option<Duty> {
    let follows = |channel: &Channel| snapshot.source_of(channel) == Some(primary_addr);
    let duty = |action, reason| Some(Duty { server: addr.clone(), action, reason });
    // Nobody acknowledges before it is written down.
    let acks = || policy.semi_sync.map(|_| written(snapshot, primary_addr, addr));
    let leave = policy.failover.old_primary == OldPrimary::Leave;
    if holds(Rule::FenceOld) && !leave && seen.settings.writable() && was_primary(snapshot, record, addr, seen, primary)
    {
        return duty(Action::Fence, "it was the primary before and accepts writes");
    }
    if *addr == record.old_primary || rejoins(snapshot, seen, (primary_addr, primary)) {
        let wish = policy.failover.old_primary;
        return match () {
            () if wish == OldPrimary::Leave => None,
            () if wish == OldPrimary::Fence => None,
            // It has lost its data, or a copy to it was broken off: it is not behind.
            () if seen.executed.is_empty() && !primary.executed.is_empty() && !was_empty(policy, record, seen) => None,
            () if !seen.channels.iter().any(follows)
                && extra(seen, primary).is_some_and(|extra| extra.is_empty() || !holds(Rule::Quarantine)) =>
            {
                duty(
                    Action::Repoint { source: primary_addr.clone(), semi_sync: acks() },
                    "the old primary has nothing of its own",
                )
            }
            () if seen.channels.iter().any(follows) && source_side_on(seen) => {
                duty(Action::SemiSyncSource { on: false, wait_count: 0 }, "a replica must not wait for ackers")
            }
            () if seen.channels.iter().any(follows) && seen.settings.offline_mode => {
                duty(Action::SetReadOnly, "the old primary is a replica now")
            }
            () => None,
        };
    }
    let behind = seen.channels.iter().find(|channel| {
        left_behind(snapshot, record, addr, channel) || below_former(snapshot, channel, (primary_addr, primary))
    })?;
    let have = primary.executed.clone();
    if candidate::cannot_follow(seen, primary, &have).is_some() || !in_order(seen, primary) {
        return None;
    }
    if behind.receiver != Receiver::Stopped {
        return duty(Action::StopReceiver, "it was left behind by the failover");
    }
    if behind.drained(&seen.executed) {
        return duty(
            Action::Repoint { source: primary_addr.clone(), semi_sync: acks() },
            "it was left behind by the failover",
        );
    }
    if behind.applier_running {
        return duty(
            Action::WaitApplied { set: behind.received.clone(), wait_ms: DRAIN_MS },
            "it applies what it received",
        );
    }
    behind.applier_error.is_none().then_some(())?;
    duty(Action::StartApplier, "it has to apply what it received")
}

/// The source that a new primary still has, because it died before it could forget it: it would fetch what only the
/// old primary has, and look like its replica. Once that was done a channel is somebody's wish.
pub(super) fn leftover(
    snapshot: &Snapshot,
    record: &Recovery,
    (addr, seen): (&ServerAddr, &Observation),
) -> Option<Duty> {
    let promoted = record.phase.promoted() && record.new_primary.as_ref() == Some(addr) && !record.cause.reopens();
    let forget = Action::ForgetSource.name();
    let forgot = |step: &StepRecord| step.server == *addr && step.step == forget && step.outcome == Outcome::Done;
    let old = snapshot.servers.get(&record.old_primary).and_then(|state| state.answering());
    let idle = !seen.settings.writable() && old.is_none_or(|old| !old.settings.writable());
    let left = |channel: &Channel| {
        let runs = channel.receiver == Receiver::Running && !idle;
        !runs && snapshot.source_of(channel) == Some(&record.old_primary)
    };
    let due = promoted && !seen.channels.is_empty() && seen.channels.iter().all(left);
    (due && !record.steps.iter().any(forgot)).then(|| Duty {
        server: addr.clone(),
        action: Action::ForgetSource,
        reason: "it is the primary, and died before it forgot its source",
    })
}

/// Whether a server is written down as one that may acknowledge for the primary.
fn written(snapshot: &Snapshot, primary: &ServerAddr, addr: &ServerAddr) -> bool {
    let known = snapshot.ledger.newest().filter(|known| known.source == *primary);
    snapshot.ledger.certain() && known.is_some_and(|known| known.ackers.contains(addr))
}

/// Whether a channel still follows the old primary, or a server that the recovery had chosen and left for
/// another after it had moved this replica there.
fn left_behind(snapshot: &Snapshot, record: &Recovery, addr: &ServerAddr, channel: &Channel) -> bool {
    let source = snapshot.source_of(channel);
    let chosen_before = source.is_some_and(|source| was_left(record, source));
    source == Some(&record.old_primary) || record.pending_replicas.contains(addr) && chosen_before
}

/// Whether a channel follows a server that was the primary in an earlier reign, as its own transactions on
/// the primary tell, and that does not replicate from the primary: nothing would reach the replica there.
fn below_former(snapshot: &Snapshot, channel: &Channel, (addr, primary): (&ServerAddr, &Observation)) -> bool {
    let Some(source) = snapshot.source_of(channel).filter(|source| *source != addr) else { return false };
    let uuid = snapshot.last(source).map(|seen| seen.identity.uuid.as_str()).or(channel.source_uuid.as_deref());
    uuid.is_some_and(|uuid| !primary.executed.of_source(uuid).is_empty()) && !snapshot.leads_to(source, addr)
}

/// Whether a recovery had chosen a server before it chose another.
fn was_left(record: &Recovery, addr: &ServerAddr) -> bool {
    record.left().any(|left| left == addr)
}

/// Whether a server was the primary in an earlier reign, or was to become it in this one: the old
/// primary; a server that was let in and then left for another; one that follows nobody here and whose
/// own transactions the primary has.
fn was_primary(
    snapshot: &Snapshot,
    record: &Recovery,
    addr: &ServerAddr,
    seen: &Observation,
    primary: &Observation,
) -> bool {
    let alone = || seen.channels.iter().all(|channel| snapshot.source_of(channel).is_none());
    *addr == record.old_primary || was_left(record, addr) || alone() && inherited(seen, primary)
}

/// Whether a primary had nothing when it was replaced, as one of a new cluster. Where servers are overwritten an empty
/// one may always be what a copy left, and another server at its address may lack what no transaction brought.
fn was_empty(policy: &Policy, record: &Recovery, seen: &Observation) -> bool {
    let had_nothing = record.old_primary_set.as_ref().is_some_and(GtidSet::is_empty);
    record.old_primary_uuid.as_ref() == Some(&seen.identity.uuid) && had_nothing && !policy.failover.rebuild
}

/// Whether a server was the primary in an earlier reign, was away during the failover after that, and follows
/// nobody here but the primary, if anybody.
fn rejoins(snapshot: &Snapshot, seen: &Observation, (addr, primary): (&ServerAddr, &Observation)) -> bool {
    let mut sources = seen.channels.iter().filter_map(|channel| snapshot.source_of(channel));
    sources.all(|source| source == addr) && inherited(seen, primary)
}

/// Whether the primary has transactions that began on the server.
fn inherited(seen: &Observation, primary: &Observation) -> bool {
    let began_there = |set: &GtidSet| !set.of_source(&seen.identity.uuid).is_empty();
    began_there(&primary.executed) || began_there(&primary.written)
}

#[cfg(test)]
mod tests {
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
        assert!(
            !due(&cluster.snapshot, &leave, Some(machine.record())).iter().any(|duty| duty.action == Action::Fence)
        );
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
}
