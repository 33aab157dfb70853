//! Recoveries that are left to a Job: when the leader leaves one, and when it takes one back.
//!
//! Whether a Job lives is judged by changes of its record that this process saw, on its own clock. What it takes
//! over is the very version that did not change: a Job that renewed its claim meanwhile keeps it.

use std::sync::Arc;

use futures::FutureExt;

use super::{Cluster, Done};
use crate::{
    core::{
        claim,
        election::LEASE_MS_MAX,
        recovery::{Hold, JobRecord, Phase, Recovery, leave::When, machine::Machine},
        time::Mono,
    },
    engine::{facts::History, ports::World},
};

/// Why a recovery that is to be a Job's is none.
const NO_JOBS: &str = "the operator knows no image for Jobs";

/// [`Hold::version`] of a record that is gone.
const GONE: &str = "gone";
/// How long a Job may act whose record is gone, in milliseconds: it may have claimed it unseen.
const GONE_MS: u64 = 10_000;

impl<W: World> Cluster<W> {
    /// Names the Job that `machine`'s recovery, which is new, is left to. `request`: UID of what a person asked for.
    pub(super) fn employ(&self, machine: &mut Machine, request: &str) {
        if machine.record().cause.reopens() {
            // A Job would not know who is written down as ackers, and nothing is left to do after it.
            return;
        }
        let by_job = self.desired.policy.failover.by_job;
        let when = if by_job && machine.tells_all() { When::AtOnce } else { When::Writable };
        match self.world.job_for(&machine.record().record, request) {
            Some(name) => machine.leave_to(name, when),
            None if by_job => {
                machine.record_mut().job = Some(JobRecord { name: String::new(), problem: NO_JOBS.to_owned() });
            }
            None => {}
        }
    }

    /// The same for one that a leader began which is no more: its Job may still be of use.
    pub(super) fn employ_again(&self, machine: &mut Machine) {
        let job = machine.record().job.clone().filter(|job| job.problem.is_empty());
        let jobs = self.world.job_for(&machine.record().record, "").is_some();
        if let Some(JobRecord { name, .. }) = job.filter(|_| jobs) {
            let untouched = machine.record().phase == Phase::Pending && machine.tells_all();
            let untouched = untouched && self.desired.policy.failover.by_job;
            machine.leave_to(name, if untouched { When::AtOnce } else { When::Writable });
        }
    }

    /// What is held while records are read that do not show it: somebody removed it. Its Job notices that only when it
    /// renews its claim, or cannot.
    pub(super) fn still_held(&self, read: &History) -> Option<(String, Hold)> {
        let (record, hold) = self.history.unfinished.as_ref().zip(self.history.hold.as_ref())?;
        let shown = read.unfinished.is_some() || read.past.iter().any(|past| past.name == *record);
        let known_ms = Some(hold.patience_ms).filter(|known_ms| *known_ms <= LEASE_MS_MAX);
        let patience_ms = known_ms.unwrap_or_default().max(GONE_MS);
        let hold = Hold { version: GONE.to_owned(), patience_ms, reason: format!("{record} is gone") };
        (!shown).then(|| (record.clone(), hold))
    }

    /// The recovery that is a Job's, while its record is there.
    pub(super) fn with_a_job(&self) -> Option<String> {
        let held = self.history.hold.as_ref().is_some_and(|hold| hold.version != GONE);
        self.history.unfinished.clone().filter(|_| held)
    }

    /// Records were read.
    pub(super) fn note_hold(&mut self, now: Mono) {
        let version = self.history.hold.as_ref().map(|hold| &hold.version);
        if self.held.as_ref().map(|(version, _)| version) != version {
            self.held = version.map(|version| (version.clone(), now));
        }
    }

    /// Claims an unfinished recovery, unless a Job has it or may still take it.
    pub(super) fn resume(&mut self, now: Mono, record: String) {
        let hold = self.history.hold.clone();
        if hold.as_ref().is_some_and(|hold| !self.overdue(hold, now)) {
            self.refuse_others(now);
            return;
        }
        if hold.as_ref().is_some_and(|hold| hold.version == GONE) {
            tracing::warn!(cluster = %self.key, recovery = record, "{}: {record} is gone, and what it was about is judged anew", self.key);
            self.none_under_way();
            self.history.hold = None;
            return;
        }
        self.claiming = Some(now);
        let (world, executor) = (Arc::clone(&self.world), self.executor.clone());
        let claim = async move { Done::Claim(world.claim(&record, &executor, hold.as_ref()).await.map(Box::new)) };
        self.side.push(claim.boxed());
    }

    fn overdue(&self, hold: &Hold, now: Mono) -> bool {
        let held = self.held.as_ref().filter(|(version, _)| *version == hold.version);
        held.is_some_and(|(_, since)| claim::overdue(hold, *since, now))
    }

    /// The recovery was left to its Job. Until a read shows how it goes, it is nobody's to take.
    pub(super) fn left(&mut self, record: &Recovery) {
        let name = record.job.as_ref().map(|job| job.name.clone()).unwrap_or_default();
        tracing::info!(cluster = %self.key, recovery = record.record, "{}: {} is left to Job {name}", self.key, record.record);
        self.history.unfinished = Some(record.record.clone());
        self.history.hold = Some(Hold { version: String::new(), patience_ms: u64::MAX, reason: String::new() });
        self.note_hold(self.world.now());
    }
}
