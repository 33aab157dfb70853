//! From the choice to a writable, routed primary.
//!
//! The winner and, under semi-sync, its first ackers are worked on side by side. Whatever fails on the
//! winner leads back to the fence, without it.

use super::{
    Phase, Verdict,
    machine::{ACTION_MS, Effect, Gate, Machine, RETRY_MS},
    member::Member,
    stage::{Stage, Winner},
};
use crate::core::{
    candidate,
    durability::source_side_on,
    id::ServerAddr,
    observation::{Channel, Observation},
    rules::{Rule, holds},
    step::{Action, ActionError},
};

/// One wait for the applier, in milliseconds; progress is looked at after each.
pub(super) const DRAIN_SLICE_MS: u64 = 250;
/// An applier without progress for this long is stuck, in milliseconds.
const DRAIN_STUCK_MS: u64 = 10_000;
/// Longest wait for the first commit on the new primary, in milliseconds.
pub(super) const EPOCH_WAIT_MS: u64 = 1500;
/// The old primary's endpoint is waited for, while it cannot be withdrawn, at most this long, in milliseconds: who has no
/// right to change it is not to stay without a primary for that.
const WITHDRAW_MS: u64 = 3000;
/// Leadership must be sure for this long before anything irrevocable starts, in milliseconds.
pub(super) const MARGIN_MS: u64 = 150;
/// Attempts on one server before it is left out.
pub(super) const FAILURES_MAX: u32 = 3;

impl Machine {
    pub(super) fn enter_promotion(&mut self, gate: Gate, effects: &mut Vec<Effect>) {
        self.enter(Stage::Promote, Phase::Promoting, gate);
        self.winner = Winner::Drain;
        effects.push(Effect::Save);
        if !holds(Rule::RouteLast) {
            effects.push(Effect::Route(self.record.new_primary.clone()));
        }
        self.fence_old(gate, effects);
    }

    pub(super) fn advance_promotion(&mut self, gate: Gate, effects: &mut Vec<Effect>) {
        if !self.caught_up(gate, effects) {
            return;
        }
        if holds(Rule::AckersFirst) {
            self.attach_ackers(gate, effects);
        }
        let Some(winner) = self.record.new_primary.clone() else {
            return;
        };
        if self.busy.contains_key(&winner) || gate.now < self.retry_at {
            return;
        }
        if let Some((action, budget_ms)) = self.next_for_winner(&winner, gate) {
            self.act(gate, &winner, action, budget_ms, effects);
        }
    }

    fn next_for_winner(&mut self, winner: &ServerAddr, gate: Gate) -> Option<(Action, u64)> {
        // A winner that was started again meanwhile may have received, and acknowledged, more.
        if self.winner == Winner::Unfence && !self.drained(winner) && holds(Rule::DrainFirst) {
            self.winner = Winner::Drain;
        }
        if self.winner == Winner::Drain {
            if gate.now.since_ms(self.progress_at) >= DRAIN_STUCK_MS && self.has_substitute(winner) {
                self.reject_winner(gate, "it makes no progress with what it received");
                return None;
            }
            if let Some(step) = self.drain(winner, gate).filter(|_| holds(Rule::DrainFirst)) {
                return Some(step);
            }
            self.winner = Winner::Claim;
        }
        let sure_ms = gate.remaining_ms().saturating_sub(MARGIN_MS);
        if sure_ms < MARGIN_MS {
            return None;
        }
        match self.winner {
            Winner::Drain => None,
            Winner::Claim => {
                Some((Action::Claim { epoch: self.record.epoch, valid_ms: sure_ms }, ACTION_MS.min(sure_ms)))
            }
            Winner::SemiSync => Some((self.source_side_on(), ACTION_MS.min(sure_ms))),
            // From here on it has transactions of its own. A leader who knows the record alone would take
            // them for strays, and with them what its clients wrote.
            Winner::Epoch if self.saved_choice != self.record.new_primary && holds(Rule::ChoiceRecorded) => None,
            Winner::Epoch => Some((
                Action::WriteEpoch {
                    epoch: self.record.epoch,
                    old_primary: Some(self.record.old_primary.clone()),
                    wait_ms: EPOCH_WAIT_MS.min(sure_ms),
                },
                EPOCH_WAIT_MS.min(sure_ms).saturating_add(MARGIN_MS),
            )),
            // One that is back would take what they write, and show them less than they have been told.
            Winner::Unfence if self.still_routed(gate) && holds(Rule::WithdrawFirst) => None,
            Winner::Unfence => {
                // An old primary that answers is fenced first; one that does not cannot be.
                let fencing = self.busy.contains_key(&self.record.old_primary);
                let fence_gave_up = gate.now.since_ms(self.stage_since) >= MARGIN_MS;
                (!fencing || fence_gave_up).then_some((Action::Unfence, ACTION_MS.min(sure_ms)))
            }
        }
    }

    /// Whether clients may be routed to the old primary, and it may still be changed that they are.
    fn still_routed(&self, gate: Gate) -> bool {
        !self.withdrawn && gate.now.since_ms(self.stage_since) < WITHDRAW_MS
    }

    /// Whether a server has applied all that it was last seen to have received.
    pub(super) fn drained(&self, server: &ServerAddr) -> bool {
        let seen = self.members.get(server).and_then(|member| member.seen.as_ref());
        seen.is_none_or(|seen| seen.channels.iter().all(|channel| channel.drained(&seen.executed)))
    }

    /// Whether another candidate has all that a chosen server received, and less of it to apply. Threads that run
    /// prove nothing: with a full disk they wait for ever.
    fn has_substitute(&self, winner: &ServerAddr) -> bool {
        let of = |addr: &ServerAddr| self.members.get(addr).filter(|member| member.stopped)?.seen.as_ref();
        let Some(stuck) = of(winner) else { return false };
        let wanted = stuck.total();
        let left = |seen: &Observation| seen.total().subtract(&seen.executed).count();
        let mut others = self.record.candidates.iter().filter(|judged| judged.verdict == Verdict::Eligible);
        others.any(|judged| {
            let seen = of(&judged.server).filter(|_| !self.rejected.contains_key(&judged.server));
            seen.is_some_and(|seen| seen.total().contains(&wanted) && left(seen) < left(stuck))
        })
    }

    /// The next action until everything received is applied; `None`: it is.
    pub(super) fn drain(&mut self, server: &ServerAddr, gate: Gate) -> Option<(Action, u64)> {
        if self.drained(server) {
            return None;
        }
        let seen = self.members.get(server)?.seen.clone()?;
        if source_side_on(&seen) {
            return Some((source_side_off(&seen), ACTION_MS));
        }
        if seen.channels.iter().any(|channel| !channel.applier_running && channel.applier_error.is_none()) {
            return Some((Action::StartApplier, ACTION_MS));
        }
        if gate.now.since_ms(self.progress_at) >= DRAIN_STUCK_MS {
            self.waits_for(server, gate);
        }
        let set = seen.total();
        Some((Action::WaitApplied { set, wait_ms: DRAIN_SLICE_MS }, DRAIN_SLICE_MS.saturating_add(ACTION_MS)))
    }

    /// Says that a server makes no progress. Of others than the chosen one nobody has to know before the end.
    fn waits_for(&mut self, server: &ServerAddr, gate: Gate) {
        let chosen = self.record.new_primary.as_ref() == Some(server);
        let message = format!("waiting for {server} to apply what it received: no progress");
        if self.record.message != message && (chosen || self.record.message.is_empty()) {
            self.record.message = message;
            if chosen {
                self.save_again_at.get_or_insert(gate.now);
            }
        }
    }

    /// The next action that brings a replica under the new primary, if one is due and possible.
    pub(super) fn move_replica(&mut self, addr: &ServerAddr, gate: Gate, effects: &mut Vec<Effect>) {
        let Some(winner) = self.record.new_primary.clone() else {
            return;
        };
        if self.members.get_mut(addr).is_none_or(|member| member.in_doubt(gate.now)) {
            return;
        }
        let Some(member) = self.members.get(addr) else {
            return;
        };
        let due = !member.follows && member.failures < FAILURES_MAX && !self.busy.contains_key(addr);
        if !due {
            return;
        }
        // Whoever never saw the winner cannot tell who can follow it.
        if self.members.get(&winner).is_none_or(|winner| winner.seen.is_none()) {
            return;
        }
        if !member.stopped {
            self.act(gate, addr, Action::StopReceiver, ACTION_MS, effects);
            return;
        }
        if member.open() {
            if self.led_away() {
                self.act(gate, addr, Action::Fence, ACTION_MS, effects);
            }
            return;
        }
        if self.lost_reason(addr).is_some() || self.stuck(member).is_some() {
            return;
        }
        let acks = self.acknowledges(addr);
        let waits = member.seen.as_ref().filter(|seen| source_side_on(seen)).map(source_side_off);
        let reopen = member.fenced.then_some(Action::SetReadOnly);
        let (action, budget_ms) =
            match (self.drain(addr, gate).filter(|_| holds(Rule::DrainBeforeRepoint)), waits.or(reopen)) {
                (Some(step), _) => step,
                (None, Some(action)) => (action, ACTION_MS),
                (None, None) => (Action::Repoint { source: winner, semi_sync: acks }, ACTION_MS.saturating_mul(2)),
            };
        self.act(gate, addr, action, budget_ms, effects);
    }

    /// Why a stopped replica cannot follow the new primary.
    pub(super) fn lost_reason(&self, addr: &ServerAddr) -> Option<String> {
        let winner = self.members.get(self.record.new_primary.as_ref()?)?.seen.as_ref()?;
        let seen = self.members.get(addr)?.seen.as_ref()?;
        let have = winner.total().union(self.record.promoted_set.as_ref()?);
        candidate::cannot_follow(seen, winner, &have)
    }

    /// The winner's action ended: on to the next, again, or back to the fence without it.
    pub(super) fn winner_acted(&mut self, gate: Gate, action: &Action, error: Option<&ActionError>) {
        match (action, error) {
            (_, None) => self.winner_done(gate, action),
            // Without the privilege the row is left out; the claim has stopped lower epochs all the same.
            (Action::WriteEpoch { .. }, Some(ActionError::Refused { .. })) => self.winner = Winner::Unfence,
            (_, Some(error)) => self.winner_failed(gate, action, error),
        }
    }

    fn winner_done(&mut self, gate: Gate, action: &Action) {
        self.winner = match action {
            Action::Claim { .. } if self.keeps_semi_sync() && holds(Rule::SemiSyncFirst) => Winner::SemiSync,
            Action::Claim { .. } | Action::SemiSyncSource { on: true, .. } | Action::LosslessSemiSync { .. } => {
                if holds(Rule::EpochFirst) { Winner::Epoch } else { Winner::Unfence }
            }
            Action::WriteEpoch { .. } => Winner::Unfence,
            _ => self.winner,
        };
        if *action == Action::Unfence {
            self.record.timings.writable = Some(self.elapsed(gate));
            self.enter(Stage::Route, Phase::Promoting, gate);
        } else if self.winner == Winner::Drain
            && let Some(code) =
                self.record.new_primary.as_ref().and_then(|winner| self.stuck(self.members.get(winner)?))
        {
            self.reject_winner(gate, &format!("its applier stopped with error {code}"));
        }
    }

    /// The error that keeps a replica from applying what it has received.
    pub(super) fn stuck(&self, member: &Member) -> Option<u32> {
        let seen = member.seen.as_ref()?;
        let stuck = |channel: &&Channel| !channel.applier_running && !channel.drained(&seen.executed);
        seen.channels.iter().find(stuck)?.applier_error.as_ref().map(|error| error.code)
    }

    fn winner_failed(&mut self, gate: Gate, action: &Action, error: &ActionError) {
        let Some(winner) = self.record.new_primary.clone() else {
            return;
        };
        if self.record.message.is_empty() {
            // Written down once: what follows differs by milliseconds.
            self.save_again_at.get_or_insert(gate.now);
        }
        self.record.message = format!("promotion of {winner}: {error}");
        let failures = self.members.get(&winner).map_or(0, |member| member.failures);
        // An epoch that cannot be committed lacks ackers; an Unfence without an answer may have
        // happened. Neither is a reason to make somebody else writable.
        let keep = matches!(action, Action::WriteEpoch { .. } | Action::Unfence);
        if matches!(action, Action::WriteEpoch { .. }) {
            // Whoever was left out while it was away is the acker that is missing.
            let others = self.members.iter_mut().filter(|(addr, _)| **addr != winner);
            others.for_each(|(_, member)| member.failures = 0);
        }
        if error.found_no_process() || (failures >= FAILURES_MAX && !keep) {
            self.reject_winner(gate, &error.to_string());
            return;
        }
        if self.winner != Winner::Drain {
            self.winner = Winner::Claim;
        }
        self.retry_at = gate.now.plus_ms(RETRY_MS / 3);
    }

    /// Back to the fence, with one candidate less.
    pub(super) fn reject_winner(&mut self, gate: Gate, reason: &str) {
        if let Some(winner) = self.record.new_primary.clone() {
            self.rejected.insert(winner, format!("it failed while it was promoted: {reason}"));
        }
        self.back_to_fence(gate);
        for member in self.members.values_mut() {
            member.stopped = false;
            member.follows = false;
        }
    }

    pub(super) fn advance_routing(&mut self, gate: Gate, effects: &mut Vec<Effect>) {
        if !self.routing && gate.now >= self.retry_at {
            self.routing = true;
            effects.push(Effect::Route(self.record.new_primary.clone()));
        }
    }
}

/// Ends the waiting for acknowledgements on a replica. Where clients may be writing they are cut off
/// first: switching semi-sync off would tell them that what nobody else has is done (M2).
pub(super) fn source_side_off(seen: &Observation) -> Action {
    if seen.settings.writable() { Action::Fence } else { Action::SemiSyncSource { on: false, wait_count: 0 } }
}
