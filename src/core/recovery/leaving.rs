//! How a leader leaves a recovery to a Job: as a whole, before anything is done to a server, or what is left to do
//! when clients can write again.
//!
//! It is left when nothing is under way on any server, by one write; whoever claims it after that continues
//! from the record as a new leader does. While it is not known whether that write was done, nothing else is.

use super::{
    JobRecord,
    leave::When,
    machine::{Effect, Gate, Machine, RETRY_MS},
    stage::Stage,
};
use crate::core::policy::Within;

impl Machine {
    /// The record is to be left to the Job `name`, which is created beforehand.
    pub fn leave_to(&mut self, name: String, when: When) {
        self.record.job = Some(JobRecord { name, problem: String::new() });
        self.leaving.when = Some(when);
    }

    /// Whether the record says all that a Job, which sees the servers for the first time, has to know to choose a
    /// new primary: not whom the old one replicated from, nor where a query said that it was, nor who lost data.
    #[must_use]
    pub fn tells_all(&self) -> bool {
        if self.members.values().any(|member| member.forgot.is_some()) {
            return false;
        }
        let Some(old) = &self.old else { return true };
        let anywhere = self.policy.promotion.within == Within::Anywhere;
        let placed = old.facts.zone.is_some() || old.facts.region.is_some();
        self.record.old_primary_set.is_some() && old.channels.is_empty() && (anywhere || !placed)
    }

    /// Whether the record was left: it is not finished, and nothing more is done about it here.
    #[must_use]
    pub fn left(&self) -> bool {
        self.stage == Stage::Done && self.record.executor.is_empty()
    }

    /// Whether something that this process began before the recovery is under way on a server: the record is not left
    /// until it has ended.
    pub fn bar_leaving(&mut self, barred: bool) {
        self.leaving.barred = barred;
    }

    fn leaves(&self) -> Option<When> {
        let usable = self.record.job.as_ref().is_some_and(|job| job.problem.is_empty());
        self.leaving.when.filter(|_| usable)
    }

    pub(super) fn leaves_at_once(&self) -> bool {
        self.leaves() == Some(When::AtOnce)
    }

    pub(super) fn leaves_when_writable(&self) -> bool {
        self.leaves().is_some()
    }

    pub(super) fn start_job(&mut self, effects: &mut Vec<Effect>) {
        if self.leaves().is_some() {
            effects.push(Effect::StartJob);
        }
    }

    pub(super) fn on_job_started(&mut self, gate: Gate, result: Result<(), String>, effects: &mut Vec<Effect>) {
        match (result, &mut self.record.job) {
            (Ok(()), _) => self.leaving.started = true,
            (Err(_), None) => {}
            (Err(reason), Some(job)) => {
                job.problem = reason;
                if self.stage == Stage::Leave {
                    self.stay(gate, effects);
                }
            }
        }
    }

    /// There is no Job: the leader goes on by itself.
    fn stay(&mut self, gate: Gate, effects: &mut Vec<Effect>) {
        if self.record.phase.promoted() {
            self.enter_completing(gate, effects);
        } else {
            self.enter_fencing(gate, effects);
        }
    }

    pub(super) fn advance_leaving(&mut self, gate: Gate, effects: &mut Vec<Effect>) {
        let ready = self.leaving.started && self.busy.is_empty() && !self.routing && !self.leaving.barred;
        if ready && !self.leaving.under_way && gate.now >= self.retry_at {
            (self.leaving.under_way, self.leaving.tried) = (true, true);
            effects.push(Effect::Leave);
        }
    }

    /// Whether clients can write to the new primary, and the record is not being left yet.
    pub(super) fn may_still_fence(&self) -> bool {
        self.stage == Stage::Leave && self.record.phase.promoted() && !self.leaving.tried
    }

    /// Whether the record may be left and that is not known: nothing else is done then.
    pub(super) fn may_be_left(&self) -> bool {
        self.stage == Stage::Leave && self.leaving.tried
    }

    pub(super) fn on_left(&mut self, gate: Gate, done: bool, effects: &mut Vec<Effect>) {
        self.leaving.under_way = false;
        if done {
            self.record.executor = String::new();
            self.stage = Stage::Done;
            self.save_again_at = None;
            effects.push(Effect::Finish);
        } else {
            self.retry_at = gate.now.plus_ms(RETRY_MS);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        core::{gtid::GtidSet, id::Epoch, observation::FailureKind, recovery::Cause, time::Mono},
        testing::snapshot::{Cluster, addr, policy, uuid},
    };

    fn tells_all(within: Within, change: impl FnOnce(&mut Cluster)) -> bool {
        let mut cluster = Cluster::primary_and_replicas(2);
        change(&mut cluster);
        cluster.look();
        cluster.fail("p", FailureKind::Refused);
        let mut policy = policy();
        policy.promotion.within = within;
        let cause = Cause { analysis: "DeadPrimary".to_owned(), server: addr("p"), reason: String::new() };
        Machine::new(&cluster.look(), &policy, cause, Epoch(7), "a", Mono(0)).tells_all()
    }

    #[test]
    fn what_a_job_could_not_know_keeps_the_choice_with_the_leader() {
        assert!(tells_all(Within::Zone, |_| {}));
        assert!(!tells_all(Within::Anywhere, |cluster| {
            cluster.follow("p", "r1");
        }));
        let place = |cluster: &mut Cluster| cluster.server("p").observation.facts.zone = Some("a".to_owned());
        assert!(tells_all(Within::Anywhere, place) && !tells_all(Within::Zone, place));
        assert!(!tells_all(Within::Anywhere, |cluster| {
            let gaps: Vec<_> = (1..40_000).step_by(2).map(|number: u32| number.to_string()).collect();
            let set: GtidSet = format!("{}:{}", uuid(1), gaps.join(":")).parse().unwrap();
            cluster.server("p").observation.executed = set;
        }));
    }
}
