//! A fleet of fake servers, and a driver that feeds the machine's effects to them one at a time.

use std::collections::{BTreeMap, VecDeque};

use baton::core::{
    gtid::GtidSet,
    id::{Epoch, ServerAddr},
    observation::{Failure, FailureKind, Observation},
    policy::Policy,
    recovery::{
        Cause, Loss, Phase, Recovery,
        machine::{Effect, Event, Gate, Machine},
    },
    snapshot::Snapshot,
    step::{Action, ActionError},
    time::Mono,
};

pub use super::server::{Server, addr, policy, trx, uuid};

/// A cluster whose primary (server 0) is dead, and what the journal and the routing know.
#[derive(Debug, Clone)]
pub struct World {
    pub servers: BTreeMap<ServerAddr, Server>,
    pub wait_count: u32,
    pub acknowledged: GtidSet,
    pub journal: Option<Recovery>,
    pub routed: Option<ServerAddr>,
    pub now: Mono,
    pub log: Vec<String>,
}

impl World {
    /// The primary wrote `written` transactions and got the acknowledgement that its replicas allowed.
    pub fn new(replicas: Vec<Server>, wait_count: u32, written: u64) -> Self {
        let mut primary = Server::replica(0, written, 0);
        primary.source = None;
        primary.alive = false;
        primary.read_only = false;
        primary.source_side = wait_count > 0;
        let copies = |number: u64| {
            let has = |server: &&Server| server.acker && server.received.union(&server.executed).contains(&one(number));
            replicas.iter().filter(has).count()
        };
        let acked = (1..=written).filter(|number| wait_count == 0 || copies(*number) >= wait_count as usize);
        let acknowledged = acked.fold(GtidSet::default(), |set, number| set.union(&one(number)));
        let servers = replicas.into_iter().chain([primary]).map(|server| (addr(server.index), server)).collect();
        Self {
            servers,
            wait_count,
            acknowledged,
            journal: None,
            routed: Some(addr(0)),
            now: Mono(10_000),
            log: Vec::new(),
        }
    }

    pub fn snapshot(&self) -> Snapshot {
        let ackers = self.servers.values().filter(|server| server.acker && server.source == Some(0)).count();
        let mut snapshot = Snapshot { at: self.now, primary: Some(addr(0)), ..Snapshot::default() };
        for (key, server) in &self.servers {
            let state = snapshot.servers.entry(key.clone()).or_default();
            let clients = if server.index == 0 { u32::try_from(ackers).unwrap() } else { 0 };
            if server.hidden {
                state.apply(Ok(Box::new(server.observe(self.now, clients, self.wait_count))));
                state.apply(Err(self.silent()));
                continue;
            }
            let mut seen = server.observe(self.now, clients, self.wait_count);
            if server.index == 0 {
                // The newest look was before the last writes.
                seen.executed = GtidSet::default();
            }
            state.apply(Ok(Box::new(seen)));
            if !server.alive {
                state.apply(Err(self.refused()));
            }
        }
        snapshot
    }

    fn refused(&self) -> Failure {
        Failure { at: self.now, kind: FailureKind::Refused, message: "connection refused".to_owned() }
    }

    fn silent(&self) -> Failure {
        Failure { at: self.now, kind: FailureKind::Silent, message: "no answer in time".to_owned() }
    }

    pub fn machine(&self, policy: &Policy) -> Machine {
        let cause = Cause { analysis: "DeadPrimary".to_owned(), server: addr(0), reason: String::new() };
        Machine::new(&self.snapshot(), policy, cause, Epoch(7), "a", self.now)
    }

    pub fn resume(&self, policy: &Policy) -> Machine {
        Machine::resume(self.journal.clone().unwrap(), &self.snapshot(), policy, "b")
    }

    /// Whether a commit on this server would be acknowledged to its client now.
    pub fn acknowledges(&self, server: &Server) -> bool {
        let attached = self
            .servers
            .values()
            .filter(|other| other.alive && other.acker && other.receiver && other.source == Some(server.index));
        let enough = !server.source_side || attached.count() >= self.wait_count as usize;
        server.alive && !server.read_only && !server.offline && enough
    }

    fn perform(&mut self, effect: Effect, machine: &Machine) -> Option<Event> {
        self.now = self.now.plus_ms(3);
        self.log.push(format!("{:?}", effect));
        match effect {
            Effect::Begin | Effect::Save => {
                let record = machine.record().clone();
                let event =
                    if effect == Effect::Begin { Event::Begun(Ok(())) } else { Event::Saved(record.phase, Ok(())) };
                self.journal = Some(record);
                Some(event)
            }
            Effect::Route(target) => {
                self.routed.clone_from(&target);
                Some(Event::Routed(target, Ok(())))
            }
            Effect::Act(server, action, _) => {
                let result = self.act(&server, &action);
                Some(Event::Acted(server, result))
            }
            Effect::Finish => None,
        }
    }

    fn act(&mut self, key: &ServerAddr, action: &Action) -> Result<Box<Observation>, ActionError> {
        let gone = ActionError::Contact { server: key.clone(), failure: self.refused() };
        let (now, wait_count) = (self.now, self.wait_count);
        let silent = ActionError::Contact { server: key.clone(), failure: self.silent() };
        let sent = self.sent_to(key);
        let server = self.servers.get_mut(key).ok_or(gone.clone())?;
        if server.hidden {
            return Err(silent);
        }
        if server.dies_after == Some(0) {
            server.alive = false;
        }
        server.dies_after = server.dies_after.map(|left| left.saturating_sub(1));
        if !server.alive {
            return Err(gone);
        }
        let precondition = |reason: &str| ActionError::Precondition { server: key.clone(), reason: reason.to_owned() };
        match action {
            Action::StopReceiver => server.receiver = false,
            Action::StartReceiver => server.receiver = true,
            Action::StartApplier => server.applier = true,
            Action::WaitApplied { .. } => {
                server.received = server.received.union(&sent);
                if server.applier && !server.source_side {
                    server.executed = server.executed.union(&server.received);
                }
            }
            Action::Fence => (server.offline, server.source_side, server.read_only) = (true, false, true),
            Action::SetReadOnly => (server.offline, server.read_only) = (false, true),
            Action::SemiSyncSource { on, .. } => server.source_side = *on,
            Action::Claim { epoch, .. } if server.claimed.is_some_and(|claimed| claimed > *epoch) => {
                return Err(precondition("a higher epoch was here"));
            }
            Action::Claim { epoch, .. } => server.claimed = Some(*epoch),
            Action::WriteEpoch { .. } => {
                server.applier = false;
                server.receiver = false;
                let index = server.index;
                // A replica receives in order: all that came before, then the row.
                let (needs_ack, own) = (server.source_side, trx(index, 1).union(&server.executed));
                let attached = self.attached(index);
                if needs_ack && attached.len() < wait_count as usize {
                    return Err(silent);
                }
                for other in attached {
                    let follower = self.servers.get_mut(&addr(other)).unwrap();
                    follower.received = follower.received.union(&own);
                }
                let server = self.servers.get_mut(key).unwrap();
                server.executed = server.executed.union(&own);
            }
            Action::Unfence if server.claimed.is_none() => return Err(precondition("not claimed")),
            Action::Unfence => (server.offline, server.read_only) = (false, false),
            Action::ForgetSource => server.source = None,
            Action::Repoint { source, .. } => {
                assert!(server.executed.contains(&server.received), "{key}: relay log thrown away");
                let index = (0..10).find(|index| addr(*index) == *source).unwrap();
                server.source = Some(index);
                server.received = GtidSet::default();
                (server.receiver, server.applier) = (true, true);
            }
            _ => {}
        }
        let server = &self.servers[key];
        Ok(Box::new(server.observe(now, 0, wait_count)))
    }

    /// What a replica's receiver gets from its source now.
    fn sent_to(&self, key: &ServerAddr) -> GtidSet {
        let replica = self.servers.get(key).filter(|replica| replica.receiver);
        let source = replica.and_then(|replica| self.servers.get(&addr(replica.source?)));
        source
            .filter(|source| source.alive && !source.offline)
            .map(|source| source.executed.clone())
            .unwrap_or_default()
    }

    fn attached(&self, index: usize) -> Vec<usize> {
        if self.servers[&addr(index)].offline {
            return Vec::new();
        }
        let follows =
            |server: &&Server| server.alive && server.acker && server.receiver && server.source == Some(index);
        self.servers.values().filter(follows).map(|server| server.index).collect()
    }

    /// Runs the machine for at most `effects_max` effects, in the order `pick` says. True: it ended.
    pub fn run(&mut self, machine: &mut Machine, effects_max: usize, mut pick: impl FnMut(usize) -> usize) -> bool {
        let gate = |now: Mono| Gate { now, leader_until: now.plus_ms(2000) };
        let mut queue: VecDeque<_> = machine.step(gate(self.now), Event::Start).into();
        for _ in 0..effects_max {
            if queue.is_empty() {
                if machine.finished() {
                    return true;
                }
                self.now = self.now.plus_ms(20);
                queue.extend(machine.step(gate(self.now), Event::Tick));
                if let Some(seen) = self.look_at_old() {
                    queue.extend(machine.step(gate(self.now), Event::OldAnswers(Box::new(seen))));
                }
                self.check(machine);
                continue;
            }
            let chosen = pick(queue.len()) % queue.len();
            let effect = queue.remove(chosen).unwrap();
            if let Some(event) = self.perform(effect, machine) {
                queue.extend(machine.step(gate(self.now), event));
            }
            self.check(machine);
        }
        machine.finished() && queue.is_empty()
    }

    fn look_at_old(&self) -> Option<Observation> {
        let old = self.servers.get(&addr(0)).filter(|old| old.alive && !old.hidden)?;
        Some(old.observe(self.now, 0, self.wait_count))
    }

    /// The invariants that hold at every moment.
    fn check(&self, machine: &Machine) {
        let acknowledging: Vec<_> =
            self.servers.values().filter(|server| self.acknowledges(server)).map(|server| server.index).collect();
        assert!(acknowledging.len() <= 1, "I3: {acknowledging:?} acknowledge together\n{}", self.log.join("\n"));
        if let Some(routed) = &self.routed {
            let server = &self.servers[routed];
            assert!(
                server.index == 0 || !server.read_only,
                "I9: {routed} is routed and not writable\n{}",
                self.log.join("\n")
            );
        }
        if machine.record().phase.promoted() && self.wait_count > 0 {
            let primary = &self.servers[machine.record().new_primary.as_ref().unwrap()];
            let told = match &machine.record().lost {
                Some(Loss::AtLeast(set)) => set.clone(),
                _ => GtidSet::default(),
            };
            let missing = self.acknowledged.subtract(&primary.executed).subtract(&told);
            assert!(missing.is_empty(), "I1: {missing} lost\n{}", self.log.join("\n"));
        }
        if machine.record().phase != Phase::Pending {
            assert!(self.journal.is_some(), "no record, no step");
        }
    }
}

fn one(number: u64) -> GtidSet {
    format!("{}:{number}", uuid(0)).parse().unwrap()
}
