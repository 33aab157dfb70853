//! What is left to do when nothing is wrong with the primary: the old primary is kept fenced and
//! brought back, late replicas are repointed, replication settings are kept.
//!
//! Level-triggered: one snapshot gives at most one action per server; the next look shows what it did.

use super::{
    candidate,
    durability::source_side_on,
    id::ServerAddr,
    observation::{Channel, Observation, Receiver},
    policy::{OldPrimary, Policy},
    recovery::Recovery,
    rules::{Rule, holds},
    snapshot::{Snapshot, extra, in_order},
    step::Action,
};

/// Longest wait for an applier in one action, in milliseconds.
const DRAIN_MS: u64 = 500;

/// Something due on a server, with the reason in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Duty {
    /// The server.
    pub server: ServerAddr,
    /// What.
    pub action: Action,
    /// Why.
    pub reason: &'static str,
}

/// Everything that is due now, at most one action per server.
#[must_use]
pub fn due(snapshot: &Snapshot, policy: &Policy, last: Option<&Recovery>) -> Vec<Duty> {
    let Some((primary_addr, primary)) = snapshot.primary.as_ref().and_then(|addr| {
        let seen = snapshot.servers.get(addr)?.answering()?;
        seen.settings.writable().then_some((addr, seen))
    }) else {
        return Vec::new();
    };
    let promoted = last.filter(|record| record.phase.promoted() && record.new_primary.as_ref() == Some(primary_addr));
    let others =
        snapshot.servers.iter().filter(|(addr, _)| *addr != primary_addr && !policy.maintenance.contains(*addr));
    let duty = |addr: &ServerAddr, seen: &Observation| {
        let of_record =
            promoted.and_then(|record| after_failover(snapshot, policy, record, (addr, seen), (primary_addr, primary)));
        of_record.or_else(|| settings(snapshot, policy, addr, seen, primary_addr))
    };
    others.filter_map(|(addr, state)| duty(addr, state.answering()?)).collect()
}

fn after_failover(
    snapshot: &Snapshot,
    policy: &Policy,
    record: &Recovery,
    (addr, seen): (&ServerAddr, &Observation),
    (primary_addr, primary): (&ServerAddr, &Observation),
) -> Option<Duty> {
    let follows = |channel: &Channel| snapshot.source_of(channel) == Some(primary_addr);
    let duty = |action, reason| Some(Duty { server: addr.clone(), action, reason });
    let leave = policy.failover.old_primary == OldPrimary::Leave;
    if holds(Rule::FenceOld) && !leave && seen.settings.writable() && was_primary(snapshot, record, addr, seen, primary)
    {
        return duty(Action::Fence, "it was the primary before and accepts writes");
    }
    if *addr == record.old_primary {
        let wish = policy.failover.old_primary;
        return match () {
            () if wish == OldPrimary::Leave => None,
            () if wish == OldPrimary::Fence => None,
            () if !seen.channels.iter().any(follows)
                && extra(seen, primary).is_some_and(|extra| extra.is_empty() || !holds(Rule::Quarantine)) =>
            {
                duty(
                    Action::Repoint { source: primary_addr.clone(), semi_sync: None },
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
            Action::Repoint { source: primary_addr.clone(), semi_sync: None },
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
    let inherited = || !primary.executed.of_source(&seen.identity.uuid).is_empty();
    *addr == record.old_primary || was_left(record, addr) || alone() && inherited()
}

/// Replication settings that make silence noticeable, where the owner wants them kept.
fn settings(
    snapshot: &Snapshot,
    policy: &Policy,
    addr: &ServerAddr,
    seen: &Observation,
    primary: &ServerAddr,
) -> Option<Duty> {
    if !policy.detection.enforce {
        return None;
    }
    let channel = seen.channels.iter().find(|channel| snapshot.source_of(channel) == Some(primary))?;
    let wanted_ms = policy.detection.heartbeat_ms;
    let net_timeout_s = net_timeout_s(wanted_ms);
    let wrong = channel.heartbeat_interval_ms.is_some_and(|found| found != wanted_ms)
        || seen.settings.net_timeout_s != net_timeout_s;
    let healthy = channel.receiver == Receiver::Running && channel.applier_running && channel.drained(&seen.executed);
    (wrong && healthy).then(|| Duty {
        server: addr.clone(),
        action: Action::EnforceReplicationSettings { heartbeat_ms: wanted_ms, net_timeout_s },
        reason: "its replication settings would hide a failure of the source",
    })
}

/// `replica_net_timeout` that goes with a heartbeat: whole seconds, at least two heartbeats and a bit.
#[must_use]
pub fn net_timeout_s(heartbeat_ms: u64) -> u64 {
    heartbeat_ms.saturating_mul(4).div_ceil(1000).max(2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        core::{
            id::Epoch,
            recovery::{Cause, Outcome, Phase, StepRecord, machine::Machine},
            time::Mono,
        },
        testing::snapshot::{Cluster, addr, policy, transactions},
    };

    #[test]
    fn a_primary_of_an_earlier_reign_is_fenced_and_a_stranger_is_not() {
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
        let due = due(&cluster.look(), &policy(), Some(machine.record()));
        let fenced = due.iter().filter(|duty| duty.action == Action::Fence).map(|duty| duty.server.clone());
        assert_eq!(fenced.collect::<Vec<_>>(), [addr("p"), addr("x")]);
        let mut leave = policy();
        leave.failover.old_primary = OldPrimary::Leave;
        assert!(
            !super::due(&cluster.snapshot, &leave, Some(machine.record()))
                .iter()
                .any(|duty| duty.action == Action::Fence)
        );
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
