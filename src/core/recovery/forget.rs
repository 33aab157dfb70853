//! Brings a machine into the form that stands for all machines with its future, so that all that a
//! recovery can come to can be searched (tests/model).
//!
//! What is dropped is what people read, and how long ago things were beyond what any rule asks. Each is
//! an argument that two machines do the same from here on; a wrong one would hide histories. None is made about
//! what forced recoveries know besides, nor about servers that are preferred and behind.

use super::{
    Recovery, Timings,
    machine::Machine,
    member::Member,
    promoting::FAILURES_MAX,
    shortage::Shortage,
    stage::{Stage, Winner},
};
use crate::core::{gtid::GtidSet, observation::Observation, step::Action, time::Mono};

/// Ages that rules distinguish, in milliseconds: the patience with those who are not needed, or with a fence; an
/// action's time; an endpoint that cannot be withdrawn; an applier without progress, or a record that cannot be closed;
/// the end of completion.
const PATIENCE_MS: u64 = 550;
const ACTED_MS: u64 = 1100;
const ROUTED_MS: u64 = 3500;
const STUCK_MS: u64 = 11_000;
const END_MS: u64 = 31_000;

/// Ages that rules distinguish while a machine is in a stage.
fn ages_of(stage: Stage) -> &'static [u64] {
    match stage {
        Stage::Fence => &[ACTED_MS, PATIENCE_MS],
        Stage::Promote => &[ROUTED_MS, PATIENCE_MS],
        Stage::Complete => &[END_MS],
        Stage::Done => &[STUCK_MS],
        Stage::Begin | Stage::Route | Stage::Leave | Stage::Restore(_) | Stage::Reopen => &[],
    }
}

/// The same time, no further back than rules look; `ages` in falling order.
fn within(time: Mono, now: Mono, ages: &[u64]) -> Mono {
    let age_ms = now.since_ms(time);
    Mono(now.0.saturating_sub(ages.iter().copied().find(|known| *known <= age_ms).unwrap_or_default()))
}

impl Machine {
    /// Makes everything that is remembered older by `ms`: as if time had passed.
    pub fn grow_older(&mut self, ms: u64) {
        for time in self.times() {
            *time = Mono(time.0.saturating_sub(ms));
        }
    }

    /// Drops what makes no difference. `now` is what all its clocks show.
    pub fn forget(&mut self, now: Mono) {
        self.record.forget();
        self.first_sign = now;
        self.stage_since = within(self.stage_since, now, ages_of(self.stage));
        self.progress_at = within(self.progress_at, now, &[STUCK_MS]);
        // What is due is due.
        self.retry_at = self.retry_at.max(now);
        self.withdraw_at = self.withdraw_at.max(now);
        self.save_again_at = self.save_again_at.map(|at| at.max(now));
        for (action, started) in self.busy.values_mut() {
            *started = now;
            if let Action::WaitApplied { set, .. } = action {
                *set = GtidSet::default();
            }
        }
        self.rejected.values_mut().for_each(String::clear);
        self.members.values_mut().for_each(|member| member.forget(now));
        if matches!(self.stage, Stage::Route | Stage::Complete | Stage::Done) {
            // Nobody is chosen any more.
            (self.old, self.old_lives, self.saved_choice) = (None, None, None);
            (self.winner, self.catch_up, self.shortage) = (Winner::Drain, None, Shortage::default());
            self.rejected.clear();
        }
        if self.stage == Stage::Done {
            self.members.clear();
        }
        let looks = self.old.iter_mut().chain(&mut self.old_lives).chain(&mut self.shortage.old);
        looks.for_each(|seen| seen.forget(now));
        // A choice that is due is due.
        self.shortage.tried = self.shortage.tried.filter(|(_, until)| *until > now);
    }

    fn times(&mut self) -> Vec<&mut Mono> {
        let mut times = vec![&mut self.first_sign, &mut self.stage_since, &mut self.progress_at, &mut self.retry_at];
        times.push(&mut self.withdraw_at);
        times.extend(&mut self.save_again_at);
        times.extend(self.busy.values_mut().map(|(_, started)| started));
        let looks = self.members.values_mut().filter_map(|member| member.seen.as_mut());
        let looks = looks.chain(&mut self.old).chain(&mut self.old_lives).chain(&mut self.shortage.old);
        times.extend(looks.map(|seen| &mut seen.at));
        times.extend(self.shortage.tried.iter_mut().map(|(_, until)| until));
        times
    }
}

impl Member {
    fn forget(&mut self, now: Mono) {
        self.failures = self.failures.min(FAILURES_MAX);
        self.error = None;
        self.seen.iter_mut().for_each(|seen| seen.forget(now));
    }
}

impl Observation {
    /// Looks are compared with newer ones alone, and who acknowledges was counted before the recovery began.
    fn forget(&mut self, now: Mono) {
        (self.at, self.took_ms) = (now, 0);
        self.semi_sync.source.iter_mut().for_each(|source| source.clients = 0);
    }
}

impl Recovery {
    /// Drops what people read.
    pub fn forget(&mut self) {
        self.evidence.clear();
        self.candidates.iter_mut().for_each(|candidate| candidate.reason.clear());
        self.steps.retain(|step| step.step == Self::LEFT);
        self.steps.iter_mut().for_each(|step| (step.started_ms, step.took_ms) = (0, 0));
        self.steps.dedup();
        let Timings { detected, recorded, fenced, chosen, writable, routed, completed } = &mut self.timings;
        for reached in [detected, recorded, fenced, chosen, writable, routed, completed] {
            *reached = reached.map(|_| 0);
        }
        if self.phase.finished() {
            self.candidates.clear();
            self.steps.clear();
        }
    }
}
