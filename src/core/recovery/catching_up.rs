//! The chosen server gets from the most advanced one what it lacks, before anything else is done to it (safety.md,
//! "Failing over", 5). Both keep away from the old primary all the while, so the fence holds.

use super::{
    Phase,
    machine::{ACTION_MS, Effect, Gate, Machine},
    promoting::{DRAIN_SLICE_MS, FAILURES_MAX, source_side_off},
    stage::Stage,
};
use crate::core::{
    candidate::CatchUp,
    durability::source_side_on,
    id::ServerAddr,
    observation::{Channel, Receiver},
    step::Action,
};

impl Machine {
    /// True: the chosen server has everything. Else what is due for that is under way.
    pub(super) fn caught_up(&mut self, gate: Gate, effects: &mut Vec<Effect>) -> bool {
        let Some((CatchUp { from, patience_ms }, winner)) = self.catch_up.clone().zip(self.record.new_primary.clone())
        else {
            return true;
        };
        if self.has_caught_up(&winner) {
            self.catch_up = None;
            self.record.message = String::new();
            return true;
        }
        if patience_ms.is_some_and(|patience_ms| gate.now.since_ms(self.stage_since) >= patience_ms) {
            self.reject_winner(gate, &format!("it took too long to get from {from} what it lacks"));
            return false;
        }
        if self.members.get(&from).is_some_and(|member| member.failures >= FAILURES_MAX) {
            // Whoever answers now decides anew, and whether without it nothing was lost.
            self.catch_up = None;
            self.back_to_fence(gate);
            self.members.values_mut().for_each(|member| member.stopped = false);
            return false;
        }
        if self.record.message.is_empty() {
            self.record.message = format!("{winner} gets from {from} what it lacks");
            effects.push(Effect::Save);
        }
        // What one of them only received the other cannot get, and another source would discard.
        for server in [&from, &winner] {
            if !self.busy.contains_key(server)
                && gate.now >= self.retry_at
                && !self.takes_from(&winner, &from)
                && let Some((action, budget_ms)) = self.drain(server, gate)
            {
                self.act(gate, server, action, budget_ms, effects);
            }
        }
        let drained = self.drained(&from) && self.drained(&winner);
        if self.busy.contains_key(&winner) || gate.now < self.retry_at {
            return false;
        }
        // An earlier leader may have switched it on already (M10).
        let waits =
            self.members.get(&winner).and_then(|member| member.seen.as_ref()).filter(|seen| source_side_on(seen));
        if let Some(seen) = waits {
            let off = source_side_off(seen);
            self.act(gate, &winner, off, ACTION_MS, effects);
        } else if self.has_all(&winner) {
            self.act(gate, &winner, Action::StopReceiver, ACTION_MS, effects);
        } else if self.takes_from(&winner, &from) {
            let set = self.record.promoted_set.clone().unwrap_or_default();
            let wait = Action::WaitApplied { set, wait_ms: DRAIN_SLICE_MS };
            self.act(gate, &winner, wait, DRAIN_SLICE_MS.saturating_add(ACTION_MS), effects);
        } else if drained {
            let repoint = Action::Repoint { source: from, semi_sync: None };
            self.act(gate, &winner, repoint, ACTION_MS.saturating_mul(2), effects);
        }
        false
    }

    /// Whether a server replicates from another one because this recovery wants it so.
    pub(super) fn catches_up(&self, server: &ServerAddr, channel: &Channel) -> bool {
        let from = self.catch_up.as_ref().map(|catch_up| &catch_up.from);
        self.stage == Stage::Promote
            && self.record.phase == Phase::Promoting
            && self.record.new_primary.as_ref() == Some(server)
            && from.is_some()
            && channel.source.as_ref() == from
    }

    fn has_all(&self, winner: &ServerAddr) -> bool {
        let seen = self.members.get(winner).and_then(|member| member.seen.as_ref());
        seen.zip(self.record.promoted_set.as_ref()).is_some_and(|(seen, set)| seen.executed.contains(set))
    }

    fn has_caught_up(&self, winner: &ServerAddr) -> bool {
        let seen = self.members.get(winner).and_then(|member| member.seen.as_ref());
        let stopped = |channel: &Channel| channel.receiver == Receiver::Stopped;
        self.has_all(winner) && seen.is_some_and(|seen| seen.channels.iter().all(stopped))
    }

    fn takes_from(&self, winner: &ServerAddr, from: &ServerAddr) -> bool {
        let seen = self.members.get(winner).and_then(|member| member.seen.as_ref());
        let takes = |channel: &Channel| channel.source.as_ref() == Some(from) && channel.receiver != Receiver::Stopped;
        seen.is_some_and(|seen| seen.channels.iter().any(takes))
    }
}
