//! Nobody is promoted who could commit nothing, because too few replicas are left to acknowledge for it: claimed
//! and with an epoch of its own it could not follow the old primary any more. That one may come back meanwhile
//! with all there is, and is then better left to be the primary.

use super::{
    Phase,
    machine::{ACTION_MS, Effect, Gate, Machine},
};
use crate::core::{observation::Observation, policy::Mode, step::Action, time::Mono, version::Flavor};

/// How often the choice is tried again while nothing is new, in milliseconds.
const AGAIN_MS: u64 = 1000;
/// A look at the old primary that is older shows nothing, in milliseconds.
const SHOWS_MS: u64 = 1000;

impl Machine {
    /// Whether commits on the chosen server would wait for more servers than are left.
    pub(super) fn would_hang(&self) -> bool {
        self.record.wait_count > 0 && !self.has_ackers() && !self.accepts_loss()
    }

    /// What was chosen would wait for ever. Whoever is missing is stopped as soon as it answers, and what is stopped is
    /// looked at again: a person may have mended it.
    pub(super) fn wait_for_ackers(&mut self, gate: Gate, effects: &mut Vec<Effect>) {
        let back = self.old_has_all(gate.now);
        if back.is_some_and(|old| self.will_be_opened(old)) {
            let reason = "the old primary is back, and too few replicas are left to acknowledge for another";
            self.give_up(Phase::Failed, reason.to_owned(), gate, effects);
            return;
        }
        let mut reason = "blocked: too few replicas are left to acknowledge what a new primary commits".to_owned();
        if back.is_some() {
            let old = &self.record.old_primary;
            reason =
                format!("{reason}; {old} is back, lacks nothing and refuses writes: open it, or wait for a replica");
        }
        if self.old_lives.is_some() && self.chosen_before().next().is_some() {
            self.fence_old(gate, effects);
        }
        if self.record.message != reason {
            self.record.message = reason;
            effects.push(Effect::Save);
        }
        self.shortage.tried = Some((self.stopped().len(), gate.now.plus_ms(AGAIN_MS)));
        let all: Vec<_> = self.members.keys().cloned().collect();
        for addr in all {
            self.act(gate, &addr, Action::StopReceiver, ACTION_MS, effects);
        }
    }

    /// The old primary, if it is back and lacks nothing that a stopped replica has. Once somebody was chosen it may
    /// be closed because this recovery fenced it, and it is when it refuses all clients.
    fn old_has_all(&self, now: Mono) -> Option<&Observation> {
        let old = self.shortage.old.as_ref().filter(|old| now.since_ms(old.at) <= SHOWS_MS)?;
        let comparable = old.identity.version.flavor == Flavor::MySql;
        let has = || self.stopped().values().all(|seen| old.executed.contains(&seen.total()));
        let untouched = self.chosen_before().next().is_none() && !old.settings.offline_mode;
        (untouched && comparable && has()).then_some(old)
    }

    /// Whether a primary that came back closed is opened without a person, and waits for acknowledgements as before.
    fn will_be_opened(&self, old: &Observation) -> bool {
        let waits = old.semi_sync.source.as_ref();
        let waits = waits.is_some_and(|source| source.enabled && source.wait_count >= self.record.wait_count);
        self.policy.failover.read_only == Mode::Automatic && (waits || self.policy.semi_sync.is_some())
    }
}
