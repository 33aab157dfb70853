//! What the wish guarantees now, or why it does not.

use std::collections::BTreeSet;

use super::{ackers::Choice, scene::Scene};
use crate::core::{
    durability::Durability, id::ServerAddr, observation::SemiSyncSource, policy::Policy, snapshot::Snapshot,
    status::Answer,
};

/// Whether the owner's wish holds; `None`: there is none, or the primary does not answer.
#[must_use]
pub fn durable(snapshot: &Snapshot, policy: &Policy) -> Option<Answer> {
    let scene = Scene::of(snapshot, policy)?;
    let choice = scene.choice();
    let not = |(reason, message): (&'static str, String)| Answer::new(Some(false), reason, message);
    let broken = hopeless(&choice)
        .or_else(|| plugins(&scene, &choice.ackers))
        .or_else(|| settings(&scene))
        .or_else(|| few(&scene, &choice))
        .or_else(|| strays(&scene, &choice.ackers));
    Some(broken.map_or_else(|| holds(&scene), not))
}

type Broken = Option<(&'static str, String)>;

fn hopeless(choice: &Choice) -> Broken {
    let unmet = choice.unmet.as_ref().filter(|unmet| unmet.hopeless())?;
    Some((unmet.reason(), unmet.to_string()))
}

fn plugins(scene: &Scene<'_>, wanted: &BTreeSet<ServerAddr>) -> Broken {
    let replica =
        |addr: &&ServerAddr| scene.snapshot.last(addr).is_some_and(|seen| seen.semi_sync.replica_enabled.is_none());
    let source = scene.seen.semi_sync.source.is_none().then_some(scene.primary);
    let bare: Vec<_> = source.into_iter().chain(wanted.iter().filter(replica)).map(ToString::to_string).collect();
    (!bare.is_empty()).then(|| {
        let message = "a semi-sync plugin is not loaded; Baton loads it where its account may (INSERT on mysql.plugin) \
                       and the server has it, else set plugin-load-add";
        ("PluginMissing", format!("{}: {message}", bare.join(", ")))
    })
}

/// The primary's settings. Those that let commits pass unacknowledged come first.
fn settings(scene: &Scene<'_>) -> Broken {
    let found = scene.seen.semi_sync.source.as_ref()?;
    let SemiSyncSource { timeout_ms, wait_count, .. } = found;
    let (acks, attached) = (scene.wish.acks, scene.attached(scene.answering().map(|(addr, _)| addr)));
    let primary = scene.primary;
    match () {
        () if !found.enabled && !scene.enough(attached) => {
            Some(("TooFewAckers", format!("semi-sync is switched on when {acks} replicas acknowledge: {attached} do")))
        }
        () if !found.enabled => Some(("SwitchedOff", format!("semi-sync is off on {primary}"))),
        () if *timeout_ms < SemiSyncSource::TIMEOUT_LOSSLESS_MS => {
            Some(("Timeout", format!("semi-sync on {primary} falls back to asynchronous after {timeout_ms} ms")))
        }
        () if !found.after_sync => {
            let message =
                format!("{primary} shows a transaction before replicas have it: its wait point is AFTER_COMMIT");
            Some(("WaitPoint", message))
        }
        () if !found.wait_no_replica => {
            Some(("NoReplicaNoWait", format!("{primary} does not wait when too few replicas are connected")))
        }
        () if *wait_count != acks => {
            Some(("WaitCount", format!("{primary} waits for {wait_count} acknowledgements, not for {acks}")))
        }
        () if !found.active => {
            Some(("FellBack", format!("semi-sync on {primary} fell back to asynchronous and did not come back yet")))
        }
        () => None,
    }
}

/// Commits would wait.
fn few(scene: &Scene<'_>, choice: &Choice) -> Broken {
    let attached = scene.attached(&choice.ackers);
    if let Some(unmet) = &choice.unmet {
        return Some((unmet.reason(), unmet.to_string()));
    }
    let acks = scene.wish.acks;
    (!scene.enough(attached)).then(|| {
        let message = format!("{attached} of the {acks} replicas that must acknowledge are attached: commits wait");
        ("TooFewAckers", message)
    })
}

/// What a stray acknowledged may be nowhere else.
fn strays(scene: &Scene<'_>, wanted: &BTreeSet<ServerAddr>) -> Broken {
    if let Some((addr, seen)) = scene.strays(wanted).first() {
        return Some(("StrayAcker", format!("{addr} acknowledges and must not: {}", scene.why_stray(addr, seen))));
    }
    let unknown = Durability::found(scene.snapshot, scene.primary).unknown_ackers;
    // Whom the primary counts before Baton has found it may be one of the cluster's.
    (unknown > 0).then(|| ("StrayAcker", format!("{} counts {unknown} ackers that are not known", scene.primary)))
}

fn holds(scene: &Scene<'_>) -> Answer {
    let acks = scene.wish.acks;
    let zones = match scene.wish.zones {
        0 | 1 => String::new(),
        zones => format!(", in {zones} zones with the primary's"),
    };
    let message = format!("an acknowledged write is on {acks} replicas besides the primary{zones}");
    Answer::new(Some(true), "SemiSync", message)
}
