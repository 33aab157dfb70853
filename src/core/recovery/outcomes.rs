//! What the machine learns when something it asked for has ended.

use super::{
    Outcome, Phase, StepRecord,
    machine::{ACTION_MS, Effect, Gate, Machine, RETRY_MS},
    member::receivers_stopped,
    stage::Stage,
};
use crate::core::{
    id::ServerAddr,
    observation::{Channel, Observation, Receiver},
    policy::OldPrimary,
    rules::{Rule, holds},
    snapshot::forgot::Forgot,
    step::{Action, ActionError},
};

/// How long it is tried to close the record, in milliseconds.
const CLOSE_MS: u64 = 10_000;

impl Machine {
    pub(super) fn begin(&mut self, gate: Gate, effects: &mut Vec<Effect>) {
        effects.push(Effect::Begin);
        if !holds(Rule::IntentFirst) {
            self.enter_fencing(gate, effects);
        }
    }

    pub(super) fn on_begun(&mut self, gate: Gate, result: Result<(), String>, effects: &mut Vec<Effect>) {
        match result {
            Ok(()) => {
                self.record.timings.recorded = Some(self.elapsed(gate));
                self.start_job(effects);
                if self.leaves_at_once() {
                    self.enter(Stage::Leave, Phase::Pending, gate);
                } else {
                    self.enter_first(gate, effects);
                }
            }
            // Nothing was done to any server: nothing to restore.
            Err(reason) => {
                self.record.message = reason;
                self.stage = Stage::Done;
                effects.push(Effect::Finish);
            }
        }
    }

    pub(super) fn on_saved(&mut self, gate: Gate, choice: Option<ServerAddr>, done: bool) {
        // A record that is left open is carried on by whoever reads it.
        let closing = self.stage == Stage::Done && gate.now.since_ms(self.stage_since) < CLOSE_MS;
        if done {
            self.saved_choice = choice;
        } else if self.stage != Stage::Done || closing {
            self.save_again_at = Some(gate.now.plus_ms(RETRY_MS));
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
            (None, Ok(())) => self.withdrawn = true,
            (None, Err(_)) => self.withdraw_at = gate.now.plus_ms(RETRY_MS),
            (Some(_), Ok(())) if self.stage == Stage::Route => {
                // Who takes over routes again.
                let routed = self.elapsed(gate);
                self.record.timings.routed.get_or_insert(routed);
                self.enter_completing(gate, effects);
            }
            (Some(_), Ok(())) => {}
            (Some(_), Err(reason)) => {
                self.record.message = format!("routing: {reason}");
                self.retry_at = gate.now.plus_ms(RETRY_MS);
            }
        }
    }

    /// The old primary is back: before the choice nothing has to happen, after it it must be fenced, as
    /// often as it comes back writable.
    pub(super) fn old_answers(&mut self, gate: Gate, seen: Observation, effects: &mut Vec<Effect>) {
        if self.stage == Stage::Reopen {
            let old = self.record.old_primary.clone();
            self.object(&old, &seen);
        }
        if self.was_before_fence(&seen) {
            return;
        }
        self.old_refused = false;
        // What was acknowledged for a server that was chosen since, it does not have.
        if !self.members.values().any(|member| member.opened) {
            self.members
                .values_mut()
                .filter_map(|member| member.forgot.as_mut())
                .for_each(|forgot| forgot.owe(&seen, false));
        }
        self.presume_alive(effects);
        let (open, began) = (seen.settings.writable(), seen.began());
        self.shortage.old = Some(&seen).filter(|_| !open && began >= self.first_sign).cloned();
        self.old_lives = Some(seen).filter(|_| open);
        let promoting = matches!(self.stage, Stage::Promote | Stage::Route | Stage::Complete);
        if self.old_lives.is_some() && (promoting || self.may_still_fence()) {
            self.old_fenced = false;
            self.fence_old(gate, effects);
        } else if self.old_lives.is_some() && self.stage == Stage::Fence {
            self.old_fenced = false;
        }
    }

    /// Somebody else, or a restart of the server, may have started receivers that were stopped: then it
    /// may acknowledge again, and what it was seen to have is not all.
    pub(super) fn looked(&mut self, gate: Gate, server: &ServerAddr, seen: &Observation) {
        let winner = self.record.new_primary.clone();
        if self.stage == Stage::Reopen {
            self.object(server, seen);
        }
        if seen.channels.iter().any(|channel| self.catches_up(server, channel)) {
            return;
        }
        let stage = self.stage;
        let Some(member) = self.members.get_mut(server) else { return };
        member.settle(seen, winner.as_ref());
        let newer = member.seen.as_ref().is_none_or(|known| seen.began() > known.at);
        if newer && member.follows && stage == Stage::Promote && receivers_stopped(seen) {
            // It was started again: nobody else starts it, and it may be the acker that is waited for.
            (member.follows, member.stopped, member.failures) = (false, true, 0);
            member.seen = Some(seen.clone());
        }
        if !member.stopped || member.follows {
            return;
        }
        let away = |channel: &Channel| channel.receiver == Receiver::Stopped || channel.source == winner;
        if newer && !seen.channels.iter().all(away) {
            member.stopped = false;
            let opened = winner.as_ref().and_then(|addr| self.members.get(addr));
            if self.stage == Stage::Promote && !opened.is_some_and(|member| member.opened) && !self.fenced() {
                self.back_to_fence(gate);
            }
        }
    }

    pub(super) fn fence_old(&mut self, gate: Gate, effects: &mut Vec<Effect>) {
        if !self.old_refused && !self.old_fenced && self.policy.failover.old_primary != OldPrimary::Leave {
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
        let winner = self.record.new_primary.clone();
        let Some(member) = self.members.get_mut(server) else {
            return;
        };
        match &result {
            Ok(seen) => {
                let before = member.seen.as_ref().map_or(0, |seen| seen.executed.count());
                if seen.executed.count() != before {
                    self.progress_at = gate.now;
                }
                let returned = member.error.is_some();
                member.forgot = Forgot::fold(member.forgot.take(), member.seen.as_ref(), seen, returned);
                member.seen = Some((**seen).clone());
                member.error = None;
                member.failures = 0;
                member.gone = false;
                member.done(action, seen, winner.as_ref());
            }
            Err(error) => {
                member.gone = error.found_no_process();
                member.error = Some(error.to_string());
                member.failures = member.failures.saturating_add(1);
            }
        }
        if let Some(reopen) = self.reopen.as_mut().filter(|_| result.is_ok()) {
            reopen.done.insert((server.clone(), action.name()));
        }
        self.moved_after_all(server, action, result.is_ok());
        if self.stage == Stage::Promote && winner.as_ref() == Some(server) {
            self.winner_acted(gate, action, result.err().as_ref());
        }
    }
}
