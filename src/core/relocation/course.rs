//! One recovery of an intermediate primary from its record to its end: what is due now, what came of it,
//! when it is over.
//!
//! Whom it moves is planned anew at every pass; what is kept between passes is what must not be tried
//! again, and the record.

use std::collections::{BTreeMap, BTreeSet};

use super::{Fate, Plan, Tried, plan};
use crate::core::{
    analysis::Analysis,
    housekeeping::Duty,
    id::{Epoch, ServerAddr},
    observation::{Channel, Receiver},
    policy::Policy,
    recovery::{Cause, Evidence, Outcome, Part, Phase, Recovery, StepRecord, Timings, Verdict},
    snapshot::Snapshot,
    step::{Action, ActionError},
    time::Mono,
    topology::Topology,
};

/// Longest course, in milliseconds; what is left then is left to the next one.
const COURSE_MS: u64 = 120_000;
/// How long replicas wait for the one that is to be moved first, in milliseconds.
const REGROUP_MS: u64 = 10_000;
/// How long it is waited for moved replicas to be connected, in milliseconds.
const SETTLE_MS: u64 = 10_000;
/// The server is held to be back when nothing has said otherwise for this long, in milliseconds.
const BACK_MS: u64 = 3000;
/// Attempts at one move.
const ATTEMPTS_MAX: u32 = 3;
/// Replicas named in a message.
const NAMED_MAX: usize = 8;

/// A recovery under way.
#[derive(Debug, Clone)]
pub struct Course {
    record: Recovery,
    first_sign: Mono,
    since: Mono,
    /// Replicas that it set out to move.
    wanted: BTreeSet<ServerAddr>,
    tried: Tried,
    attempts: BTreeMap<(ServerAddr, ServerAddr), u32>,
    flying: BTreeMap<ServerAddr, (Action, Mono)>,
    acted_at: Mono,
    /// Since when nothing says any more that the server is lost.
    back_since: Option<Mono>,
}

/// What a course begins with.
#[derive(Debug)]
pub struct Beginning<'a> {
    /// Name of the record.
    pub record: String,
    /// The reign in which it happens.
    pub epoch: Epoch,
    /// This process.
    pub executor: &'a str,
    /// What is wrong.
    pub analysis: &'a Analysis,
    /// The same as it is recorded.
    pub evidence: Vec<Evidence>,
    /// When the server first failed.
    pub first_sign: Mono,
}

impl Course {
    /// A new recovery at `now`; nothing is done before its record is written.
    #[must_use]
    pub fn new(now: Mono, snapshot: &Snapshot, plan: Plan, beginning: Beginning<'_>) -> Self {
        let Beginning { record, epoch, executor, analysis, evidence, first_sign } = beginning;
        let lost = analysis.server.clone();
        let cause = Cause { analysis: analysis.code.name().to_owned(), server: lost.clone(), reason: String::new() };
        let record = Recovery {
            record,
            part: Part::IntermediatePrimary,
            phase: Phase::Pending,
            epoch,
            executor: executor.to_owned(),
            job: None,
            cause,
            candidate: None,
            evidence,
            pending_replicas: plan.movable().into_iter().collect(),
            candidates: plan.candidates,
            old_primary_set: None,
            old_primary_dead: false,
            old_primary_uuid: snapshot.last(&lost).map(|seen| seen.identity.uuid.clone()),
            old_primary: lost,
            new_primary: None,
            promoted_set: None,
            lost: None,
            lost_replicas: Vec::new(),
            ackers: Vec::new(),
            unknown_ackers: 0,
            wait_count: 0,
            lossless: false,
            steps: Vec::new(),
            timings: Timings { detected: Some(now.since_ms(first_sign)), ..Timings::default() },
            message: String::new(),
            acknowledged: false,
        };
        Self::build(record, first_sign, now)
    }

    /// Goes on at `now` with one that another process has begun.
    #[must_use]
    pub fn resume(record: Recovery, now: Mono) -> Self {
        let reached_ms = record.timings.recorded.or(record.timings.detected).unwrap_or_default();
        Self::build(record, Mono(now.0.saturating_sub(reached_ms)), now)
    }

    fn build(record: Recovery, first_sign: Mono, now: Mono) -> Self {
        Self {
            wanted: record.pending_replicas.iter().cloned().collect(),
            record,
            first_sign,
            since: now,
            tried: Tried::default(),
            attempts: BTreeMap::new(),
            flying: BTreeMap::new(),
            acted_at: now,
            back_since: None,
        }
    }

    /// The record as it is now.
    #[must_use]
    pub fn record(&self) -> &Recovery {
        &self.record
    }

    /// Its record is written: it may act from now on.
    pub fn recorded(&mut self, now: Mono) {
        self.since = now;
        self.record.timings.recorded = Some(now.since_ms(self.first_sign));
        self.record.phase = Phase::Completing;
    }

    /// Nothing more will be done.
    #[must_use]
    pub fn finished(&self) -> bool {
        self.record.phase.finished()
    }

    /// What is due now. `called_for`: the server is still held to be lost.
    pub fn pass(&mut self, snapshot: &Snapshot, topology: &Topology, policy: &Policy, called_for: bool) -> Vec<Duty> {
        if self.finished() || self.record.phase == Phase::Pending {
            return Vec::new();
        }
        let now = snapshot.at;
        self.tried.direct = now.since_ms(self.since) >= REGROUP_MS;
        self.learn(snapshot, topology);
        let plan = plan(snapshot, topology, policy, &self.record.old_primary, &self.tried);
        self.back_since = if called_for { None } else { self.back_since.or(Some(now)) };
        let back = self.back_since.is_some_and(|since| now.since_ms(since) >= BACK_MS);
        let idle = plan.movable().is_empty() && (self.settled(snapshot) || now.since_ms(self.acted_at) >= SETTLE_MS);
        let late = now.since_ms(self.since) >= COURSE_MS;
        if self.flying.is_empty() && (idle || late || back && self.tried.astray.is_empty()) {
            self.finish(snapshot, &plan, now);
            return Vec::new();
        }
        let may = |addr: &ServerAddr| called_for || self.tried.astray.contains(addr);
        let due = plan.due.into_iter().filter(|(addr, ..)| may(addr) && !self.flying.contains_key(addr));
        due.map(|(server, action, reason)| Duty { server, action, reason }).collect()
    }

    /// An action of [`Self::pass`] is under way.
    pub fn started(&mut self, now: Mono, server: &ServerAddr, action: Action) {
        self.flying.insert(server.clone(), (action, now));
    }

    /// An action ended.
    pub fn acted(&mut self, now: Mono, server: &ServerAddr, error: Option<&ActionError>) {
        let Some((action, started)) = self.flying.remove(server) else { return };
        self.acted_at = now;
        self.record.note(StepRecord {
            step: action.name().to_owned(),
            server: server.clone(),
            started_ms: started.since_ms(self.first_sign),
            took_ms: now.since_ms(started),
            outcome: error.map_or(Outcome::Done, |error| Outcome::Failed(error.to_string())),
        });
        if let (Action::Repoint { source, .. }, Some(error)) = (action, error) {
            let key = (server.clone(), source);
            let attempts = self.attempts.entry(key.clone()).or_default();
            *attempts = attempts.saturating_add(1);
            if matches!(error, ActionError::Refused { .. }) || *attempts >= ATTEMPTS_MAX {
                self.tried.in_vain.insert(key);
            }
        }
    }

    /// Who was moved, and who of them cannot replicate from where it was moved to.
    fn learn(&mut self, snapshot: &Snapshot, topology: &Topology) {
        let orphans: BTreeSet<_> = topology.replicas(&self.record.old_primary).cloned().collect();
        self.tried.astray.clear();
        self.tried.moved.clear();
        for addr in &self.wanted {
            let Some(seen) = snapshot.servers.get(addr).and_then(|state| state.answering()) else { continue };
            let Some((channel, source)) = seen.channels.iter().find_map(|one| Some((one, snapshot.source_of(one)?)))
            else {
                continue;
            };
            if orphans.contains(addr) {
                continue;
            }
            // The source answered and refused: it would refuse again.
            let refused = channel.receiver == Receiver::Stopped && channel.receiver_error.is_some();
            if refused {
                self.tried.in_vain.insert((addr.clone(), source.clone()));
                self.tried.astray.insert(addr.clone());
            } else {
                self.tried.moved.insert(addr.clone());
            }
        }
    }

    /// Whether every replica that was moved is connected to its new source.
    fn settled(&self, snapshot: &Snapshot) -> bool {
        let connected = |channel: &Channel| channel.receiver == Receiver::Running;
        self.tried.moved.iter().all(|addr| {
            let seen = snapshot.servers.get(addr).and_then(|state| state.answering());
            seen.is_some_and(|seen| seen.channels.iter().all(connected))
        })
    }

    fn finish(&mut self, snapshot: &Snapshot, plan: &Plan, now: Mono) {
        let left: Vec<_> = plan.orphans.iter().collect();
        let of = |lost: bool| {
            let wanted = |(_, fate): &&(&ServerAddr, &Fate)| matches!(fate, Fate::Lost(_)) == lost;
            left.iter().filter(wanted).map(|(addr, _)| (*addr).clone()).collect::<Vec<_>>()
        };
        (self.record.lost_replicas, self.record.pending_replicas) = (of(true), of(false));
        let sources = self.sources(snapshot);
        self.record.candidates.clone_from(&plan.candidates);
        for candidate in self.record.candidates.iter_mut().filter(|judged| sources.contains_key(&judged.server)) {
            candidate.verdict = Verdict::Chosen;
        }
        // A replica that was moved first and is followed by the others is whom people look for.
        let key = |(addr, count): &(&ServerAddr, &usize)| (**count, self.tried.moved.contains(*addr));
        self.record.new_primary = sources.iter().max_by_key(key).map(|(addr, _)| addr.clone());
        self.record.timings.completed = Some(now.since_ms(self.first_sign));
        self.record.message = told(&left);
        let nothing = self.tried.moved.is_empty() && !left.is_empty();
        self.record.phase = if nothing { Phase::Failed } else { Phase::Succeeded };
    }

    /// Whom the moved replicas follow now, and how many of them each.
    fn sources(&self, snapshot: &Snapshot) -> BTreeMap<ServerAddr, usize> {
        let mut counts: BTreeMap<ServerAddr, usize> = BTreeMap::new();
        let channels = self.tried.moved.iter().filter_map(|addr| snapshot.last(addr)?.channels.first());
        for source in channels.filter_map(|channel| snapshot.source_of(channel)) {
            let count = counts.entry(source.clone()).or_default();
            *count = count.saturating_add(1);
        }
        counts
    }
}

/// Who was left, and why.
fn told(left: &[(&ServerAddr, &Fate)]) -> String {
    let one = |(addr, fate): &(&ServerAddr, &Fate)| match fate.reason() {
        Some(reason) => format!("{addr} ({reason})"),
        None => addr.to_string(),
    };
    let named: Vec<_> = left.iter().take(NAMED_MAX).map(one).collect();
    let more = left.len().saturating_sub(NAMED_MAX);
    match (named.is_empty(), more) {
        (true, _) => String::new(),
        (false, 0) => format!("not moved: {}", named.join(", ")),
        (false, more) => format!("not moved: {}, and {more} more", named.join(", ")),
    }
}
