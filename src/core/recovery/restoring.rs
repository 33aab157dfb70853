//! The end without a promotion: what was stopped is started again towards the source it has (safety.md,
//! "Failing over", 10).
//!
//! The record is finished only then: a leader that dies in between leaves an unfinished one, and the
//! next leader comes to the same end.

use super::{
    Phase,
    machine::{ACTION_MS, Effect, Gate, Machine, RETRY_MS, Stage},
    promoting::FAILURES_MAX,
};
use crate::core::step::Action;

impl Machine {
    /// Gives up for `reason`; `phase` is what the record ends as.
    pub(super) fn give_up(&mut self, phase: Phase, reason: String, gate: Gate, effects: &mut Vec<Effect>) {
        self.record.message = reason;
        for member in self.members.values_mut() {
            member.failures = 0;
        }
        if self.old_must_be_reopened() {
            self.enter_reopening(phase, gate, effects);
        } else {
            self.enter_restoring(phase, gate, effects);
        }
    }

    pub(super) fn enter_restoring(&mut self, phase: Phase, gate: Gate, effects: &mut Vec<Effect>) {
        self.enter(Stage::Restore(phase), self.record.phase, gate);
        self.advance_restoring(phase, gate, effects);
    }

    /// Starts the receivers that this recovery may have stopped and that are not being worked on.
    pub(super) fn start_held(&mut self, gate: Gate, effects: &mut Vec<Effect>) {
        let held = self.members.iter().filter(|(_, member)| member.held && member.failures < FAILURES_MAX);
        let held: Vec<_> = held.map(|(addr, _)| addr.clone()).collect();
        for addr in &held {
            self.act(gate, addr, Action::StartReceiver, ACTION_MS, effects);
        }
    }

    pub(super) fn advance_restoring(&mut self, phase: Phase, gate: Gate, effects: &mut Vec<Effect>) {
        let held = self.members.iter().filter(|(_, member)| member.held && member.failures < FAILURES_MAX);
        let done = held.count() == 0;
        if gate.now >= self.retry_at {
            self.retry_at = gate.now.plus_ms(RETRY_MS);
            self.start_held(gate, effects);
        }
        if !done || self.members.keys().any(|addr| self.busy.contains_key(addr)) {
            return;
        }
        let left = self.members.iter().filter(|(_, member)| member.held);
        let left: Vec<_> = left.map(|(addr, _)| addr.to_string()).collect();
        if !left.is_empty() {
            let servers = left.join(", ");
            self.record.message.push_str(&format!("; receivers may still be stopped on {servers}"));
        }
        self.enter(Stage::Done, phase, gate);
        effects.push(Effect::Save);
        effects.push(Effect::Finish);
    }
}
