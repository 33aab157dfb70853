//! Whether a source that does not answer us is dead: our own looks and the statements of its replicas
//! put together. The same for primaries, co-primaries and intermediate primaries.

use super::{
    Context,
    evidence::Evidence,
    life::Life,
    witness::{self, Suspect, Verdict, Witness},
};
use crate::core::{
    id::ServerAddr,
    rules::{Rule, holds},
    time::Mono,
};

/// The conclusion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Too early to say.
    Unconfirmed,
    /// It has no replicas.
    NoReplicas,
    /// None of its replicas answers.
    NobodyAnswers,
    /// A replica hears it, or may.
    Heard,
    /// Nobody showed a sign of it, but some replicas would not.
    Deaf,
    /// No replica lost it by itself.
    NoEvidence,
    /// Every replica answers and none hears it.
    Dead,
    /// Not every replica answers, and of the others none hears it.
    DeadAndSome,
}

/// The conclusion with what it rests on.
#[derive(Debug, Clone)]
pub(super) struct Finding {
    pub(super) outcome: Outcome,
    pub(super) since: Mono,
    pub(super) replicas: usize,
    pub(super) evidence: Vec<Evidence>,
}

/// Examines a server; `None` unless it is mute.
pub(super) fn examine(cx: &Context<'_>, addr: &ServerAddr) -> Option<Finding> {
    let state = cx.snapshot.servers.get(addr)?;
    let Life::Mute { since, confirmed } = cx.life(state) else { return None };
    let witnesses = witness::ask(cx, Suspect { addr, since, alive_at: state.alive_at });
    let mute_ms = cx.snapshot.at.since_ms(since);
    let patient = mute_ms >= cx.policy.detection.answer_ms.saturating_mul(2);
    let outcome = if confirmed { conclude(&witnesses, patient) } else { Outcome::Unconfirmed };
    let mut evidence = Evidence::of_failure(addr, state);
    let replicas = witnesses.len();
    evidence.extend(witnesses.into_iter().map(|witness| witness.evidence));
    Some(Finding { outcome, since, replicas, evidence })
}

/// `patient`: the failure is old enough to disturb replicas for certainty.
fn conclude(witnesses: &[Witness], patient: bool) -> Outcome {
    let count = |verdict| witnesses.iter().filter(|witness| witness.verdict == verdict).count();
    let absent = count(Verdict::Absent);
    match () {
        () if witnesses.is_empty() => Outcome::NoReplicas,
        () if absent == witnesses.len() => Outcome::NobodyAnswers,
        () if holds(Rule::OneHears) && count(Verdict::Hears) + count(Verdict::Waiting) > 0 => Outcome::Heard,
        () if count(Verdict::Deaf) > 0 && patient => Outcome::Deaf,
        () if count(Verdict::Deaf) > 0 => Outcome::Heard,
        () if holds(Rule::LostByItself) && count(Verdict::Lost) == 0 => Outcome::NoEvidence,
        () if absent == 0 => Outcome::Dead,
        () => Outcome::DeadAndSome,
    }
}
