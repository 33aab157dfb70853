//! What is due so that the wish holds. Level-triggered: one look at everything gives at most one action
//! per server, and the next look shows what it did.
//!
//! The order keeps two promises. Who may acknowledge is written down before it does. And a primary is
//! never made to wait for ackers that are not attached.

use std::collections::BTreeSet;

use super::{
    ackers::{Unmet, exclusion},
    scene::Scene,
};
use crate::core::{
    durability::source_side_on,
    id::ServerAddr,
    membership::Membership,
    observation::{Observation, Receiver, SemiSyncSource},
    policy::Policy,
    rules::{Rule, holds},
    snapshot::Snapshot,
    step::{Action, Duty},
};

/// How long commits hang before the ackers that seem well are made to connect anew, in milliseconds.
const STUCK_MS: u64 = 1000;

/// What is due.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// To be written down, in place of what is.
    pub record: Option<Membership>,
    /// To be done, at most one action per server.
    pub duties: Vec<Duty>,
}

/// Works out what is due; nothing where the owner does not want it kept, or nobody writes.
#[must_use]
pub fn plan(snapshot: &Snapshot, policy: &Policy) -> Plan {
    let Some(scene) = Scene::of(snapshot, policy).filter(|scene| scene.seen.settings.writable()) else {
        return Plan::default();
    };
    let choice = scene.choice();
    if policy.maintenance.contains(scene.primary) || choice.unmet.as_ref().is_some_and(Unmet::hopeless) {
        return Plan::default();
    }
    let (wanted, to_write) = (&choice.ackers, record(&scene, &choice.ackers));
    let written = scene.recorded().filter(|known| **known == to_write);
    let free = |duty: &Duty| policy.rests(&duty.server).is_none();
    let replicas = scene.answering().filter_map(|(addr, seen)| replica(&scene, wanted, addr, seen));
    let mut duties: Vec<_> = replicas.chain(source(&scene, wanted)).filter(free).collect();
    let sure = written.is_some() && snapshot.ledger.certain() || !holds(Rule::RecordedFirst);
    let begins =
        |duty: &Duty| matches!(duty.action, Action::Acknowledge { on: true } | Action::LosslessSemiSync { .. });
    let waits = !sure && duties.iter().any(begins);
    if !sure {
        duties.retain(|duty| !begins(duty));
    }
    Plan { record: (waits || written.is_none()).then_some(to_write), duties }
}

/// What has to be written down: whoever is to acknowledge, and whoever did and is not known to have
/// stopped.
fn record(scene: &Scene<'_>, wanted: &BTreeSet<ServerAddr>) -> Membership {
    let known = scene.recorded();
    let may_still = |addr: &&ServerAddr| {
        let Some(state) = scene.snapshot.servers.get(*addr) else { return false };
        let semi_sync = state.answering().map(|seen| &seen.semi_sync);
        let begins = scene.snapshot.ledger.may_begin(addr, state.last.as_ref().map(Observation::began));
        let shows = semi_sync.is_none_or(|seen| seen.replica_active || seen.replica_enabled == Some(true));
        *addr != scene.primary && (begins || shows)
    };
    let before = known.iter().flat_map(|known| &known.ackers).filter(may_still);
    Membership {
        source: scene.primary.clone(),
        acks: acks(scene, known),
        ackers: wanted.iter().chain(before).cloned().collect(),
    }
}

/// Acknowledgements to be written down: fewer before the primary waits for fewer, more when it does.
fn acks(scene: &Scene<'_>, known: Option<&Membership>) -> u32 {
    let waits = scene.seen.semi_sync.source.as_ref().filter(|source| source.enabled).map(|source| source.wait_count);
    let wish = scene.wish.acks;
    match (known.map(|known| known.acks), waits) {
        (_, None) => wish,
        (Some(known), Some(waits)) if waits < wish => known.min(wish),
        (None, Some(waits)) => waits.min(wish),
        (Some(_), Some(_)) => wish,
    }
}

fn replica(scene: &Scene<'_>, wanted: &BTreeSet<ServerAddr>, addr: &ServerAddr, seen: &Observation) -> Option<Duty> {
    let duty = |action, reason| Some(Duty { server: addr.clone(), action, reason });
    let enabled = seen.semi_sync.replica_enabled;
    if source_side_on(seen) && !seen.settings.writable() {
        return duty(Action::SemiSyncSource { on: false, wait_count: 0 }, "a replica must not wait for ackers");
    }
    let attached = scene.attached(wanted);
    if !wanted.contains(addr) {
        let acks = enabled == Some(true) || seen.semi_sync.replica_active;
        let waits = scene.seen.semi_sync.source.as_ref().filter(|source| source.enabled);
        let spared = waits.is_none_or(|source| scene.enough(attached) && at_least(attached, source.wait_count));
        // Whoever promoted it later would have to load what is missing.
        let bare = enabled.is_none() || seen.semi_sync.source.is_none();
        return match () {
            () if acks && spared => duty(Action::Acknowledge { on: false }, "it is not to acknowledge"),
            () if bare && exclusion(addr, seen, scene.policy).is_none() => load(addr),
            () => None,
        };
    }
    let source = scene.seen.semi_sync.source.as_ref()?;
    let stuck = scene.snapshot.servers.get(scene.primary).and_then(|state| state.stuck_since);
    let stuck = stuck.is_some_and(|since| scene.seen.at.since_ms(since) >= STUCK_MS);
    let receives = scene.acknowledges(seen);
    match enabled {
        None => load(addr),
        Some(false) => duty(Action::Acknowledge { on: true }, "it is to acknowledge"),
        Some(true) if receives && stuck && source.clients < source.wait_count => {
            duty(Action::Acknowledge { on: true }, "commits wait, and its acknowledgements do not arrive")
        }
        Some(true) if receives => seen.semi_sync.source.is_none().then(|| load(addr)).flatten(),
        // Whoever stopped it may have had a reason, until it is missed.
        Some(true) if scene.enough(attached) && !runs(seen) => None,
        Some(true) => duty(Action::Acknowledge { on: true }, "it is to acknowledge and does not"),
    }
}

fn at_least(count: usize, least: u32) -> bool {
    u32::try_from(count).unwrap_or(u32::MAX) >= least
}

fn runs(seen: &Observation) -> bool {
    seen.channels.iter().any(|channel| channel.receiver == Receiver::Running)
}

fn load(addr: &ServerAddr) -> Option<Duty> {
    let reason = "the semi-sync plugins are not loaded";
    Some(Duty { server: addr.clone(), action: Action::LoadSemiSync, reason })
}

/// What is due at the primary.
fn source(scene: &Scene<'_>, wanted: &BTreeSet<ServerAddr>) -> Option<Duty> {
    let semi_sync = &scene.seen.semi_sync;
    let duty = |action, reason| Some(Duty { server: scene.primary.clone(), action, reason });
    let Some(found) = &semi_sync.source else { return load(scene.primary) };
    let acks = scene.wish.acks;
    let ready = scene.enough(scene.attached(wanted));
    let shows_late = found.after_sync || !scene.seen.identity.version.has_semi_sync_wait_point();
    let lasts = shows_late && found.timeout_ms >= SemiSyncSource::TIMEOUT_LOSSLESS_MS;
    let waits = found.enabled && found.wait_count == acks && found.wait_no_replica;
    match (lasts && waits, ready) {
        (true, _) => semi_sync.replica_enabled.is_none().then(|| load(scene.primary)).flatten(),
        (false, true) => duty(Action::LosslessSemiSync { acks, on: true }, "semi-sync is not set as it is to be kept"),
        // What would only let commits pass unacknowledged is mended at once.
        (false, false) if found.enabled && !lasts => {
            duty(Action::LosslessSemiSync { acks, on: false }, "semi-sync could fall back to asynchronous")
        }
        (false, false) => None,
    }
}

#[cfg(test)]
mod tests;
