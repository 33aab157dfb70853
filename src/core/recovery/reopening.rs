//! The primary there was becomes the primary of the new reign itself: when a forced recovery comes to nothing
//! after it was fenced (safety.md, "Failing over", 10), and when it came back and refuses writes.
//!
//! The same steps as for any new primary, in the same order, so that a leader that slept can do no harm.

use super::{
    Phase,
    force::{Reopen, Step},
    machine::{ACTION_MS, Effect, Gate, Machine, RETRY_MS, Stage},
    promoting::{EPOCH_WAIT_MS, MARGIN_MS},
};
use crate::core::{
    observation::{Channel, Observation, Receiver},
    snapshot::hearing::no_connection,
    step::{Action, ActionError},
    version::Flavor,
};

/// How long it is tried, in milliseconds.
const REOPEN_MS: u64 = 30_000;

impl Machine {
    pub(super) fn old_must_be_reopened(&self) -> bool {
        self.force.as_ref().is_some_and(|force| force.touched)
    }

    pub(super) fn enter_reopening(&mut self, phase: Phase, gate: Gate, effects: &mut Vec<Effect>) {
        let shown = if self.record.cause.reopens() { Phase::Promoting } else { Phase::Fencing };
        self.enter(Stage::Reopen, shown, gate);
        self.record.new_primary = None;
        // Whoever executed this before may have come to the end.
        let seen = self.old_lives.clone().filter(|_| self.record.cause.reopens());
        self.reopen = Some(Reopen { phase, step: Step::Open, seen, error: None, gone: false });
        if self.record.cause.reopens() {
            // A replica that boots without replication cannot acknowledge before it is started.
            for (addr, member) in &mut self.members {
                let rests = member.seen.as_ref().is_some_and(|seen| seen.channels.iter().any(|one| rests(seen, one)));
                let silent =
                    self.kept.contains(addr) && member.seen.as_ref().is_some_and(|seen| !seen.semi_sync.replica_active);
                member.held |= (rests || silent) && !self.policy.maintenance.contains(addr);
            }
        }
        self.old_fenced = false;
        effects.push(Effect::Save);
    }

    pub(super) fn advance_reopening(&mut self, gate: Gate, effects: &mut Vec<Effect>) {
        let Some(reopen) = self.reopen.clone() else { return };
        let old = self.record.old_primary.clone();
        let died = reopen.gone && self.record.cause.reopens();
        if gate.now.since_ms(self.stage_since) >= REOPEN_MS || died {
            let error = reopen.error.unwrap_or_else(|| "it does not answer".to_owned());
            let left = format!("{old} may be left fenced: {error}");
            let begun = std::mem::take(&mut self.record.message);
            self.record.message = if begun.is_empty() { left } else { format!("{begun}; {left}") };
            self.enter_restoring(Phase::Failed, gate, effects);
            return;
        }
        let sure_ms = gate.remaining_ms().saturating_sub(MARGIN_MS);
        if self.busy.contains_key(&old) || gate.now < self.retry_at || sure_ms < MARGIN_MS {
            return;
        }
        if reopen.seen.as_ref().is_some_and(|seen| seen.settings.writable()) {
            self.reopened(reopen.phase, gate, effects);
            return;
        }
        if reopen.step != Step::Open {
            // Only now can they connect; the epoch may need their acknowledgements.
            self.start_held(gate, effects);
        }
        let (action, budget_ms) = match reopen.step {
            Step::Open => (Action::SetReadOnly, ACTION_MS),
            Step::Claim => (Action::Claim { epoch: self.record.epoch, valid_ms: sure_ms }, ACTION_MS),
            Step::SemiSync => (self.waits_for_ackers(reopen.seen.as_ref()), ACTION_MS),
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
        error: Option<&ActionError>,
    ) {
        let kept = self.policy.semi_sync.is_some() && seen.is_some_and(|seen| seen.semi_sync.source.is_some());
        let waits = self.record.wait_count > 0 || kept;
        let Some(reopen) = &mut self.reopen else { return };
        reopen.step = match (action, error) {
            (Action::SetReadOnly, None) => Step::Claim,
            (Action::Claim { .. }, None) if waits => Step::SemiSync,
            (Action::Claim { .. } | Action::SemiSyncSource { .. } | Action::LosslessSemiSync { .. }, None) => {
                Step::Epoch
            }
            (Action::WriteEpoch { .. }, None) => Step::Unfence,
            (_, None) => reopen.step,
            (Action::SetReadOnly | Action::Fence, Some(_)) => Step::Open,
            (_, Some(_)) => Step::Claim,
        };
        reopen.seen = seen.cloned();
        if let Some(error) = error {
            reopen.gone = error.found_no_process();
            reopen.error = Some(error.to_string());
            self.retry_at = gate.now.plus_ms(RETRY_MS);
        }
    }

    /// It accepts writes; its replicas follow it again, and that is the end.
    fn reopened(&mut self, phase: Phase, gate: Gate, effects: &mut Vec<Effect>) {
        if phase == Phase::Succeeded {
            self.record.new_primary = Some(self.record.old_primary.clone());
            let now = Some(self.elapsed(gate));
            (self.record.timings.writable, self.record.timings.completed) = (now, now);
        }
        self.enter_restoring(phase, gate, effects);
    }
}

/// Whether a receiver is stopped, for no reason of its own, and nothing is lost when it is started.
fn rests(seen: &Observation, channel: &Channel) -> bool {
    let reason = channel.receiver_error.as_ref().is_some_and(|error| !no_connection(error));
    let discards = seen.identity.version.flavor == Flavor::MariaDb && !channel.drained(&seen.executed);
    channel.receiver == Receiver::Stopped && !reason && !discards
}
