//! From the intent to the choice: stop the receivers, prove that the old primary can acknowledge
//! nothing more, compare what the replicas have.

use std::collections::BTreeMap;

use super::{
    Outcome, Phase, Recovery, StepRecord, Verdict,
    machine::{ACTION_MS, Effect, Gate, Machine, RETRY_MS},
    member::Member,
    stage::{Stage, Winner},
};
use crate::core::{
    candidate::{self, Ballot, Chosen, NoCandidate},
    gtid::GtidSet,
    id::ServerAddr,
    observation::{Channel, Observation, Receiver},
    rules::{Rule, holds},
    step::Action,
};

/// How long servers that are not needed for the quorum are waited for, in milliseconds.
const GRACE_MS: u64 = 300;
/// The same without semi-sync, where every replica's answer matters.
const GRACE_ASYNC_MS: u64 = 1000;
/// Longest set that is named in a message, as text, in bytes; of a longer one its size.
const NAMED_LEN_MAX: usize = 1000;

impl Machine {
    pub(super) fn enter_fencing(&mut self, gate: Gate, effects: &mut Vec<Effect>) {
        self.enter(Stage::Fence, Phase::Fencing, gate);
        self.winner = Winner::Drain;
        for member in self.members.values_mut() {
            member.stopped = false;
            member.follows = false;
        }
        self.withdraw(gate, effects);
        if !self.enter_forcing(gate, effects) {
            self.stop_receivers(gate, effects);
        }
    }

    /// Nobody is routed to the old primary.
    pub(super) fn withdraw(&mut self, gate: Gate, effects: &mut Vec<Effect>) {
        if !self.withdrawn && !self.routing && gate.now >= self.withdraw_at {
            self.routing = true;
            effects.push(Effect::Route(None));
        }
    }

    /// Whether no client is routed to a server that was chosen before: its endpoint goes before it is
    /// fenced (safety.md, "Failing over", 6).
    pub(super) fn led_away(&self) -> bool {
        self.withdrawn || self.stage == Stage::Complete
    }

    /// Back to the fence: receivers that run are stopped, and the choice is made anew.
    pub(super) fn back_to_fence(&mut self, gate: Gate) {
        self.enter(Stage::Fence, Phase::Fencing, gate);
        self.winner = Winner::Drain;
    }

    pub(super) fn stop_receivers(&mut self, gate: Gate, effects: &mut Vec<Effect>) {
        if !holds(Rule::Connecting) {
            self.members.values_mut().for_each(|member| member.stopped |= connects(member));
        }
        let may_fence = |addr: &ServerAddr| self.rejected.contains_key(addr) && self.led_away();
        let due = |(addr, member): (&ServerAddr, &Member)| match member.stopped {
            false => Some((addr.clone(), Action::StopReceiver)),
            true => (may_fence(addr) && member.open()).then(|| (addr.clone(), Action::Fence)),
        };
        let due: Vec<_> = self.members.iter().filter_map(due).collect();
        for (addr, action) in due {
            self.act(gate, &addr, action, ACTION_MS, effects);
        }
        self.retry_at = gate.now.plus_ms(RETRY_MS);
    }

    /// Whether the old primary can acknowledge nothing, and what it did acknowledge is to be found.
    pub(super) fn fenced(&self) -> bool {
        self.durability.fenced_by(self.vouching().into_iter())
    }

    /// Servers that are stopped and whose sets, or those of all that are, tell what they may have acknowledged.
    fn vouching(&self) -> Vec<&ServerAddr> {
        let stopped = || self.members.iter().filter(|(_, member)| member.stopped);
        if stopped().all(|(_, member)| member.forgot.is_none()) {
            return stopped().map(|(addr, _)| addr).collect();
        }
        let seen = stopped().filter_map(|(_, member)| member.seen.as_ref());
        let all = seen.fold(GtidSet::default(), |all, seen| all.union(&seen.total()));
        let old = [self.record.old_primary_set.as_ref(), self.old.as_ref().map(|old| &old.executed)];
        let nobody = all.is_empty() && old.into_iter().flatten().all(GtidSet::is_empty);
        let vouches = |member: &Member| nobody || member.forgot.as_ref().is_none_or(|forgot| forgot.made_good(&all));
        stopped().filter(|(_, member)| vouches(member)).map(|(addr, _)| addr).collect()
    }

    /// A server that clients may be writing to because of this recovery, and that nothing keeps from
    /// acknowledging: without semi-sync only its own word, or that it is gone, tells that it does not.
    fn unguarded(&self) -> Option<&ServerAddr> {
        let guarded = self.durability.wait_count > 0 && !self.accepts_loss();
        let may = |(addr, member): &(&ServerAddr, &Member)| {
            let silent = member.opened && !member.stopped && !member.gone && !guarded;
            silent && holds(Rule::SilentWinner) || member.stopped && member.open() && self.rejected.contains_key(*addr)
        };
        self.members.iter().find(may).map(|(addr, _)| addr)
    }

    /// Whether the old primary accepts writes and nobody was promoted: no server that this recovery had
    /// chosen is writable or has transactions of its own that the old primary lacks.
    fn needless(&self) -> bool {
        self.old_lives.is_some() && self.untouched()
    }

    /// Whether no client can have written to a server that this recovery had chosen: each answers, refuses
    /// writes, and nobody has anything of its own that the old primary lacks. What waits to be committed there
    /// shows at its ackers alone.
    pub(super) fn untouched(&self) -> bool {
        let old = self.old_lives.as_ref().map(|old| &old.executed).or_else(|| self.old_set());
        let old = old.cloned().unwrap_or_default();
        let untouched = |member: &Member| {
            let seen = member.seen.as_ref().filter(|_| member.stopped);
            seen.is_some_and(|seen| {
                let mut looks = self.members.values().filter_map(|other| other.seen.as_ref());
                let uuid = &seen.identity.uuid;
                let known = |look: &Observation| old.contains(&look.total().of_source(uuid));
                !seen.settings.writable() && looks.all(known)
            })
        };
        self.chosen_before().all(|addr| self.members.get(addr).is_some_and(untouched))
    }

    /// Servers that this recovery had chosen.
    pub(super) fn chosen_before(&self) -> impl Iterator<Item = &ServerAddr> {
        self.rejected.keys().chain(&self.record.new_primary).chain(self.record.left())
    }

    pub(super) fn advance_fence(&mut self, gate: Gate, effects: &mut Vec<Effect>) {
        if let Some(server) = self.already_writable() {
            self.record.timings.writable.get_or_insert(gate.now.since_ms(self.first_sign));
            self.record.new_primary = Some(server);
            self.enter(Stage::Route, Phase::Promoting, gate);
            self.advance_routing(gate, effects);
            return;
        }
        if self.force.is_none() && self.needless() {
            self.give_up(Phase::Failed, "the old primary answers again".to_owned(), gate, effects);
            return;
        }
        if !self.advance_forcing(gate, effects) {
            return;
        }
        let stopped = self.members.values().filter(|member| member.stopped).count();
        let waiting = self.members.keys().any(|addr| self.busy.contains_key(addr));
        let fenced = stopped > 0 && self.fence_holds() && self.unguarded().is_none();
        let grace_ms = if self.durability.wait_count == 0 { GRACE_ASYNC_MS } else { GRACE_MS };
        let waited = gate.now.since_ms(self.stage_since) >= grace_ms;
        if fenced && (!waiting || waited) {
            if self.shortage.choice_due(stopped, gate.now) {
                let fenced = self.elapsed(gate);
                if self.shortage.tried.is_none() {
                    self.record.timings.fenced = Some(fenced);
                }
                self.choose(gate, effects);
            }
        } else if !waiting && gate.now >= self.retry_at {
            self.blocked(stopped, gate, effects);
            self.stop_receivers(gate, effects);
        }
    }

    /// The server this recovery had chosen, if clients can already write to it.
    fn already_writable(&self) -> Option<ServerAddr> {
        let chosen = self.record.new_primary.as_ref()?;
        let member = self.members.get(chosen)?;
        let seen = member.seen.as_ref().filter(|_| member.stopped)?;
        let done = seen.channels.iter().all(|channel| !channel.applier_running && channel.drained(&seen.executed));
        (member.open() && done && !self.rejected.contains_key(chosen)).then(|| chosen.clone())
    }

    fn blocked(&mut self, stopped: usize, gate: Gate, effects: &mut Vec<Effect>) {
        let needs = self.durability.fence_needs().max(1);
        let lost = stopped.saturating_sub(self.vouching().len());
        let reason = match self.unguarded() {
            Some(open) => format!("blocked: {open} was to become the primary and may accept writes: it must answer"),
            None if lost > 0 => format!(
                "blocked: of the {needs} replicas that must be stopped to fence the old primary {stopped} answer, and \
                 {lost} of them lost data: what those acknowledged may be nowhere else"
            ),
            None => format!(
                "blocked: {stopped} of the {needs} replicas that must be stopped to fence the old primary answer"
            ),
        };
        if self.record.message != reason && gate.now.since_ms(self.stage_since) >= ACTION_MS {
            self.record.message = reason;
            effects.push(Effect::Save);
        }
    }

    /// Replicas whose receivers are stopped, with what they showed after that.
    pub(super) fn stopped(&self) -> BTreeMap<ServerAddr, Observation> {
        let stopped = self.members.iter().filter(|(_, member)| member.stopped);
        stopped.filter_map(|(addr, member)| Some((addr.clone(), member.seen.clone()?))).collect()
    }

    fn choose(&mut self, gate: Gate, effects: &mut Vec<Effect>) {
        self.record.phase = Phase::Choosing;
        let replicas = self.stopped();
        let unreachable =
            |member: &Member| member.error.clone().unwrap_or_else(|| "it did not answer in time".to_owned());
        let absent = self.members.iter().filter(|(addr, _)| !replicas.contains_key(*addr));
        let absent: BTreeMap<_, _> = absent.map(|(addr, member)| (addr.clone(), unreachable(member))).collect();
        let before = self.chosen_before().filter_map(|addr| self.members.get(addr)?.seen.as_ref());
        let chosen_before = before.map(|seen| seen.identity.uuid.clone()).collect();
        let (old, lossless) = self.old_known();
        let known_uuid = self.record.old_primary_uuid.as_deref();
        let decision = candidate::decide(&Ballot {
            old_primary: &self.record.old_primary,
            old_uuid: known_uuid.or(old.map(|seen| seen.identity.uuid.as_str())),
            old,
            old_set: self.old_set(),
            replicas: &replicas,
            absent: &absent,
            rejected: &self.rejected,
            chosen_before: &chosen_before,
            wanted: self.record.candidate.as_ref(),
            policy: &self.policy,
            semi_sync: self.durability.wait_count > 0 || self.policy.semi_sync.is_some(),
            lossless,
        });
        self.record.candidates = decision.candidates;
        match decision.outcome {
            Ok(chosen) => self.promote(chosen, gate, effects),
            // Somebody may come back with what is needed; that is no reason to give up.
            Err(NoCandidate::NobodyAnswers) => {}
            Err(reason) => {
                let reason = format!("{reason}{}", self.out_of_reach(&reason, &replicas));
                self.give_up(Phase::Refused, reason, gate, effects);
            }
        }
    }

    /// The transactions that keep everybody from being promoted, in words.
    fn out_of_reach(&self, why: &NoCandidate, replicas: &BTreeMap<ServerAddr, Observation>) -> String {
        let sets = |of: fn(&Observation) -> GtidSet, eligible: bool| {
            let excluded = |addr: &ServerAddr| {
                let mut judged = self.record.candidates.iter();
                judged.any(|judged| judged.server == *addr && judged.verdict == Verdict::Excluded)
            };
            let sets = replicas.iter().filter(|(addr, _)| !eligible || !excluded(addr)).map(|(_, seen)| of(seen));
            sets.fold(GtidSet::default(), |all, set| all.union(&set))
        };
        let all = sets(Observation::total, false);
        let (missing, where_not) = match why {
            NoCandidate::WouldLose(_) => (all.subtract(&sets(Observation::total, true)), "on no server that can be"),
            NoCandidate::NobodyEligible => (
                all.subtract(&sets(|seen| seen.executed.clone(), false)),
                "in relay logs alone, of servers that cannot be",
            ),
            _ => return String::new(),
        };
        if missing.is_empty() {
            return String::new();
        }
        let named = missing.to_string();
        let named = if named.len() <= NAMED_LEN_MAX { named } else { format!("{} transactions", missing.count()) };
        format!("; {where_not} promoted: {named}")
    }

    fn promote(&mut self, chosen: Chosen, gate: Gate, effects: &mut Vec<Effect>) {
        let before = self.record.clone();
        if let Some(before) = self.record.new_primary.take().filter(|before| *before != chosen.server) {
            self.record.steps.insert(0, left_for_another(before, self.elapsed(gate)));
        }
        self.record.new_primary = Some(chosen.server);
        self.record.promoted_set = Some(chosen.set);
        self.record.lost = Some(chosen.loss);
        self.record.timings.chosen = Some(self.elapsed(gate));
        if self.would_hang() {
            self.record = before;
            if self.force.is_some() {
                let reason = "too few replicas are left to acknowledge what the new primary commits";
                self.give_up(Phase::Refused, reason.to_owned(), gate, effects);
            } else {
                self.wait_for_ackers(gate, effects);
            }
            return;
        }
        (self.catch_up, self.shortage.tried) = (chosen.catch_up, None);
        self.record.message = String::new();
        self.enter_promotion(gate, effects);
    }
}

fn connects(member: &Member) -> bool {
    let connects = |channel: &Channel| channel.receiver == Receiver::Connecting;
    member.seen.as_ref().is_some_and(|seen| seen.channels.iter().all(connects))
}

fn left_for_another(server: ServerAddr, started_ms: u64) -> StepRecord {
    let outcome = Outcome::Failed("another server was chosen after it".to_owned());
    StepRecord { step: Recovery::LEFT.to_owned(), server, started_ms, took_ms: 0, outcome }
}
