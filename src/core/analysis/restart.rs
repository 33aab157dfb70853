//! Makes replicas find out whether their source lives, when nothing they show would tell: a receiver
//! that has to connect anew either does or reports that it cannot.

use super::{Act, Analysis};
use crate::core::{
    housekeeping::Duty,
    id::ServerAddr,
    observation::{Observation, Receiver},
    policy::Policy,
    snapshot::Snapshot,
    step::Action,
    version::Flavor,
};

/// The receivers to restart for these analyses. MariaDB is left out: stopping the receiver of a replica
/// that uses GTIDs discards its relay logs there.
#[must_use]
pub fn receivers_to_restart(snapshot: &Snapshot, policy: &Policy, analyses: &[Analysis]) -> Vec<Duty> {
    let wanted = analyses.iter().filter(|analysis| analysis.actionable() && analysis.act == Act::RestartReceivers);
    let free = |duty: &Duty| policy.rests(&duty.server).is_none();
    wanted.flat_map(|analysis| of_source(snapshot, &analysis.server)).filter(free).collect()
}

fn of_source(snapshot: &Snapshot, source: &ServerAddr) -> Vec<Duty> {
    let running = |seen: &Observation| {
        let mut channels = seen.channels.iter().filter(|channel| snapshot.source_of(channel) == Some(source));
        seen.identity.version.flavor == Flavor::MySql && channels.any(|channel| channel.receiver == Receiver::Running)
    };
    let replicas = snapshot.replicas_of(source).into_iter();
    let due = replicas.filter(|(_, state)| state.answering().is_some_and(running));
    due.map(|(addr, _)| Duty {
        server: addr.clone(),
        action: Action::RestartReceiver,
        reason: "its source does not answer, and nothing it shows tells whether it hears it",
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        core::{analysis::analyse, observation::FailureKind},
        testing::snapshot::{Cluster, addr, policy},
    };

    #[test]
    fn a_server_that_is_being_rebuilt_or_under_maintenance_is_left() {
        let mut cluster = Cluster::primary_and_replicas(2);
        cluster.look();
        cluster.fail("p", FailureKind::Silent);
        let mut policy = policy();
        let snapshot = cluster.look();
        let mut analyses = analyse(&snapshot, &policy);
        analyses.retain(|analysis| analysis.server == addr("p"));
        assert!(!analyses.is_empty());
        for analysis in &mut analyses {
            (analysis.act, analysis.skipped) = (Act::RestartReceivers, false);
        }
        let mut of = |change: fn(&mut Policy)| {
            change(&mut policy);
            let duties = receivers_to_restart(&snapshot, &policy, &analyses);
            duties.iter().map(|duty| duty.server.clone()).collect::<std::collections::BTreeSet<_>>()
        };
        assert_eq!(of(|_| {}), [addr("r1"), addr("r2")].into());
        assert_eq!(of(|policy| assert!(policy.rebuilding.insert(addr("r1")))), [addr("r2")].into());
        assert_eq!(of(|policy| assert!(policy.maintenance.insert(addr("r2")))), [].into());
    }
}
