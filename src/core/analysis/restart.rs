//! Makes replicas find out whether their source lives, when nothing they show would tell: a receiver
//! that has to connect anew either does or reports that it cannot.

use super::{Act, Analysis};
use crate::core::{
    housekeeping::Duty,
    id::ServerAddr,
    observation::{Observation, Receiver},
    snapshot::Snapshot,
    step::Action,
    version::Flavor,
};

/// The receivers to restart for these analyses. MariaDB is left out: stopping the receiver of a replica
/// that uses GTIDs discards its relay logs there.
#[must_use]
pub fn receivers_to_restart(snapshot: &Snapshot, analyses: &[Analysis]) -> Vec<Duty> {
    let wanted = analyses.iter().filter(|analysis| analysis.actionable() && analysis.act == Act::RestartReceivers);
    wanted.flat_map(|analysis| of_source(snapshot, &analysis.server)).collect()
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
