//! After the new primary is writable and routed: the other replicas follow it, what cannot follow is
//! listed, the record is closed.

use super::{
    Phase,
    machine::{ACTION_MS, Effect, Gate, Machine},
    stage::Stage,
};
use crate::core::{id::ServerAddr, step::Action};

/// How long the other replicas are waited for before the rest is left to housekeeping, in milliseconds.
const COMPLETE_MS: u64 = 30_000;

impl Machine {
    pub(super) fn enter_completing(&mut self, gate: Gate, effects: &mut Vec<Effect>) {
        self.enter(Stage::Complete, Phase::Writable, gate);
        self.record.message = String::new();
        effects.push(Effect::Save);
        // Also before it is left: who starts again with a source looks like a replica of it.
        if let Some(winner) = self.record.new_primary.clone() {
            self.act(gate, &winner, Action::ForgetSource, ACTION_MS, effects);
        }
        if self.leaves_when_writable() {
            self.stage = Stage::Leave;
            return;
        }
        for member in self.members.values_mut() {
            member.failures = 0;
        }
    }

    pub(super) fn advance_completion(&mut self, gate: Gate, effects: &mut Vec<Effect>) {
        let winner = self.record.new_primary.clone();
        let others: Vec<_> = self.members.keys().filter(|addr| Some(*addr) != winner.as_ref()).cloned().collect();
        for addr in &others {
            self.move_replica(addr, gate, effects);
        }
        let busy = self.busy.keys().any(|addr| *addr != self.record.old_primary);
        let in_doubt = self.members.values_mut().any(|member| member.in_doubt(gate.now));
        if (busy || in_doubt) && gate.now.since_ms(self.stage_since) < COMPLETE_MS {
            return;
        }
        let follows = |addr: &ServerAddr| self.members.get(addr).is_some_and(|member| member.follows);
        let left: Vec<_> = others.into_iter().filter(|addr| !follows(addr)).collect();
        let (lost, pending) = left.into_iter().partition(|addr| self.lost_reason(addr).is_some());
        self.record.lost_replicas = lost;
        self.record.pending_replicas = pending;
        self.record.timings.completed = Some(self.elapsed(gate));
        // A replica that was waited for is pending now.
        self.record.message = String::new();
        self.enter(Stage::Done, Phase::Succeeded, gate);
        effects.push(Effect::Save);
        effects.push(Effect::Finish);
    }
}
