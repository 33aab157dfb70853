//! Repairs of replicas that the owner asks for: those that stopped without a reason of their own, that
//! follow a server which does not get the primary's writes, or that accept writes.
//!
//! They are the last thing that is done: never about a server under maintenance, an old primary or one with
//! transactions of its own, and a few times only, so that what a person stopped again and again stays so.

pub mod attempts;

use std::collections::BTreeMap;

use super::{
    housekeeping::Duty,
    id::ServerAddr,
    observation::{Channel, Observation, Receiver, ThreadError},
    policy::Policy,
    recovery::Recovery,
    relocation::{obstacle, only_channel, toward},
    snapshot::{ServerState, Snapshot, hearing::no_connection},
    status::Role,
    step::Action,
    topology::Topology,
    version::Flavor,
};

/// What could be repaired now, and why other things cannot.
#[derive(Debug, Clone, Default)]
pub struct Repairs {
    /// Due actions, at most one for each server.
    pub due: Vec<Duty>,
    /// What is wrong with a server and stays.
    pub reasons: BTreeMap<ServerAddr, String>,
}

/// Looks for what is to be repaired; nothing while the primary does not accept writes.
#[must_use]
pub fn find(snapshot: &Snapshot, topology: &Topology, policy: &Policy, last: Option<&Recovery>) -> Repairs {
    let mut repairs = Repairs::default();
    let primary = topology.primary.as_ref().and_then(|addr| {
        let seen = snapshot.servers.get(addr)?.answering()?;
        seen.settings.writable().then_some((addr, seen))
    });
    let Some(primary) = primary.filter(|_| policy.repair_replicas) else { return repairs };
    for (addr, state) in &snapshot.servers {
        let Some(seen) = state.answering().filter(|seen| !seen.channels.is_empty()) else { continue };
        let old = last.is_some_and(|record| record.phase.promoted() && record.old_primary == *addr);
        if addr == primary.0 || old || policy.rests(addr).is_some() || errant(state, primary.1) {
            continue;
        }
        match (Case { snapshot, topology, addr, state, seen, primary }).repair() {
            Ok(Some((action, reason))) => repairs.due.push(Duty { server: addr.clone(), action, reason }),
            Ok(None) => {}
            Err(reason) => {
                repairs.reasons.insert(addr.clone(), format!("not repaired: {reason}"));
            }
        }
    }
    repairs
}

/// Whether a server has transactions of its own; those of the primary may be on their way to it.
fn errant(state: &ServerState, primary: &Observation) -> bool {
    !state.errant.subtract(&state.errant.of_source(&primary.identity.uuid)).is_empty()
}

/// One replica.
struct Case<'a> {
    snapshot: &'a Snapshot,
    topology: &'a Topology,
    addr: &'a ServerAddr,
    state: &'a ServerState,
    seen: &'a Observation,
    primary: (&'a ServerAddr, &'a Observation),
}

type Due = Option<(Action, &'static str)>;

impl Case<'_> {
    fn repair(&self) -> Result<Due, String> {
        let channel = only_channel(self.seen)?;
        let member = self.topology.members.get(self.addr);
        let fed = member.is_some_and(|member| member.depth.is_some());
        let below = fed && matches!(self.topology.role_of(self.addr), Role::Replica | Role::IntermediatePrimary);
        match () {
            () if below && self.seen.settings.writable() => {
                Ok(Some((Action::SetReadOnly, "it replicates and accepts writes")))
            }
            () if !fed => self.misled(),
            () if !channel.applier_running => applier(channel),
            () if channel.receiver == Receiver::Stopped => self.receiver(channel),
            () => Ok(None),
        }
    }

    /// It follows a server that is not below the primary.
    fn misled(&self) -> Result<Due, String> {
        let ring = self.topology.rings.iter().any(|ring| ring.contains(self.addr));
        // Who only came by discovery may belong elsewhere; a co-primary is no replica.
        if !self.state.named || ring || self.topology.co_primary(self.addr).is_some() {
            return Ok(None);
        }
        if let Some(obstacle) = obstacle(self.seen, self.primary.1, self.primary.1) {
            return Err(format!("it follows the wrong server, and cannot follow the primary: {}", obstacle.reason()));
        }
        let (action, _) = toward(self.seen, self.primary.0)?;
        Ok(Some((action, "it follows a server that does not get what the primary writes")))
    }

    fn receiver(&self, channel: &Channel) -> Result<Due, String> {
        // A source that is away is another matter.
        let source = self.snapshot.source_of(channel).and_then(|addr| self.snapshot.servers.get(addr));
        if source.is_none_or(|source| source.answering().is_none()) {
            return Ok(None);
        }
        if let Some(error) = channel.receiver_error.as_ref().filter(|error| !no_connection(error)) {
            return Err(format!("its receiver stopped with {}", words(error)));
        }
        // Starting it discards relay logs there.
        let discards = self.seen.identity.version.flavor == Flavor::MariaDb && !channel.drained(&self.seen.executed);
        Ok((!discards).then_some((Action::StartReceiver, "its receiver is stopped without a reason of its own")))
    }
}

fn applier(channel: &Channel) -> Result<Due, String> {
    match &channel.applier_error {
        Some(error) => Err(format!("its applier stopped with {}", words(error))),
        None => Ok(Some((Action::StartApplier, "its applier is stopped without a reason of its own"))),
    }
}

fn words(error: &ThreadError) -> String {
    format!("error {}", error.code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        core::recovery::Phase,
        testing::{
            record::recovery,
            snapshot::{Cluster, addr, policy, transactions},
        },
    };

    /// What is due on `r1` after `change`, else why it is left.
    fn found(change: impl Fn(&mut Cluster, &mut Policy)) -> Result<Option<Action>, String> {
        let (mut cluster, mut policy) = (Cluster::primary_and_replicas(2), policy());
        policy.repair_replicas = true;
        cluster.add("x");
        change(&mut cluster, &mut policy);
        let mut snapshot = cluster.look();
        snapshot.adopt(&[addr("p"), addr("r1"), addr("r2")]);
        let mut repairs = find(&snapshot, &Topology::of(&snapshot), &policy, None);
        assert!(repairs.due.iter().all(|duty| duty.server == addr("r1")), "{repairs:?}");
        match repairs.reasons.remove(&addr("r1")) {
            Some(reason) => Err(reason),
            None => Ok(repairs.due.pop().map(|duty| duty.action)),
        }
    }

    fn channel(change: fn(&mut Channel)) -> Result<Option<Action>, String> {
        found(|cluster, _| change(&mut cluster.server("r1").observation.channels[0]))
    }

    fn stopped(channel: &mut Channel, code: Option<u32>) {
        channel.receiver = Receiver::Stopped;
        channel.receiver_error = code.map(|code| ThreadError { code, message: String::new() });
    }

    #[test]
    fn threads_that_stopped_for_no_reason_are_started_and_others_are_told() {
        assert_eq!(found(|_, _| {}), Ok(None));
        assert_eq!(channel(|channel| stopped(channel, None)), Ok(Some(Action::StartReceiver)));
        assert_eq!(channel(|channel| stopped(channel, Some(2003))), Ok(Some(Action::StartReceiver)));
        let told = channel(|channel| stopped(channel, Some(1236))).unwrap_err();
        assert_eq!(told, "not repaired: its receiver stopped with error 1236");
        assert_eq!(channel(|channel| channel.applier_running = false), Ok(Some(Action::StartApplier)));
        let told = channel(|channel| {
            channel.applier_running = false;
            channel.applier_error = Some(ThreadError { code: 1062, message: String::new() });
        });
        assert_eq!(told.unwrap_err(), "not repaired: its applier stopped with error 1062");
    }

    #[test]
    fn a_writable_replica_is_closed() {
        let writable = |cluster: &mut Cluster, _: &mut Policy| {
            let settings = &mut cluster.server("r1").observation.settings;
            (settings.read_only, settings.super_read_only) = (false, false);
        };
        assert_eq!(found(writable), Ok(Some(Action::SetReadOnly)));
    }

    #[test]
    fn a_replica_of_the_wrong_server_is_moved_if_it_can_be() {
        let misled = |cluster: &mut Cluster| {
            cluster.server("r1").observation.channels.clear();
            cluster.follow("r1", "x");
        };
        let repoint = Action::Repoint { source: addr("p"), semi_sync: None };
        let of_primary = |cluster: &mut Cluster| {
            cluster.server("r1").observation.executed = transactions(1, 90);
            cluster.server("r1").observation.channels[0].received = transactions(1, 90);
        };
        assert_eq!(
            found(|cluster, _| {
                misled(cluster);
                of_primary(cluster);
            }),
            Ok(Some(repoint))
        );
        let told = found(|cluster, _| {
            misled(cluster);
            cluster.server("r1").observation.executed = transactions(1, 90);
        });
        assert!(
            told.unwrap_err().ends_with("neither the new source nor the primary has"),
            "it took something from there"
        );
    }

    #[test]
    fn who_is_to_be_left_alone_is() {
        let stop = |cluster: &mut Cluster| stopped(&mut cluster.server("r1").observation.channels[0], None);
        assert_eq!(
            found(|cluster, policy| {
                stop(cluster);
                policy.maintenance.insert(addr("r1"));
            }),
            Ok(None)
        );
        assert_eq!(
            found(|cluster, policy| {
                stop(cluster);
                policy.repair_replicas = false;
            }),
            Ok(None)
        );
        let errant = |cluster: &mut Cluster, _: &mut Policy| {
            stop(cluster);
            let seen = &mut cluster.server("r1").observation;
            seen.executed = seen.executed.union(&transactions(9, 1));
        };
        assert_eq!(found(errant), Ok(None));
        // Nothing is done while the primary does not take writes.
        let read_only = |cluster: &mut Cluster, _: &mut Policy| {
            stop(cluster);
            cluster.server("p").observation.settings.read_only = true;
        };
        assert_eq!(found(read_only), Ok(None));
        // An old primary is another's concern.
        let mut cluster = Cluster::primary_and_replicas(1);
        stop(&mut cluster);
        let mut wants = policy();
        wants.repair_replicas = true;
        let mut record = recovery(1, "a", &addr("r1"));
        (record.phase, record.new_primary) = (Phase::Succeeded, Some(addr("p")));
        let snapshot = cluster.look();
        assert!(find(&snapshot, &Topology::of(&snapshot), &wants, Some(&record)).due.is_empty());
        assert_eq!(find(&snapshot, &Topology::of(&snapshot), &wants, None).due.len(), 1);
    }
}
