//! What the machine learns when something it asked for has ended.

use super::{
    Outcome, Phase, StepRecord,
    machine::{ACTION_MS, Effect, Gate, Machine, RETRY_MS, Stage},
};
use crate::core::{
    id::ServerAddr,
    observation::Observation,
    policy::OldPrimary,
    step::{Action, ActionError},
    time::Mono,
};

impl Machine {
    pub(super) fn on_begun(&mut self, gate: Gate, result: Result<(), String>, effects: &mut Vec<Effect>) {
        match result {
            Ok(()) => {
                self.record.timings.recorded = Some(self.elapsed(gate));
                self.enter_fencing(gate, effects);
            }
            // Nothing was done to any server: nothing to restore.
            Err(reason) => {
                self.record.message = reason;
                self.stage = Stage::Done;
                effects.push(Effect::Finish);
            }
        }
    }

    pub(super) fn on_routed(
        &mut self,
        gate: Gate,
        target: Option<&ServerAddr>,
        result: Result<(), String>,
        effects: &mut Vec<Effect>,
    ) {
        self.routing = false;
        match (target, result) {
            (None, _) => self.withdrawn = true,
            (Some(_), Ok(())) if self.stage == Stage::Route => {
                self.record.timings.routed = Some(self.elapsed(gate));
                self.enter_completing(gate, effects);
            }
            (Some(_), Ok(())) => {}
            (Some(_), Err(reason)) => {
                self.record.message = format!("routing: {reason}");
                self.retry_at = gate.now.plus_ms(RETRY_MS);
            }
        }
    }

    /// The old primary is back: before the choice nothing has to happen, after it it must be fenced.
    pub(super) fn old_answers(&mut self, gate: Gate, seen: Observation, effects: &mut Vec<Effect>) {
        let writable = seen.settings.writable();
        self.old_refused = false;
        self.presume_alive();
        let begun_at = Mono(seen.at.0.saturating_sub(seen.took_ms));
        if self.old_fenced.is_some_and(|fenced_at| begun_at <= fenced_at) {
            // From before the fence: what was seen after it says more.
            return;
        }
        if writable {
            self.old_fenced = None;
        }
        self.old = Some(seen);
        match self.stage {
            Stage::Fence if self.force.is_some() => {}
            Stage::Fence if writable && self.record.new_primary.is_none() => {
                self.give_up(Phase::Failed, "the old primary answers again".to_owned(), gate, effects);
            }
            Stage::Promote | Stage::Route | Stage::Complete if writable => self.fence_old(gate, effects),
            _ => {}
        }
    }

    pub(super) fn fence_old(&mut self, gate: Gate, effects: &mut Vec<Effect>) {
        if !self.old_refused && self.old_fenced.is_none() && self.policy.failover.old_primary != OldPrimary::Leave {
            let old = self.record.old_primary.clone();
            self.act(gate, &old, Action::Fence, ACTION_MS, effects);
        }
    }

    pub(super) fn on_acted(&mut self, gate: Gate, server: &ServerAddr, result: Result<Box<Observation>, ActionError>) {
        let Some((action, started)) = self.busy.remove(server) else {
            return;
        };
        let outcome = match &result {
            Ok(_) => Outcome::Done,
            Err(error) => Outcome::Failed(error.to_string()),
        };
        self.record.note(StepRecord {
            step: action.name().to_owned(),
            server: server.clone(),
            started_ms: started.since_ms(self.first_sign),
            took_ms: gate.now.since_ms(started),
            outcome,
        });
        if *server == self.record.old_primary {
            self.old_acted(gate, &action, result);
            return;
        }
        self.member_acted(gate, server, &action, result);
    }

    fn member_acted(
        &mut self,
        gate: Gate,
        server: &ServerAddr,
        action: &Action,
        result: Result<Box<Observation>, ActionError>,
    ) {
        let Some(member) = self.members.get_mut(server) else {
            return;
        };
        match &result {
            Ok(seen) => {
                let before = member.seen.as_ref().map_or(0, |seen| seen.executed.count());
                if seen.executed.count() != before {
                    self.progress_at = gate.now;
                }
                member.seen = Some((**seen).clone());
                member.error = None;
                member.failures = 0;
                member.stopped |= *action == Action::StopReceiver;
                member.follows |= matches!(action, Action::Repoint { .. });
            }
            Err(error) => {
                member.error = Some(error.to_string());
                member.failures = member.failures.saturating_add(1);
            }
        }
        if self.stage == Stage::Promote && self.record.new_primary.as_ref() == Some(server) {
            self.winner_acted(gate, action, result.err().as_ref());
        }
    }
}
