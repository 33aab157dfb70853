//! The failover of a primary as a state machine: outcomes in, effects out, nothing else.
//!
//! The order is that of safety.md, "Failing over". Every effect can be done twice; a machine that is
//! built from a record continues by fencing again, which is always safe. The engine performs the
//! effects and feeds their outcomes back; while it is not surely the leader it feeds nothing.

use std::collections::BTreeMap;

use super::{
    Cause, Part, Phase, Recovery, Timings,
    force::{Force, Reopen, set_of, uuid_of},
    leave::Leaving,
    member::Member,
    shortage::Shortage,
    stage::{Stage, Winner},
};
use crate::core::{
    candidate::CatchUp,
    durability::Durability,
    id::{Epoch, ServerAddr},
    membership::Membership,
    observation::{FailureKind, Observation},
    policy::Policy,
    reopen,
    snapshot::{Reach, Snapshot},
    step::{Action, ActionError},
    time::Mono,
};

/// Something to be done by the engine. At most one action per server is under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Write the intent and win its epoch.
    Begin,
    /// Write the record.
    Save,
    /// Route writing clients.
    Route(Option<ServerAddr>),
    /// Do an action within a budget in milliseconds.
    Act(ServerAddr, Action, u64),
    /// Create the Job that the record names.
    StartJob,
    /// Write the record without an executor: from then on it is the Job's.
    Leave,
    /// Nothing more will come.
    Finish,
}

/// How something ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The machine was made.
    Start,
    /// The intent is written, or why not.
    Begun(Result<(), String>),
    /// A write of the record, which names this new primary, ended.
    Saved(Option<ServerAddr>, Result<(), String>),
    /// The Job was created, or why not.
    JobStarted(Result<(), String>),
    /// The record is left, or that is not known.
    Left(Result<(), String>),
    /// Routing ended.
    Routed(Option<ServerAddr>, Result<(), String>),
    /// An action ended.
    Acted(ServerAddr, Result<Box<Observation>, ActionError>),
    /// The observing session got a look from the old primary.
    OldAnswers(Box<Observation>),
    /// The observing session got a look from another server.
    Looked(ServerAddr, Box<Observation>),
    /// Time has passed.
    Tick,
}

/// Whether the executor may act, at the moment of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gate {
    /// Now.
    pub now: Mono,
    /// Until when leadership is sure.
    pub leader_until: Mono,
}

impl Gate {
    /// Milliseconds for which leadership is still sure.
    #[must_use]
    pub fn remaining_ms(&self) -> u64 {
        self.leader_until.since_ms(self.now)
    }
}

/// The failover of one primary.
#[derive(Debug, Clone)]
pub struct Machine {
    pub(super) record: Recovery,
    pub(super) policy: Policy,
    pub(super) durability: Durability,
    /// What the old primary had before it was lost. What it shows when it comes back may never have been
    /// acknowledged: a crash brings back what waited (M6), and so does a fence.
    pub(super) old: Option<Observation>,
    /// The newest look at it, while it accepts writes.
    pub(super) old_lives: Option<Observation>,
    pub(super) old_refused: bool,
    pub(super) old_fenced: bool,
    pub(super) members: BTreeMap<ServerAddr, Member>,
    pub(super) rejected: BTreeMap<ServerAddr, String>,
    pub(super) busy: BTreeMap<ServerAddr, (Action, Mono)>,
    pub(super) stage: Stage,
    pub(super) winner: Winner,
    pub(super) catch_up: Option<CatchUp>,
    pub(super) first_sign: Mono,
    pub(super) stage_since: Mono,
    pub(super) progress_at: Mono,
    pub(super) retry_at: Mono,
    /// The new primary that the stored record names.
    pub(super) saved_choice: Option<ServerAddr>,
    /// When a write of the record that failed is tried again.
    pub(super) save_again_at: Option<Mono>,
    /// Clients are not routed to the old primary any more.
    pub(super) withdrawn: bool,
    /// When to try that again.
    pub(super) withdraw_at: Mono,
    pub(super) routing: bool,
    /// A person forces it.
    pub(super) force: Option<Force>,
    pub(super) reopen: Option<Reopen>,
    /// Who is written down as the primary's ackers, where Baton keeps semi-sync.
    pub(super) kept: Option<Membership>,
    /// What speaks against opening the primary again.
    pub(super) objection: Option<String>,
    pub(super) leaving: Leaving,
    pub(super) shortage: Shortage,
}

impl Machine {
    /// A new recovery of `cause.server`, the primary in `snapshot`. `first_sign` is when its first
    /// failed look ended. The caller names the record ([`Machine::record_mut`]).
    #[must_use]
    pub fn new(
        snapshot: &Snapshot,
        policy: &Policy,
        cause: Cause,
        epoch: Epoch,
        executor: &str,
        first_sign: Mono,
    ) -> Self {
        let old_primary = cause.server.clone();
        let durability = Durability::found(snapshot, &old_primary);
        let record = Recovery {
            record: String::new(),
            part: Part::Primary,
            phase: Phase::Pending,
            epoch,
            executor: executor.to_owned(),
            job: None,
            cause,
            candidate: None,
            evidence: Vec::new(),
            candidates: Vec::new(),
            old_primary_set: set_of(snapshot, &old_primary),
            old_primary_dead: false,
            old_primary_uuid: uuid_of(snapshot, &old_primary),
            old_primary,
            new_primary: None,
            promoted_set: None,
            lost: None,
            lost_replicas: Vec::new(),
            pending_replicas: Vec::new(),
            ackers: durability.ackers.iter().cloned().collect(),
            unknown_ackers: durability.unknown_ackers,
            wait_count: durability.wait_count,
            lossless: durability.lossless,
            steps: Vec::new(),
            timings: Timings::default(),
            message: String::new(),
            acknowledged: false,
        };
        Self::build(record, snapshot, policy, durability, first_sign)
    }

    /// Continues a recovery from its record: fences again, whatever was reached, unless the new
    /// primary is already writable. Since `since` nobody else executes it.
    #[must_use]
    pub fn resume(record: Recovery, snapshot: &Snapshot, policy: &Policy, executor: &str, since: Mono) -> Self {
        let durability = record.durability();
        let reached = record.timings.routed.or(record.timings.writable).or(record.timings.chosen);
        let reached = reached.or(record.timings.fenced).or(record.timings.recorded).unwrap_or_default();
        let mut machine = Self::build(record, snapshot, policy, durability, snapshot.at);
        machine.first_sign = Mono(snapshot.at.0.saturating_sub(reached));
        machine.record.executor = executor.to_owned();
        machine.record.old_primary_dead &= machine.force.as_ref().is_some_and(|force| force.dead);
        machine.members.values_mut().for_each(|member| member.doubt(since, snapshot.at));
        let chosen = machine.record.new_primary.as_ref();
        if let Some(member) = chosen.and_then(|addr| machine.members.get_mut(addr)) {
            member.opened = true;
        }
        machine
    }

    fn build(record: Recovery, snapshot: &Snapshot, policy: &Policy, durability: Durability, first_sign: Mono) -> Self {
        let known = snapshot.replicas_of(&record.old_primary).into_iter().map(|(addr, _)| addr);
        let from_record = record.ackers.iter().chain(&record.new_primary).chain(&record.pending_replicas);
        let judged = record.candidates.iter().map(|candidate| &candidate.server);
        let members = known
            .chain(from_record)
            .chain(judged)
            .filter(|addr| **addr != record.old_primary)
            // It counts for nothing, and nothing is done to it; as an acker it may have been it is one that does not answer.
            .filter(|addr| !policy.rebuilding.contains(*addr) || record.new_primary.as_ref() == Some(*addr))
            .map(|addr| (addr.clone(), Member::known(snapshot, addr, record.new_primary.as_ref())))
            .collect();
        let old_state = snapshot.servers.get(&record.old_primary);
        let refused =
            |reach: Reach<'_>| matches!(reach, Reach::Failing(failure) if failure.kind == FailureKind::Refused);
        let answering = old_state.and_then(|state| state.answering());
        let reopens = record.cause.reopens();
        Self {
            old: snapshot.last(&record.old_primary).filter(|_| answering.is_none() || reopens).cloned(),
            old_lives: answering.filter(|seen| seen.settings.writable()).cloned(),
            old_refused: old_state.is_some_and(|state| refused(state.reach())),
            old_fenced: false,
            force: Force::of(&record, snapshot.last(&record.old_primary), answering.is_some()),
            reopen: None,
            kept: reopen::kept(snapshot, policy, &record.old_primary),
            objection: reopens.then(|| reopen::objection(snapshot, policy, &record.old_primary)).flatten(),
            leaving: Leaving::default(),
            shortage: Shortage::default(),
            record,
            policy: policy.clone(),
            durability,
            members,
            rejected: BTreeMap::new(),
            busy: BTreeMap::new(),
            stage: Stage::Begin,
            winner: Winner::Drain,
            catch_up: None,
            first_sign,
            stage_since: snapshot.at,
            progress_at: snapshot.at,
            retry_at: snapshot.at,
            saved_choice: None,
            save_again_at: None,
            withdrawn: false,
            withdraw_at: snapshot.at,
            routing: false,
        }
    }

    /// The record as it is now.
    #[must_use]
    pub fn record(&self) -> &Recovery {
        &self.record
    }

    /// The record, for evidence that the caller has.
    pub fn record_mut(&mut self) -> &mut Recovery {
        &mut self.record
    }

    /// Whether the machine has nothing more to do.
    #[must_use]
    pub fn finished(&self) -> bool {
        self.stage == Stage::Done && self.save_again_at.is_none()
    }

    /// Takes one event and answers with what is to be done now.
    pub fn step(&mut self, gate: Gate, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        match event {
            Event::Start => self.start(gate, &mut effects),
            Event::Begun(result) => self.on_begun(gate, result, &mut effects),
            Event::Saved(choice, result) => self.on_saved(gate, choice, result.is_ok()),
            Event::JobStarted(result) => self.on_job_started(gate, result, &mut effects),
            Event::Left(result) => self.on_left(gate, result.is_ok(), &mut effects),
            Event::Routed(target, result) => self.on_routed(gate, target.as_ref(), result, &mut effects),
            Event::Acted(server, result) => self.on_acted(gate, &server, result),
            Event::OldAnswers(seen) => self.old_answers(gate, *seen, &mut effects),
            Event::Looked(server, seen) => self.looked(gate, &server, &seen),
            Event::Tick => {}
        }
        self.advance(gate, &mut effects);
        effects
    }

    fn start(&mut self, gate: Gate, effects: &mut Vec<Effect>) {
        self.stage_since = gate.now;
        match self.record.phase {
            Phase::Pending => self.begin(gate, effects),
            phase if phase.finished() => {
                self.stage = Stage::Done;
                effects.push(Effect::Finish);
            }
            // Clients may be writing to it: nothing is fenced again.
            phase if phase.promoted() => {
                self.enter(Stage::Route, Phase::Promoting, gate);
                self.start_job(effects);
            }
            _ => {
                self.enter_first(gate, effects);
                self.start_job(effects);
            }
        }
    }

    /// What comes after the intent is written down.
    pub(super) fn enter_first(&mut self, gate: Gate, effects: &mut Vec<Effect>) {
        match self.record.cause.reopens() {
            true => self.enter_reopening(Phase::Succeeded, gate, effects),
            false => self.enter_fencing(gate, effects),
        }
    }

    /// Everything that has become possible.
    fn advance(&mut self, gate: Gate, effects: &mut Vec<Effect>) {
        if self.save_again_at.is_some_and(|at| gate.now >= at) && !self.may_be_left() {
            self.save_again_at = None;
            effects.push(Effect::Save);
        }
        if matches!(self.stage, Stage::Fence | Stage::Promote) {
            self.withdraw(gate, effects);
        }
        match self.stage {
            Stage::Begin | Stage::Done => {}
            Stage::Fence => self.advance_fence(gate, effects),
            Stage::Promote => self.advance_promotion(gate, effects),
            Stage::Route => self.advance_routing(gate, effects),
            Stage::Complete => self.advance_completion(gate, effects),
            Stage::Leave => self.advance_leaving(gate, effects),
            Stage::Restore(phase) => self.advance_restoring(phase, gate, effects),
            Stage::Reopen => self.advance_reopening(gate, effects),
        }
    }

    /// Starts an action unless one is under way on that server.
    pub(super) fn act(
        &mut self,
        gate: Gate,
        server: &ServerAddr,
        action: Action,
        budget_ms: u64,
        effects: &mut Vec<Effect>,
    ) {
        if self.busy.contains_key(server) {
            return;
        }
        if let Some(member) = self.members.get_mut(server) {
            member.held |= action == Action::StopReceiver;
            member.opened |= action == Action::Unfence;
        }
        self.busy.insert(server.clone(), (action.clone(), gate.now));
        effects.push(Effect::Act(server.clone(), action, budget_ms));
    }

    pub(super) fn enter(&mut self, stage: Stage, phase: Phase, gate: Gate) {
        self.stage = stage;
        self.record.phase = phase;
        self.stage_since = gate.now;
        self.progress_at = gate.now;
        self.retry_at = gate.now;
    }

    /// Milliseconds since the first sign.
    pub(super) fn elapsed(&self, gate: Gate) -> u64 {
        gate.now.since_ms(self.first_sign)
    }
}

/// Budget of an ordinary action, in milliseconds.
pub(super) const ACTION_MS: u64 = 1000;
/// Pause before something that failed is tried again, in milliseconds.
pub(super) const RETRY_MS: u64 = 300;
