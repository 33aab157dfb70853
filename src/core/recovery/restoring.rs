//! The end without a promotion: what was stopped is started again towards the old primary, and what had
//! been moved already is moved back (safety.md, "Failing over", 10).
//!
//! The record is finished only then: a leader that dies in between leaves an unfinished one, and the
//! next leader comes to the same end.

use super::{
    Phase,
    machine::{ACTION_MS, Effect, Gate, Machine, RETRY_MS},
    promoting::FAILURES_MAX,
    stage::Stage,
};
use crate::core::{
    gtid::GtidSet,
    id::ServerAddr,
    observation::{Channel, Observation},
    rules::{Rule, holds},
    step::Action,
};

impl Machine {
    /// Gives up for `reason`; `phase` is what the record ends as. Not while clients may have written to a
    /// server that was chosen: it is waited for, and then it may be chosen again.
    pub(super) fn give_up(&mut self, phase: Phase, reason: String, gate: Gate, effects: &mut Vec<Effect>) {
        if !self.untouched() && holds(Rule::OpenedStays) {
            let members = &self.members;
            self.rejected.retain(|addr, _| members.get(addr).is_none_or(|member| !member.stopped));
            let reason = format!("blocked: {reason}; a server that was chosen before may have been written to");
            if self.record.message != reason {
                self.record.message = reason;
                effects.push(Effect::Save);
            }
            return;
        }
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
            let way = if self.record.cause.reopens() { self.next_start(addr) } else { Some(self.way_back(addr)) };
            match way {
                Some((action, budget_ms)) => self.act(gate, addr, action, budget_ms, effects),
                None => self.members.get_mut(addr).into_iter().for_each(|member| member.held = false),
            }
        }
    }

    /// A replica that had been moved under a server that was chosen is moved back, unless it has something
    /// that the old primary may lack; any other has its source still. Only what is stopped can get no more.
    fn way_back(&self, addr: &ServerAddr) -> (Action, u64) {
        let moved = |channel: &Channel| channel.source.as_ref().is_some_and(|source| self.members.contains_key(source));
        let member = self.members.get(addr);
        let seen = member.and_then(|member| member.seen.as_ref());
        let back = seen.is_some_and(|seen| seen.channels.iter().any(moved) && self.strays(seen).is_empty());
        if !back {
            return (Action::StartReceiver, ACTION_MS);
        }
        if !member.is_some_and(|member| member.stopped) {
            return (Action::StopReceiver, ACTION_MS);
        }
        let acks = self.record.wait_count > 0 && self.durability.ackers.contains(addr);
        let source = self.record.old_primary.clone();
        (Action::Repoint { source, semi_sync: acks.then_some(true) }, ACTION_MS.saturating_mul(2))
    }

    /// A receiver was started, and what it showed then: nobody had known that the replica had been moved. Or it was
    /// moved for a while only, to catch up.
    pub(super) fn moved_after_all(&mut self, addr: &ServerAddr, action: &Action, done: bool) {
        let from = self.catch_up.as_ref().map(|catch_up| &catch_up.from);
        let back = done
            && match action {
                Action::StartReceiver => self.way_back(addr).0 != Action::StartReceiver,
                Action::Repoint { source, .. } => self.stage == Stage::Promote && from == Some(source),
                _ => false,
            };
        if let Some(member) = self.members.get_mut(addr).filter(|_| back) {
            member.held = true;
        }
    }

    /// What a server has that neither the old primary wrote nor was seen on it.
    fn strays(&self, seen: &Observation) -> GtidSet {
        let total = seen.total();
        let old_uuid = self.record.old_primary_uuid.as_deref().unwrap_or_default();
        let old = self.old_lives.as_ref().or(self.old.as_ref());
        // One that is back may have lost some of what it had.
        let recorded = self.record.old_primary_set.as_ref().filter(|_| self.old_lives.is_none());
        let own = total.subtract(&total.of_source(old_uuid));
        recorded.into_iter().chain(old.map(|old| &old.executed)).fold(own, |own, known| own.subtract(known))
    }

    pub(super) fn advance_restoring(&mut self, phase: Phase, gate: Gate, effects: &mut Vec<Effect>) {
        let held = self
            .members
            .iter()
            .filter(|(_, member)| member.held && member.failures < FAILURES_MAX && holds(Rule::GiveUpRestores));
        let done = held.count() == 0;
        if gate.now >= self.retry_at && holds(Rule::GiveUpRestores) {
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
            let left = format!("receivers may still be stopped on {servers}");
            let before = std::mem::take(&mut self.record.message);
            self.record.message = if before.is_empty() { left } else { format!("{before}; {left}") };
        }
        self.enter(Stage::Done, phase, gate);
        effects.push(Effect::Save);
        effects.push(Effect::Finish);
    }
}
