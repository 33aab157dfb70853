//! The way back when a forced recovery comes to nothing after the old primary was fenced: it becomes
//! the primary of the new reign itself (safety.md, "Failing over", 10).
//!
//! The same steps as for any new primary, in the same order, so that a leader that slept can do no harm.

use super::{
    Phase,
    force::{Reopen, Step},
    machine::{ACTION_MS, Effect, Gate, Machine, RETRY_MS, Stage},
    promoting::{EPOCH_WAIT_MS, MARGIN_MS},
};
use crate::core::{observation::Observation, step::Action};

/// How long it is tried, in milliseconds.
const REOPEN_MS: u64 = 30_000;

impl Machine {
    pub(super) fn old_must_be_reopened(&self) -> bool {
        self.force.as_ref().is_some_and(|force| force.touched)
    }

    pub(super) fn enter_reopening(&mut self, phase: Phase, gate: Gate, effects: &mut Vec<Effect>) {
        self.enter(Stage::Reopen, Phase::Fencing, gate);
        self.record.new_primary = None;
        self.reopen = Some(Reopen { phase, step: Step::Open, open: false, error: None });
        self.old_fenced = false;
        effects.push(Effect::Save);
    }

    pub(super) fn advance_reopening(&mut self, gate: Gate, effects: &mut Vec<Effect>) {
        let Some(reopen) = self.reopen.clone() else { return };
        let old = self.record.old_primary.clone();
        if gate.now.since_ms(self.stage_since) >= REOPEN_MS {
            let error = reopen.error.unwrap_or_else(|| "it does not answer".to_owned());
            let reason = format!("{}; {old} may be left fenced: {error}", self.record.message);
            self.reopened(Phase::Failed, reason, gate, effects);
            return;
        }
        let sure_ms = gate.remaining_ms().saturating_sub(MARGIN_MS);
        if self.busy.contains_key(&old) || gate.now < self.retry_at || sure_ms < MARGIN_MS {
            return;
        }
        if reopen.step == Step::Unfence && self.old.as_ref().is_some_and(|old| old.settings.writable()) {
            self.reopened(reopen.phase, self.record.message.clone(), gate, effects);
            return;
        }
        if reopen.step != Step::Open {
            // Only now can they connect; the epoch may need their acknowledgements.
            self.start_held(gate, effects);
        }
        let wait_count = self.record.wait_count;
        let (action, budget_ms) = match reopen.step {
            Step::Open => (Action::SetReadOnly, ACTION_MS),
            Step::Claim => (Action::Claim { epoch: self.record.epoch, valid_ms: sure_ms }, ACTION_MS),
            Step::SemiSync => (Action::SemiSyncSource { on: true, wait_count }, ACTION_MS),
            Step::Epoch => (
                Action::WriteEpoch {
                    epoch: self.record.epoch,
                    old_primary: Some(old.clone()),
                    wait_ms: EPOCH_WAIT_MS.min(sure_ms),
                },
                EPOCH_WAIT_MS.saturating_add(MARGIN_MS),
            ),
            Step::Unfence => (Action::Unfence, ACTION_MS),
        };
        self.act(gate, &old, action, budget_ms.min(sure_ms), effects);
    }

    /// An action on the old primary ended while it is opened again: on to the next, or again from the claim.
    pub(super) fn reopen_acted(
        &mut self,
        gate: Gate,
        action: &Action,
        seen: Option<&Observation>,
        error: Option<String>,
    ) {
        let waits = self.record.wait_count > 0;
        let Some(reopen) = &mut self.reopen else { return };
        reopen.open = seen.is_some_and(|seen| seen.settings.writable());
        reopen.step = match (action, &error) {
            (Action::SetReadOnly, None) => Step::Claim,
            (Action::Claim { .. }, None) if waits => Step::SemiSync,
            (Action::Claim { .. } | Action::SemiSyncSource { .. }, None) => Step::Epoch,
            (Action::WriteEpoch { .. }, None) => Step::Unfence,
            (_, None) => reopen.step,
            (Action::SetReadOnly | Action::Fence, Some(_)) => Step::Open,
            (_, Some(_)) => Step::Claim,
        };
        if error.is_some() {
            reopen.error = error;
            self.retry_at = gate.now.plus_ms(RETRY_MS);
        }
    }

    /// Its replicas follow it again, and that is the end.
    fn reopened(&mut self, phase: Phase, reason: String, gate: Gate, effects: &mut Vec<Effect>) {
        self.record.message = reason;
        self.enter_restoring(phase, gate, effects);
    }
}
