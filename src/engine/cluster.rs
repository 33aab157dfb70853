//! The task of one cluster: looks and wishes in, a view out and, on the leader, recoveries and
//! housekeeping.
//!
//! Everything happens in one loop over one snapshot, so nothing is decided on half of the picture.
//! Standbys run the same loop; they differ by the gate (see [`super::ports::Leadership`]) alone.

mod answering;
mod duties;
mod failover;
mod held;
mod history;
mod members;
mod relocation;
mod turn;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::sync::{mpsc, watch};

use self::{duties::Rest, relocation::Relocations, turn::Place};
use super::{
    calm::{GAP_MS, Rhythm, news},
    decide::{self, Next, Watching},
    facts::{Desired, Facts, History, recorded_primary},
    ports::{ActionError, JournalError, World},
    recover::Runner,
    requests::Requests,
};
use crate::core::{
    discovery,
    id::{ClusterKey, Epoch, ServerAddr},
    membership::{Ledger, Membership},
    observation::{Look, Observation},
    recovery::{Recovery, machine::Event},
    repair::attempts::Attempts,
    rules::{Rule, holds},
    snapshot::Snapshot,
    status::ClusterView,
    step::Action,
    time::Mono,
};

/// Looks folded before decisions are made anew.
const LOOKS_PER_PASS: usize = 64;

/// What the task is fed with.
#[derive(Debug)]
pub struct Inputs {
    /// Looks as they come; bounded.
    pub looks: mpsc::Receiver<(ServerAddr, Look)>,
    /// The owner's wishes.
    pub desired: watch::Receiver<Desired>,
    /// The records.
    pub history: watch::Receiver<History>,
}

/// What the task tells.
#[derive(Debug)]
pub struct Outputs {
    /// The cluster as it is shown.
    pub view: watch::Sender<Option<ClusterView>>,
    /// How servers are to be looked at.
    pub watching: watch::Sender<Watching>,
}

/// How a side task ended.
enum Done {
    /// The server, and how long it is left alone.
    Duty(ServerAddr, Rest, Result<Box<Observation>, ActionError>),
    /// Who may acknowledge was to be written down.
    Members(Membership, Result<(), JournalError>),
    Claim(Result<Box<Recovery>, JournalError>),
    /// All records, because none was known of this epoch.
    Read(Epoch, Result<Box<History>, JournalError>),
    /// The request, the reason, and whether it was written.
    Refused(String, String, Result<(), JournalError>),
    Relocation(relocation::Written),
}

/// The task of one cluster.
pub struct Cluster<W> {
    key: ClusterKey,
    executor: String,
    world: Arc<W>,
    inputs: Inputs,
    outputs: Outputs,
    desired: Desired,
    history: History,
    requests: Requests,
    /// The newest epoch that could not be begun: the next attempt is not to meet what was in its way.
    spoilt: Epoch,
    /// The newest epoch for which all records were read because no watch had shown its own.
    asked: Epoch,
    snapshot: Snapshot,
    runner: Option<Runner<W>>,
    relocations: Relocations,
    repairs: Attempts,
    side: FuturesUnordered<BoxFuture<'static, Done>>,
    busy: BTreeMap<ServerAddr, Mono>,
    /// Somebody's recovery ended then: what was seen before may be of the time before it.
    settled: Mono,
    /// Actions on servers that are under way besides a recovery.
    duties: usize,
    /// Servers that those make replicas.
    joining: BTreeSet<ServerAddr>,
    /// Whose receiver is being made to connect anew.
    reconnecting: Option<ServerAddr>,
    admitted: Option<(ServerAddr, u32)>,
    writing_members: bool,
    members_not_before: Mono,
    claiming: Option<Mono>,
    /// Since when the record that is held is as it is.
    held: Option<(String, Mono)>,
    not_before: Mono,
    /// After a recovery that came to nothing; what was begun is carried on all the same.
    rest_until: Mono,
    rhythm: Rhythm,
    place: Place,
}

impl<W> std::fmt::Debug for Cluster<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").field("key", &self.key).field("runner", &self.runner).finish_non_exhaustive()
    }
}

impl<W: World> Cluster<W> {
    /// A task that has seen nothing yet. `executor` is this process' identity in records.
    pub fn new(key: ClusterKey, executor: &str, world: Arc<W>, mut inputs: Inputs, outputs: Outputs) -> Self {
        let now = world.now();
        let desired = inputs.desired.borrow_and_update().clone();
        let mut history = inputs.history.borrow_and_update().clone();
        let mut requests = Requests::default();
        requests.read(std::mem::take(&mut history.requests), now);
        let primary = recorded_primary(&desired, history.last.as_ref());
        let ledger = Ledger { read: desired.semi_sync.clone(), ..Ledger::default() };
        let snapshot = Snapshot { at: now, watching_since: now, primary, ledger, ..Snapshot::default() };
        let mut cluster = Self {
            key,
            executor: executor.to_owned(),
            world,
            inputs,
            outputs,
            desired,
            history,
            requests,
            spoilt: Epoch(0),
            asked: Epoch(0),
            snapshot,
            runner: None,
            relocations: Relocations::default(),
            repairs: Attempts::default(),
            side: FuturesUnordered::new(),
            busy: BTreeMap::new(),
            settled: now,
            duties: 0,
            joining: BTreeSet::new(),
            reconnecting: None,
            admitted: None,
            writing_members: false,
            members_not_before: now,
            claiming: None,
            held: None,
            not_before: now,
            rest_until: now,
            rhythm: Rhythm::new(now),
            place: Place::default(),
        };
        cluster.note_hold(now);
        cluster.adopt_ackers();
        cluster.adopt_servers();
        cluster
    }

    /// Runs until the inputs are closed.
    pub async fn run(mut self) {
        loop {
            let tick_ms = self.rhythm.tick_ms(self.runner.is_some());
            let world = Arc::clone(&self.world);
            let step = async {
                match &mut self.runner {
                    Some(runner) => runner.next().await,
                    None => std::future::pending().await,
                }
            };
            let mut news = true;
            tokio::select! {
                biased;
                event = step => self.recovery_event(event),
                look = self.inputs.looks.recv() => match look {
                    Some((addr, look)) => news = self.take_looks(&addr, look),
                    None => return,
                },
                Some(done) = self.side.next() => self.side_done(done),
                changed = self.inputs.desired.changed() => match changed {
                    Ok(()) => self.take_desired(),
                    Err(_) => return,
                },
                Ok(()) = self.inputs.history.changed() => {
                    let read = self.inputs.history.borrow_and_update().clone();
                    self.take_history(read);
                }
                () = world.sleep_ms(tick_ms) => news = false,
            }
            self.go_on(news);
        }
    }

    /// Thinks, unless all was well a moment ago and nothing is new since.
    fn go_on(&mut self, news: bool) {
        let now = self.world.now();
        self.snapshot.at = now;
        if self.rhythm.slept(now) && holds(Rule::GapVoids) {
            self.snapshot.watching_since = now;
        }
        if self.rhythm.due(now, news) {
            self.pass(now);
        }
    }

    /// Takes what looks there are; whether any shows something new.
    fn take_looks(&mut self, addr: &ServerAddr, look: Look) -> bool {
        let mut news = self.take_look(addr, look);
        for _ in 1..LOOKS_PER_PASS {
            match self.inputs.looks.try_recv() {
                Ok((addr, look)) => news |= self.take_look(&addr, look),
                Err(_) => break,
            }
        }
        news
    }

    fn take_look(&mut self, addr: &ServerAddr, look: Look) -> bool {
        if let (Some(runner), Ok(seen)) = (&mut self.runner, &look)
            && runner.looked(addr, seen).is_err()
        {
            self.stop_recovery();
        }
        let news = news(self.snapshot.servers.get(addr), &look);
        self.rhythm.looked(self.snapshot.primary.as_ref() == Some(addr));
        self.snapshot.apply(addr, look);
        news
    }

    fn take_desired(&mut self) {
        let known = self.epoch();
        self.desired = self.inputs.desired.borrow_and_update().clone();
        self.snapshot.ledger.renew(self.desired.semi_sync.clone());
        if self.runner.is_none() && (self.snapshot.primary.is_none() || self.desired.epoch > known) {
            let recorded = recorded_primary(&self.desired, self.history.last.as_ref());
            self.snapshot.primary = recorded.or(self.snapshot.primary.take());
        }
        self.adopt_servers();
    }

    /// Whoever may acknowledge is looked at, whether somebody who answers names it or not.
    fn adopt_ackers(&mut self) {
        let ackers: Vec<_> = self.snapshot.ledger.ackers().cloned().collect();
        for addr in ackers {
            self.snapshot.servers.entry(addr).or_default();
        }
    }

    /// Servers named by the owner or found by discovery are looked at; forgotten ones leave.
    fn adopt_servers(&mut self) {
        self.snapshot.adopt(self.desired.policy.servers.keys());
        let (found, gone) = decide::membership(&self.snapshot, &self.desired.policy);
        for addr in found {
            self.snapshot.servers.entry(addr).or_default();
        }
        for addr in gone {
            if self.snapshot.primary.as_ref() == Some(&addr) {
                self.snapshot.primary = discovery::same_server(&self.snapshot, &self.desired.policy, &addr).cloned();
            }
            self.snapshot.servers.remove(&addr);
        }
    }

    /// The newest reign known.
    fn epoch(&self) -> Epoch {
        let last = self.history.last.as_ref().map_or(Epoch(0), |record| record.epoch);
        self.desired.epoch.max(last)
    }

    /// One pass: what is wrong, what is shown, what is to be done.
    fn pass(&mut self, now: Mono) {
        self.adopt_servers();
        if let Some(runner) = &mut self.runner {
            if runner.feed(Event::Tick).is_err() {
                self.stop_recovery();
            } else if runner.finished() {
                self.recovery_finished();
            }
        } else {
            self.snapshot.primary = decide::primary(&self.snapshot, &self.history);
        }
        self.end_turn(now);
        let relocations = self.relocations.known(&self.history.relocations, now);
        let facts = Facts {
            desired: &self.desired,
            history: &self.history,
            request: self.requests.first(now),
            epoch: self.epoch(),
            recovering: self.runner.as_ref().map(|runner| runner.record()),
            relocations: &relocations,
        };
        let mut decision = decide::decide(&self.snapshot, &facts);
        let calm = decision.calm && decision.record.is_none();
        self.rhythm.passed(now, calm && self.side.is_empty() && self.claiming.is_none());
        let mut watching = decide::watching(&self.snapshot, &self.desired.policy, self.runner.is_some());
        // Whoever executes it decides who writes.
        watching.canary = watching.canary.filter(|_| self.history.unfinished.is_none());
        let until = self.world.leader_until().filter(|until| *until > now.plus_ms(GAP_MS / 2));
        watching.canary = watching.canary.filter(|_| until.is_some());
        self.outputs.watching.send_if_modified(|old| replace(old, watching));
        self.outputs.view.send_if_modified(|old| replace(old, Some(decision.view)));
        match (until, &self.runner) {
            (Some(until), None) => {
                let repairs = std::mem::take(&mut decision.outlook.repairs);
                let free = decision.outlook.free;
                self.relocate(now, until, decision.outlook);
                self.act(now, until, decision.next);
                self.repair(now, until, free, repairs);
                if let Some(to) = decision.record {
                    self.write_members(now, to);
                }
            }
            (Some(_), Some(_)) => self.refuse_others(now),
            // Whoever leads goes on with it, and may write.
            (None, _) => {
                self.relocations.now = None;
                self.snapshot.ledger.written = None;
            }
        }
    }

    fn act(&mut self, now: Mono, until: Mono, next: Next) {
        match next {
            _ if self.claiming.is_some() => {}
            Next::Force(old_primary, dead) => self.force(now, old_primary, dead),
            Next::Refuse(reason) => self.refuse(now, reason),
            _ if now < self.not_before => {}
            Next::Resume(record) => self.resume(now, record),
            // That has its own rest: it is another thing to try.
            Next::Reopen(analysis) if self.ackers_are_sure(now) => self.begin_in_turn(now, &analysis),
            Next::Reopen(_) => {}
            // Before it gets what only the old primary has: that may be back any moment.
            Next::Duties(mut duties) if now < self.rest_until => {
                duties.retain(|duty| duty.action == Action::ForgetSource);
                self.begin_duties(now, until, duties);
            }
            _ if now < self.rest_until => {}
            Next::Failover(analysis) => self.begin_in_turn(now, &analysis),
            Next::Duties(duties) => self.begin_duties(now, until, duties),
        }
    }

    fn side_done(&mut self, done: Done) {
        let now = self.world.now();
        match done {
            Done::Members(to, result) => self.members_written(to, result),
            Done::Duty(addr, rest, result) => self.duty_done(now, &addr, rest, result),
            Done::Claim(Ok(record)) => self.claimed(*record),
            Done::Claim(Err(error)) => {
                self.claiming = None;
                self.not_before = now.plus_ms(GAP_MS);
                tracing::warn!(cluster = %self.key, "cannot continue the recovery: {error}");
            }
            Done::Read(epoch, result) => self.has_read(now, epoch, result),
            Done::Refused(record, reason, result) => self.refused(&record, &reason, result),
            Done::Relocation(written) => self.relocation_written(written),
        }
    }
}

/// Replaces and tells whether anything changed.
fn replace<T: PartialEq>(old: &mut T, new: T) -> bool {
    let changed = *old != new;
    *old = new;
    changed
}
