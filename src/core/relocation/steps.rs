//! The next thing to do to a replica that is to follow another source: what it received is applied first
//! where a change of source would discard it (safety.md, "Failing over", 4).

use crate::core::{
    id::ServerAddr,
    observation::{Channel, Observation},
    step::Action,
};

/// Longest wait for an applier in one action, in milliseconds.
const DRAIN_MS: u64 = 500;

/// The next action that brings the replica `seen` to `source`, with the reason.
///
/// # Errors
/// Why nothing can be done, in words about the replica.
pub fn toward(seen: &Observation, source: &ServerAddr) -> Result<(Action, &'static str), String> {
    let channel = only_channel(seen)?;
    let keeps = seen.identity.version.can_repoint_receiver_alone() && channel.applier_running && channel.auto_position;
    if keeps || channel.drained(&seen.executed) {
        let action = Action::Repoint { source: source.clone(), semi_sync: None };
        return Ok((action, "it is to follow another source"));
    }
    if channel.applier_running {
        let action = Action::WaitApplied { set: channel.received.clone(), wait_ms: DRAIN_MS };
        return Ok((action, "it applies what it received"));
    }
    match &channel.applier_error {
        Some(error) => Err(format!("its applier stopped with error {}", error.code)),
        None => Ok((Action::StartApplier, "it has to apply what it received")),
    }
}

/// The one channel of a server: with several, which to move is not known.
///
/// # Errors
/// In words about the server.
pub fn only_channel(seen: &Observation) -> Result<&Channel, String> {
    match seen.channels.as_slice() {
        [channel] => Ok(channel),
        [] => Err("it replicates from nobody".to_owned()),
        _ => Err("it has several channels".to_owned()),
    }
}
