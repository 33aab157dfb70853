//! The primary there was becomes the primary of the new reign itself: when a forced recovery comes to nothing
//! after it was fenced (safety.md, "Failing over", 10), and when it came back and refuses writes.
//!
//! The same steps as for any new primary, in the same order, so that a leader that slept can do no harm.

use std::collections::BTreeSet;

use super::{
    Phase,
    force::{Reopen, Step},
    machine::{ACTION_MS, Effect, Gate, Machine, RETRY_MS},
    promoting::{EPOCH_WAIT_MS, MARGIN_MS},
    stage::Stage,
};
use crate::core::{
    gtid::GtidSet,
    id::ServerAddr,
    observation::{Channel, Observation, Receiver},
    snapshot::hearing::no_connection,
    step::{Action, ActionError},
};

/// How long it is tried, in milliseconds.
const REOPEN_MS: u64 = 30_000;

impl Machine {
    pub(super) fn old_must_be_reopened(&self) -> bool {
        self.force.as_ref().is_some_and(|force| force.touched)
    }

    pub(super) fn enter_reopening(&mut self, phase: Phase, gate: Gate, effects: &mut Vec<Effect>) {
        let reopens = self.record.cause.reopens();
        self.enter(Stage::Reopen, if reopens { Phase::Promoting } else { Phase::Fencing }, gate);
        self.record.new_primary = None;
        // Whoever executed this before may have come to the end.
        let seen = self.old_lives.clone().filter(|_| reopens);
        let done = BTreeSet::new();
        self.reopen = Some(Reopen { phase, step: Step::Open, seen, error: None, gone: false, told: false, done });
        if reopens {
            let due: Vec<_> = self.members.keys().filter(|addr| self.next_start(addr).is_some()).cloned().collect();
            for (addr, member) in &mut self.members {
                member.held |= due.contains(addr);
            }
        }
        self.old_fenced = false;
        effects.push(Effect::Save);
    }

    /// What a replica of a primary that is opened again still needs: it may have booted without replication, and then
    /// it neither applies nor acknowledges. Only who is written down may acknowledge.
    pub(super) fn next_start(&self, addr: &ServerAddr) -> Option<(Action, u64)> {
        let seen = self.members.get(addr)?.seen.as_ref().filter(|_| self.policy.rests(addr).is_none())?;
        let was =
            |action: &Action| self.reopen.as_ref().is_some_and(|it| it.done.contains(&(addr.clone(), action.name())));
        let listed = self.kept.as_ref().map(|kept| kept.ackers.contains(addr));
        let wish = match listed {
            Some(true) => !seen.semi_sync.replica_active,
            Some(false) => seen.semi_sync.replica_enabled == Some(true),
            None => false,
        };
        let acknowledge = wish.then_some(Action::Acknowledge { on: listed == Some(true) });
        let idle = |channel: &Channel| !channel.applier_running && channel.applier_error.is_none();
        let applier = seen.channels.iter().any(idle).then_some(Action::StartApplier);
        let receiver = seen.channels.iter().any(rests).then_some(Action::StartReceiver);
        let due = [applier, acknowledge, receiver].into_iter().flatten();
        due.into_iter().find(|action| !was(action)).map(|action| (action, ACTION_MS.saturating_mul(2)))
    }

    /// A look at another server, or at the primary itself, may tell that it is not to be opened after all.
    pub(super) fn object(&mut self, server: &ServerAddr, seen: &Observation) {
        let Some(reopen) = self.reopen.as_ref().filter(|_| self.record.cause.reopens()) else { return };
        // From the epoch on others may have what an older look at the primary does not show.
        if !matches!(reopen.step, Step::Open | Step::Claim | Step::SemiSync) {
            return;
        }
        let primary = reopen.seen.as_ref().or(self.old.as_ref());
        // Once the epoch was said there, an acker may have it while it still waits to be acknowledged.
        let waits = |primary: &Observation, set: GtidSet| match reopen.told {
            true => set.subtract(&set.of_source(&primary.identity.uuid)),
            false => set,
        };
        let lacking = primary.map(|primary| waits(primary, seen.total().subtract(&primary.executed)));
        let lacking = lacking.unwrap_or_default();
        let objection = match *server == self.record.old_primary {
            true => (!seen.channels.is_empty()).then(|| "it is a replica by now".to_owned()),
            false if seen.settings.writable() => Some(format!("{server} accepts writes by now")),
            false => (!lacking.is_empty()).then(|| format!("{server} has transactions that it lacks ({lacking})")),
        };
        self.objection = self.objection.take().or(objection);
    }

    pub(super) fn advance_reopening(&mut self, gate: Gate, effects: &mut Vec<Effect>) {
        let Some(reopen) = self.reopen.clone() else { return };
        let old = self.record.old_primary.clone();
        let opened = reopen.seen.as_ref().is_some_and(|seen| seen.settings.writable());
        let died = reopen.gone && self.record.cause.reopens();
        if gate.now.since_ms(self.stage_since) >= REOPEN_MS || died {
            let error = reopen.error.unwrap_or_else(|| "it does not answer".to_owned());
            let left = format!("{old} may be left fenced: {error}");
            let begun = std::mem::take(&mut self.record.message);
            self.record.message = if begun.is_empty() { left } else { format!("{begun}; {left}") };
            self.enter_restoring(Phase::Failed, gate, effects);
            return;
        }
        if let Some(objection) = self.objection.clone().filter(|_| !opened && !self.busy.contains_key(&old)) {
            self.record.message = objection;
            for member in self.members.values_mut() {
                member.held = false;
            }
            self.enter_restoring(Phase::Failed, gate, effects);
            return;
        }
        let sure_ms = gate.remaining_ms().saturating_sub(MARGIN_MS);
        if self.busy.contains_key(&old) || gate.now < self.retry_at || sure_ms < MARGIN_MS {
            return;
        }
        if opened {
            self.reopened(reopen.phase, gate, effects);
            return;
        }
        if reopen.step != Step::Open {
            // Only now can they connect; the epoch may need their acknowledgements.
            self.start_held(gate, effects);
        }
        if let Some(known) = self.reopen.as_mut().filter(|known| known.step == Step::Epoch) {
            known.told = true;
        }
        let (action, budget_ms) = match reopen.step {
            Step::Open => (Action::SetReadOnly, ACTION_MS),
            Step::Claim => (Action::Claim { epoch: self.record.epoch, valid_ms: sure_ms }, ACTION_MS),
            Step::SemiSync => (self.waits(), ACTION_MS),
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
        let kept = self.kept.is_some() && seen.is_some_and(|seen| seen.semi_sync.source.is_some());
        let waits = self.record.wait_count > 0 || kept;
        let Some(reopen) = &mut self.reopen else { return };
        reopen.step = match (action, error) {
            (Action::SetReadOnly, None) => Step::Claim,
            (Action::Claim { .. }, None) if waits => Step::SemiSync,
            (Action::Claim { .. } | Action::SemiSyncSource { .. } | Action::LosslessSemiSync { .. }, None) => {
                Step::Epoch
            }
            // Without the privilege the row is left out; the claim has stopped lower epochs all the same.
            (Action::WriteEpoch { .. }, None | Some(ActionError::Refused { .. })) => Step::Unfence,
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

    /// Switches on what its commits wait for.
    fn waits(&self) -> Action {
        match &self.kept {
            Some(kept) => Action::LosslessSemiSync { acks: kept.acks, on: true },
            None => Action::SemiSyncSource { on: true, wait_count: self.record.wait_count },
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

/// Whether a receiver is stopped, and for no reason of its own.
fn rests(channel: &Channel) -> bool {
    let reason = channel.receiver_error.as_ref().is_some_and(|error| !no_connection(error));
    channel.receiver == Receiver::Stopped && !reason
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        core::{analysis::Code, id::Epoch, recovery::Cause, time::Mono},
        testing::snapshot::{Cluster, addr, policy, transactions},
    };

    /// An acker has the epoch before the primary shows it; what else it has more speaks against opening the primary.
    #[test]
    fn an_epoch_that_waits_is_no_objection() {
        let mut cluster = Cluster::primary_and_replicas(2);
        let snapshot = cluster.look();
        let objects = |told: bool, number: u32, last: u64| {
            let analysis = Code::NoWritablePrimary.name().to_owned();
            let cause = Cause { analysis, server: addr("p"), reason: String::new() };
            let mut machine = Machine::new(&snapshot, &policy(), cause, Epoch(7), "a", Mono(0));
            let (phase, done) = (Phase::Failed, BTreeSet::new());
            let reopen = Reopen { phase, step: Step::Claim, seen: None, error: None, gone: false, told, done };
            (machine.reopen, machine.objection) = (Some(reopen), None);
            let mut seen = snapshot.last(&addr("r1")).cloned().unwrap();
            seen.executed = seen.executed.union(&transactions(number, last));
            machine.object(&addr("r1"), &seen);
            machine.objection.is_some()
        };
        assert!(objects(false, 1, 101) && !objects(true, 1, 101), "the primary's own");
        assert!(objects(true, 3, 1), "another one's");
        assert!(!objects(false, 1, 100), "nothing more");
    }
}
