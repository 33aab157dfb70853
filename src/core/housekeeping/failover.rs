//! What a failover leaves to do: the old primary is kept fenced and brought back, late replicas are
//! repointed.

#[cfg(test)]
mod tests;

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
    version::Flavor,
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
    let left_out = || {
        let named = snapshot.servers.get(addr).is_some_and(|state| state.named);
        let expected = record.pending_replicas.contains(addr) || was_left(record, addr);
        named && expected && seen.channels.is_empty() && !seen.settings.writable()
    };
    if *addr == record.old_primary || rejoins(snapshot, seen, (primary_addr, primary)) || left_out() {
        let wish = policy.failover.old_primary;
        return match () {
            () if wish == OldPrimary::Leave => None,
            () if wish == OldPrimary::Fence => None,
            // It has lost its data, or a copy to it was broken off: it is not behind.
            () if seen.executed.is_empty() && !primary.executed.is_empty() && !was_empty(policy, record, seen) => None,
            () if !seen.channels.iter().any(follows)
                && (nothing_alone(seen, primary) || extra(seen, primary).is_some() && !holds(Rule::Quarantine)) =>
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
    // One action concerns all channels.
    let [_] = &seen.channels[..] else { return None };
    let have = primary.executed.clone();
    let lost = candidate::cannot_follow(seen, primary, &have).is_some();
    // One that cannot follow would acknowledge for the old primary, and fetch what only that one has, unless that follows.
    let fed = snapshot.source_of(behind).is_some_and(|source| snapshot.leads_to(source, primary_addr));
    let detached = lost && !fed && left_behind(snapshot, record, addr, behind);
    let moves = !lost && in_order(seen, primary);
    if behind.receiver != Receiver::Stopped && (moves || detached) {
        return duty(Action::StopReceiver, "it was left behind by the failover");
    }
    if !moves || behind.receiver != Receiver::Stopped {
        return None;
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
    // Who has something of the reign that began then took part in it: the channel is somebody's wish.
    let own = snapshot.last(&record.old_primary).map(|old| old.executed.of_source(&seen.identity.uuid));
    let before = record.promoted_set.clone().unwrap_or_default();
    let took_part = own.is_some_and(|own| !before.contains(&own));
    let due = promoted && !took_part && !seen.channels.is_empty() && seen.channels.iter().all(left);
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

/// Whether a channel still follows the old primary, or a server that the recovery had chosen and left for another after
/// it had moved this replica there. Who follows the old primary now that it is a replica itself, and was not waited for,
/// is meant to.
fn left_behind(snapshot: &Snapshot, record: &Recovery, addr: &ServerAddr, channel: &Channel) -> bool {
    let Some(source) = snapshot.source_of(channel) else { return false };
    let waited_for = record.pending_replicas.contains(addr) || record.lost_replicas.contains(addr);
    let chain = record.new_primary.as_ref().is_some_and(|primary| snapshot.leads_to(source, primary));
    *source == record.old_primary && (waited_for || !chain)
        || record.pending_replicas.contains(addr) && was_left(record, source)
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

/// Whether the primary has all that a server has. Sets of GTIDs only grow: what the primary had before this look at the
/// server it has still, so here the looks may have come in any order.
fn nothing_alone(seen: &Observation, primary: &Observation) -> bool {
    let mysql = |seen: &Observation| seen.identity.version.flavor == Flavor::MySql;
    match mysql(seen) && mysql(primary) {
        true => primary.executed.contains(&seen.executed),
        false => extra(seen, primary).is_some_and(|extra| extra.is_empty()),
    }
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
