//! What our own looks say about a server: alive, mute, and whether it may be us who are cut off
//! (safety.md, "Deciding", 1, 4 and 5).

use super::{Context, evidence::Evidence};
use crate::core::{
    id::ServerAddr,
    observation::{FailureKind, Observation},
    policy::Detection,
    rules::{Rule, holds},
    snapshot::{Reach, ServerState, Snapshot},
    time::Mono,
};

/// Looks that must have failed in a row before a server counts as gone.
const LOOKS_MIN: u32 = 2;

/// What our own looks say about a server.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Life<'a> {
    /// Not looked at yet.
    Unknown,
    /// It answered the newest look.
    Answering(&'a Observation),
    /// The newest look failed as it only does with a living server.
    Refusing,
    /// Nobody is there, as far as we can tell.
    Mute {
        /// Since when, but not before we began to watch.
        since: Mono,
        /// Often and long enough to believe it.
        confirmed: bool,
    },
}

impl<'a> Life<'a> {
    pub(super) fn of(state: &'a ServerState, snapshot: &Snapshot, detection: &Detection) -> Self {
        match state.reach() {
            Reach::Unknown => Self::Unknown,
            Reach::Answering(seen) => Self::Answering(seen),
            Reach::Failing(failure) if failure.kind.alive() => Self::Refusing,
            Reach::Failing(failure) => {
                let since = state.mute_since.unwrap_or(failure.at).max(snapshot.watching_since);
                // Looks that were under way in a gap of our own fail when it ends and prove nothing.
                let after_gap = snapshot.watching_since.plus_ms(detection.answer_ms);
                let of_now = state.mute_since >= Some(snapshot.watching_since) || failure.at >= after_gap;
                let long = failure.kind == FailureKind::Refused || snapshot.at.since_ms(since) >= detection.answer_ms;
                Self::Mute {
                    since,
                    confirmed: !holds(Rule::LooksTwice) || of_now && state.mute_looks >= LOOKS_MIN && long,
                }
            }
        }
    }
}

/// Servers that were not looked at since we began to watch, while that is recent.
pub(super) fn not_looked_at(snapshot: &Snapshot, detection: &Detection) -> Vec<ServerAddr> {
    let patience_ms = detection.interval_ms.saturating_add(detection.answer_ms).saturating_mul(2);
    if snapshot.at.since_ms(snapshot.watching_since) > patience_ms {
        return Vec::new();
    }
    let waiting = |state: &ServerState| state.looked_at().is_none_or(|at| at < snapshot.watching_since);
    snapshot.servers.iter().filter(|(_, state)| waiting(state)).map(|(addr, _)| addr.clone()).collect()
}

/// Evidence that it is us who are cut off: `suspect` and more than half of the servers that ever
/// answered fell silent within the time in which one cut of the network shows on all of them.
pub(super) fn isolated(cx: &Context<'_>, suspect: &ServerAddr) -> Option<Vec<Evidence>> {
    let detection = &cx.policy.detection;
    let window_ms = detection.interval_ms.saturating_add(detection.answer_ms.saturating_mul(2));
    let silent_since = |state: &ServerState| {
        let silent = matches!(state.failure.as_ref()?.kind, FailureKind::Silent | FailureKind::Address);
        state.mute_since.filter(|_| silent && state.last.is_some())
    };
    let first = silent_since(cx.snapshot.servers.get(suspect)?)?;
    let at_once = |at: Mono| at.since_ms(first).max(first.since_ms(at)) <= window_ms;
    let known = cx.snapshot.servers.values().filter(|state| state.last.is_some()).count();
    let silent: Vec<_> = cx
        .snapshot
        .servers
        .iter()
        .filter(|(_, state)| silent_since(state).is_some_and(at_once))
        .flat_map(|(addr, state)| Evidence::of_failure(addr, state))
        .collect();
    (holds(Rule::Isolation) && silent.len() >= 2 && silent.len().saturating_mul(2) > known).then_some(silent)
}
