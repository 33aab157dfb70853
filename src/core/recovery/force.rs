//! What a recovery that a person forces knows besides its record.

use super::{Phase, Recovery};
use crate::core::{gtid::GtidSet, observation::Observation, time::Mono};

/// What a forced recovery knows besides.
#[derive(Debug, Clone)]
pub(super) struct Force {
    /// The old primary was dead when this began, or was fenced before this executor took over.
    pub(super) dead: bool,
    /// What was seen of the old primary before anything was done to it.
    pub(super) before: Option<Observation>,
    /// Something was done to the old primary that keeps it from serving.
    pub(super) touched: bool,
    pub(super) hand_over: HandOver,
    /// Why the old primary could not be fenced.
    pub(super) error: Option<String>,
}

/// How far an old primary that answers has handed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum HandOver {
    /// There is nothing to hand over, or it is done.
    Over,
    /// It is asked to take no more writes.
    Asked,
    /// Its transactions are on their way to the replicas since then.
    Sends(GtidSet, Mono),
}

impl Force {
    /// `answers`: the old primary answers now.
    pub(super) fn of(record: &Recovery, answers: bool) -> Option<Self> {
        record.cause.is_forced().then(|| Self {
            dead: record.timings.fenced.is_some() && !answers,
            before: None,
            touched: false,
            hand_over: HandOver::Over,
            error: None,
        })
    }
}

/// The restoring of an old primary.
#[derive(Debug, Clone)]
pub(super) struct Restore {
    /// How the recovery ends after it.
    pub(super) phase: Phase,
    pub(super) step: Step,
    pub(super) error: Option<String>,
}

/// What is to be done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Replicas and administrators are let in; writes are not.
    Open,
    Claim,
    SemiSync,
    Epoch,
    Unfence,
}
