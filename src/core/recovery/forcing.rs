//! What differs when a person forces a failover: nothing says that the old primary is dead, so it is
//! fenced before anything is chosen, and the recovery is refused when that cannot be proven.
//!
//! A primary that answers and whose commits wait for nobody stops taking writes first and hands over
//! what it has: a person who moves a healthy primary loses nothing. One whose commits hang cannot stop
//! taking writes, which waits for them: what it has committed is on its way, and it is fenced at once.

use super::{
    Evidence, Phase,
    force::HandOver,
    machine::{ACTION_MS, Effect, Gate, Machine, RETRY_MS},
    stage::Stage,
};
use crate::core::{
    gtid::GtidSet,
    id::ServerAddr,
    observation::Observation,
    rules::{Rule, holds},
    snapshot::Snapshot,
    step::{Action, ActionError},
};

/// Longest wait for the proof that the old primary is fenced, in milliseconds.
const PROOF_MS: u64 = 10_000;
/// Longest wait for a replica to have what the old primary has, in milliseconds.
const HAND_OVER_MS: u64 = 3000;
/// One wait for the appliers, in milliseconds; what they have is looked at after each.
const HAND_OVER_SLICE_MS: u64 = 250;

impl Machine {
    /// Notes that the old primary of a forced recovery is dead, as far as looks can tell.
    pub fn presume_dead(&mut self) {
        if let Some(force) = &mut self.force {
            (force.dead, self.record.old_primary_dead) = (true, true);
        }
    }

    /// Notes whether looks show that the commits of an old primary that answers hang.
    pub fn note_stall(&mut self, snapshot: &Snapshot) {
        let old = &self.record.old_primary;
        let sure = |seen: &Observation| snapshot.servers.get(old)?.stall.map(|stall| stall.is_sure(seen.at));
        let hangs = snapshot.servers.get(old).and_then(|state| sure(state.answering()?)).unwrap_or_default();
        let Some(force) = &mut self.force else { return };
        force.hangs = hangs;
        if hangs && self.record.evidence.is_empty() {
            let saw = "commits hang: it is fenced at once, and not asked to refuse writes first".to_owned();
            self.record.evidence.push(Evidence { server: old.clone(), saw, at_ms: 0 });
        }
    }

    /// The old primary answers: whatever was presumed, it lives. Who takes over is not to presume it either.
    pub(super) fn presume_alive(&mut self, effects: &mut Vec<Effect>) {
        if self.record.old_primary_dead && !matches!(self.stage, Stage::Begin | Stage::Leave | Stage::Done) {
            effects.push(Effect::Save);
        }
        if let Some(force) = &mut self.force {
            (force.dead, self.record.old_primary_dead) = (false, false);
        }
    }

    /// Begins to fence a living primary. True: the receivers are not to be stopped yet.
    pub(super) fn enter_forcing(&mut self, gate: Gate, effects: &mut Vec<Effect>) -> bool {
        let may_have_more = !self.old_refused && !self.old_fenced;
        let Some(force) = &mut self.force else { return false };
        let waits_for_nobody = self.durability.wait_count == 0 && self.record.cause.is_forced();
        if let Some(before) = force.before.as_ref().filter(|_| may_have_more && !force.dead && waits_for_nobody) {
            if !force.hangs {
                force.hand_over = HandOver::Asked;
                self.touch(gate, Action::SetReadOnly, effects);
                return true;
            }
            // Refusing writes would wait for what hangs; what was committed before is all there is to wait for.
            force.hand_over = HandOver::Sends(before.executed.clone(), gate.now);
            return true;
        }
        self.fence_forced(gate, effects);
        false
    }

    /// True: go on with the fence of the replicas.
    pub(super) fn advance_forcing(&mut self, gate: Gate, effects: &mut Vec<Effect>) -> bool {
        let Some(force) = &self.force else { return true };
        if gate.now.since_ms(self.stage_since) >= PROOF_MS && !self.fence_holds() {
            self.give_up(Phase::Refused, self.unproven(), gate, effects);
            return false;
        }
        match force.hand_over.clone() {
            HandOver::Asked => false,
            HandOver::Sends(set, since) => {
                if !self.received(&set) && gate.now.since_ms(since) < HAND_OVER_MS {
                    self.wait_for_replicas(gate, &set, effects);
                    return false;
                }
                // Each of them is to be stopped, so none may be busy.
                let free = self.members.keys().all(|addr| !self.busy.contains_key(addr));
                if free {
                    self.end_hand_over(gate, effects);
                }
                false
            }
            HandOver::Over => {
                if gate.now >= self.retry_at {
                    self.fence_forced(gate, effects);
                }
                true
            }
        }
    }

    fn end_hand_over(&mut self, gate: Gate, effects: &mut Vec<Effect>) {
        if let Some(force) = &mut self.force {
            force.hand_over = HandOver::Over;
        }
        self.stage_since = gate.now;
        self.stop_receivers(gate, effects);
        self.fence_forced(gate, effects);
    }

    fn wait_for_replicas(&mut self, gate: Gate, set: &GtidSet, effects: &mut Vec<Effect>) {
        let open: Vec<_> = self.members.keys().filter(|addr| !self.busy.contains_key(*addr)).cloned().collect();
        for addr in open.iter().filter(|_| gate.now >= self.retry_at).collect::<Vec<_>>() {
            let wait = Action::WaitApplied { set: set.clone(), wait_ms: HAND_OVER_SLICE_MS };
            self.act(gate, addr, wait, HAND_OVER_SLICE_MS.saturating_add(ACTION_MS), effects);
        }
    }

    /// Whether enough replicas have `set`: the one that is to be promoted, or any.
    fn received(&self, set: &GtidSet) -> bool {
        let has = |addr: &ServerAddr| {
            let seen = self.members.get(addr).and_then(|member| member.seen.as_ref());
            seen.is_some_and(|seen| seen.total().contains(set))
        };
        match &self.record.candidate {
            Some(candidate) => has(candidate),
            None => self.members.keys().any(has),
        }
    }

    fn fence_forced(&mut self, gate: Gate, effects: &mut Vec<Effect>) {
        if !self.old_fenced && !self.old_refused && !self.busy.contains_key(&self.record.old_primary) {
            self.touch(gate, Action::Fence, effects);
        }
    }

    fn touch(&mut self, gate: Gate, action: Action, effects: &mut Vec<Effect>) {
        if let Some(force) = &mut self.force {
            force.touched = true;
        }
        let old = self.record.old_primary.clone();
        self.act(gate, &old, action, ACTION_MS, effects);
    }

    /// Whether the old primary can acknowledge nothing more, now that the stopped replicas are stopped.
    pub(super) fn fence_holds(&self) -> bool {
        let quorum = self.fenced();
        match &self.force {
            None => quorum,
            Some(_) if !holds(Rule::ForcedProof) => true,
            Some(force) => self.old_fenced || quorum && (force.dead || self.durability.lossless),
        }
    }

    /// What counts as the old primary's state in the choice, and whether it proves that nothing else
    /// was acknowledged. Once it is fenced its own last look is the proof; where every acknowledgement
    /// has a copy among the stopped replicas, what it committed without one is no loss.
    pub(super) fn old_known(&self) -> (Option<&Observation>, bool) {
        let copied = self.durability.lossless && self.fenced();
        match &self.force {
            None => (self.old.as_ref(), self.durability.lossless),
            Some(force) if copied => (force.before.as_ref(), true),
            Some(force) => (force.after.as_ref().or(self.old.as_ref()), self.old_fenced),
        }
    }

    /// What the old primary is known to have had: what it showed once it was fenced, else what it was seen to have
    /// before anything was done, by whoever began this.
    pub(super) fn old_set(&self) -> Option<&GtidSet> {
        let copied = self.durability.lossless && self.fenced();
        let after = self.force.as_ref().filter(|_| !copied).and_then(|force| force.after.as_ref());
        let (old, _) = self.old_known();
        let seen = || old.map(|seen| &seen.executed);
        after.map(|seen| &seen.executed).or(self.record.old_primary_set.as_ref()).or_else(seen)
    }

    fn unproven(&self) -> String {
        let (old, stopped) = (&self.record.old_primary, self.stopped());
        let why = match self.force.as_ref().and_then(|force| force.error.as_ref()) {
            Some(error) => format!("fencing it failed: {error}"),
            None => "it does not answer".to_owned(),
        };
        if stopped.is_empty() {
            return format!("no replica answers, and {old} was not fenced: {why}");
        }
        match self.durability.fence_needs() {
            0 => format!("{old} could still accept writes: {why}, and its commits wait for no acknowledgement"),
            needs => format!(
                "{old} could still accept writes: {why}, and {} of the {needs} replicas that must be stopped are",
                stopped.len()
            ),
        }
    }

    /// Whether a look at the old primary of a forced recovery began before its fence was seen to hold.
    pub(super) fn was_before_fence(&self, seen: &Observation) -> bool {
        let fenced_at = self.force.as_ref().and_then(|force| force.fenced_at).filter(|_| self.old_fenced);
        fenced_at.is_some_and(|fenced_at| seen.at.0.saturating_sub(seen.took_ms) <= fenced_at.0)
    }

    /// An action on the old primary ended.
    pub(super) fn old_acted(&mut self, gate: Gate, action: &Action, result: Result<Box<Observation>, ActionError>) {
        if *action == Action::Fence {
            self.old_fenced = result.is_ok();
        }
        if self.stage == Stage::Reopen {
            self.reopen_acted(gate, action, result.as_deref().ok(), result.as_ref().err());
            return;
        }
        let error = result.as_ref().err().map(ToString::to_string);
        let Some(force) = &mut self.force else { return };
        if error.is_some() {
            self.retry_at = gate.now.plus_ms(RETRY_MS);
        }
        force.error = error;
        let seen = result.ok();
        if *action == Action::SetReadOnly && force.hand_over == HandOver::Asked {
            // Who cannot be asked is fenced all the harder.
            let set = seen.as_ref().map(|seen| seen.executed.clone()).unwrap_or_default();
            force.hand_over = HandOver::Sends(set, gate.now);
        }
        if let Some(seen) = seen {
            force.fenced_at = (*action == Action::Fence).then_some(seen.at);
            force.after = Some(*seen);
            self.old_lives = None;
        }
    }
}
