//! Nobody is promoted who could commit nothing, because too few replicas are left to acknowledge for it: claimed
//! and with an epoch of its own it could not follow the old primary any more. That one may come back meanwhile
//! with all there is, and is then better left to be the primary.

use super::{
    Phase,
    machine::{Effect, Gate, Machine, RETRY_MS},
};
use crate::core::{observation::Observation, time::Mono};

/// What is known while there are too few.
#[derive(Debug, Clone, Default)]
pub(super) struct Shortage {
    /// The newest look at the old primary since this recovery began, if it refuses writes.
    pub(super) old: Option<Observation>,
    /// How many replicas were stopped when nobody could be chosen, and until when it is not tried again.
    tried: Option<(usize, Mono)>,
}

impl Shortage {
    /// Whether the choice is to be made, with so many replicas stopped.
    pub(super) fn choice_due(&self, stopped: usize, now: Mono) -> bool {
        self.tried.is_none_or(|(before, until)| stopped != before || now >= until)
    }
}

impl Machine {
    /// What was chosen would wait for ever. Whoever is missing is stopped as soon as it answers.
    pub(super) fn wait_for_ackers(&mut self, gate: Gate, effects: &mut Vec<Effect>) {
        if self.old_has_all() {
            let reason = "the old primary is back, and too few replicas are left to acknowledge for another";
            self.give_up(Phase::Failed, reason.to_owned(), gate, effects);
            return;
        }
        let reason = "blocked: too few replicas are left to acknowledge what a new primary commits";
        if self.record.message != reason {
            reason.clone_into(&mut self.record.message);
            effects.push(Effect::Save);
        }
        self.shortage.tried = Some((self.stopped().len(), gate.now.plus_ms(RETRY_MS)));
        self.stop_receivers(gate, effects);
    }

    /// Whether the old primary is back and lacks nothing that a stopped replica has. Once somebody was chosen it may
    /// be closed because this recovery fenced it.
    fn old_has_all(&self) -> bool {
        let has = |old: &Observation| self.stopped().values().all(|seen| old.executed.contains(&seen.total()));
        self.chosen_before().next().is_none() && self.shortage.old.as_ref().is_some_and(has)
    }
}
