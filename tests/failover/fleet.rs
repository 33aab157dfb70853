//! A fleet of fake servers with clients that write, a journal and a route, and a driver that feeds a
//! machine's effects to them one at a time.

use std::collections::{BTreeMap, VecDeque};

use baton::core::{
    gtid::GtidSet,
    id::{Epoch, ServerAddr},
    observation::{Failure, FailureKind, Observation},
    policy::Policy,
    recovery::{
        Cause, Recovery,
        machine::{Effect, Event, Gate, Machine},
    },
    snapshot::Snapshot,
    step::{Action, ActionError},
    time::Mono,
};

pub use super::servers::{Server, addr, one, policy, trx};

/// How long leadership is sure from the start of a driver's step, in milliseconds.
const LEASE_MS: u64 = 2000;

/// What becomes of one effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Fine,
    /// It happens, but the answer is lost.
    AnswerLost,
    /// It does not happen, and no answer says so.
    NotDone,
}

/// A cluster whose primary (server 0) is lost, and what the journal and the routing know.
#[derive(Debug, Clone)]
pub struct World {
    pub servers: BTreeMap<ServerAddr, Server>,
    pub wait_count: u32,
    pub acknowledged: GtidSet,
    pub journal: Option<Recovery>,
    pub routed: Option<ServerAddr>,
    /// Transactions that are an epoch's, by server and number.
    pub epochs: BTreeMap<(usize, u64), Epoch>,
    /// Servers change by nobody's doing but the machine's: it must know what it asks for.
    pub tidy: bool,
    /// A source that lives sends what it has while replicas are waited for.
    pub sends: bool,
    /// Looks show what the primary has.
    pub open_book: bool,
    pub now: Mono,
    /// Whose applier makes no progress.
    pub hangs: Option<usize>,
    /// What the newest look at the old primary showed; it was before the last writes.
    pub old_seen: GtidSet,
    pub log: Vec<String>,
}

impl World {
    /// The primary wrote `written` transactions and got the acknowledgement that its replicas allowed.
    pub fn new(replicas: Vec<Server>, wait_count: u32, written: u64) -> Self {
        let mut primary = Server::replica(0, written, 0);
        primary.source = None;
        primary.alive = false;
        primary.read_only = false;
        primary.acker = false;
        primary.source_side = wait_count > 0;
        let copies = |number: u64| {
            let has = |server: &&Server| server.acker && server.total().contains(&one(0, number));
            replicas.iter().filter(has).count()
        };
        let acked = (1..=written).filter(|number| wait_count == 0 || copies(*number) >= wait_count as usize);
        let acknowledged = acked.fold(GtidSet::default(), |set, number| set.union(&one(0, number)));
        if wait_count > 0 {
            // What was not acknowledged waits.
            primary.stuck = primary.executed.subtract(&acknowledged);
            primary.executed = acknowledged.clone();
        }
        let servers = replicas.into_iter().chain([primary]).map(|server| (addr(server.index), server)).collect();
        Self {
            servers,
            wait_count,
            acknowledged,
            journal: None,
            routed: Some(addr(0)),
            epochs: BTreeMap::new(),
            tidy: true,
            sends: false,
            open_book: false,
            now: Mono(10_000),
            hangs: None,
            old_seen: GtidSet::default(),
            log: Vec::new(),
        }
    }

    /// What the operator saw: every server well before, then the primary no more.
    pub fn snapshot(&self) -> Snapshot {
        // Who is dead by now was there when the primary was last looked at.
        let counts = |server: &&Server| server.acker && server.receiver && server.source == Some(0);
        let clients = u32::try_from(self.servers.values().filter(counts).count()).unwrap();
        let mut snapshot = Snapshot { at: self.now, primary: Some(addr(0)), ..Snapshot::default() };
        for before in [true, false] {
            for (key, server) in self.servers.iter().filter(|(_, server)| !server.hidden) {
                let at = if before { Mono(self.now.0 - 500) } else { self.now };
                let clients = if server.index == 0 { clients } else { 0 };
                let mut seen = server.observe(at, clients, self.wait_count, before);
                if server.index == 0 && !self.open_book {
                    seen.executed.clone_from(&self.old_seen);
                }
                let answers = server.alive && !server.cut;
                let state = snapshot.servers.entry(key.clone()).or_default();
                state.apply(if before || answers { Ok(Box::new(seen)) } else { Err(self.silence(server)) });
            }
        }
        snapshot
    }

    pub fn silence(&self, server: &Server) -> Failure {
        let kind = if server.alive { FailureKind::Silent } else { FailureKind::Refused };
        Failure { at: self.now, kind, message: format!("{kind:?}").to_lowercase() }
    }

    pub fn machine(&self, policy: &Policy) -> Machine {
        let cause = Cause { analysis: "DeadPrimary".to_owned(), server: addr(0), reason: String::new() };
        let executor = format!("a{}", self.log.len());
        Machine::new(&self.snapshot(), policy, cause, Epoch(7), &executor, self.now)
    }

    /// Running ackers connected to a server.
    pub fn attached(&self, index: usize) -> Vec<usize> {
        let follows =
            |server: &&Server| server.alive && server.acker && server.receiver && server.source == Some(index);
        self.servers.values().filter(follows).map(|server| server.index).collect()
    }

    /// Whether a commit on this server would be acknowledged to its client now.
    pub fn acknowledges(&self, server: &Server) -> bool {
        let enough = !server.source_side || self.attached(server.index).len() >= self.wait_count as usize;
        server.writable() && enough
    }

    /// A client writes to a server; what it is told of is noted.
    pub fn write(&mut self, index: usize) {
        if self.servers[&addr(index)].writable() {
            self.commit(index);
        }
    }

    /// One more transaction on a server.
    fn commit(&mut self, index: usize) -> u64 {
        let server = self.servers.get_mut(&addr(index)).unwrap();
        let number = server.executed.union(&server.stuck).of_source(&super::servers::uuid(index)).count() + 1;
        server.stuck = server.stuck.union(&one(index, number));
        self.flow(index);
        number
    }

    /// What waits on a server goes to the ackers connected to it, and commits when they are enough.
    pub fn flow(&mut self, index: usize) {
        let key = addr(index);
        let server = self.servers[&key].clone();
        if !server.alive {
            return;
        }
        let attached = self.attached(index);
        // A replica receives in order: all that came before, then what is new.
        let all = server.executed.union(&server.stuck);
        for other in &attached {
            let follower = self.servers.get_mut(&addr(*other)).unwrap();
            follower.received = follower.received.union(&all);
        }
        if !server.source_side || attached.len() >= self.wait_count as usize {
            self.release(&key);
        }
    }

    /// Commits what waits: its clients are told, unless it is an epoch, which has none.
    fn release(&mut self, key: &ServerAddr) {
        let server = self.servers.get_mut(key).unwrap();
        let stuck = std::mem::take(&mut server.stuck);
        server.executed = server.executed.union(&stuck);
        let epochs =
            self.epochs.keys().fold(GtidSet::default(), |set, (index, number)| set.union(&one(*index, *number)));
        self.acknowledged = self.acknowledged.union(&stuck.subtract(&epochs));
    }

    /// Carries out one effect. `lease` is until when its machine surely led.
    pub fn perform(&mut self, effect: Effect, machine: &Machine, fate: Fate, lease: Mono) -> Option<Event> {
        self.now = self.now.plus_ms(3);
        self.log.push(format!("{} {fate:?} {effect:?}", machine.record().executor));
        match effect {
            Effect::Begin => Some(Event::Begun(self.save(machine, fate))),
            Effect::Save => {
                let named = machine.record().new_primary.clone();
                Some(Event::Saved(named, self.save(machine, fate)))
            }
            Effect::Route(target) => {
                if fate != Fate::NotDone {
                    self.routed.clone_from(&target);
                }
                let result = if fate == Fate::Fine { Ok(()) } else { Err("unavailable".to_owned()) };
                Some(Event::Routed(target, result))
            }
            Effect::Act(server, action, _) => {
                let executor = machine.record().executor.clone();
                let answer = |world: &Self| ActionError::Contact {
                    server: server.clone(),
                    failure: Failure { at: world.now, kind: FailureKind::Silent, message: "lost".to_owned() },
                };
                let result = match fate {
                    Fate::NotDone => Err(answer(self)),
                    Fate::Fine => self.act(&server, &action, &executor, lease),
                    Fate::AnswerLost => self.act(&server, &action, &executor, lease).and(Err(answer(self))),
                };
                Some(Event::Acted(server, result))
            }
            Effect::StartJob => {
                Some(Event::JobStarted(if fate == Fate::Fine { Ok(()) } else { Err("no quota".to_owned()) }))
            }
            Effect::Leave => Some(Event::Left(self.leave(machine, fate))),
            Effect::Finish => None,
        }
    }

    fn act(
        &mut self,
        key: &ServerAddr,
        action: &Action,
        executor: &str,
        lease: Mono,
    ) -> Result<Box<Observation>, ActionError> {
        let (now, wait_count) = (self.now, self.wait_count);
        let sent = self.sent_to(key);
        let server = self.servers.get_mut(key).unwrap();
        let index = server.index;
        if server.dies_after == Some(0) {
            server.alive = false;
        }
        server.dies_after = server.dies_after.map(|left| left.saturating_sub(1));
        if !server.alive || server.cut {
            return Err(ActionError::Contact { server: key.clone(), failure: self.silence(&self.servers[key]) });
        }
        let precondition = |reason: &str| ActionError::Precondition { server: key.clone(), reason: reason.to_owned() };
        let claimed = server.claimed.as_ref().is_some_and(|(_, by, until)| by == executor && now < *until);
        match action {
            Action::StopReceiver => server.receiver = false,
            Action::StartReceiver => {
                server.receiver = true;
                server.source.into_iter().for_each(|source| self.flow(source));
            }
            Action::StartApplier => server.applier = true,
            Action::WaitApplied { .. } => {
                server.received = server.received.union(&sent);
                if server.applier && !server.source_side && self.hangs != Some(index) {
                    server.executed = server.executed.union(&server.received);
                }
            }
            Action::SemiSyncSource { on: true, .. } | Action::LosslessSemiSync { .. } => server.source_side = true,
            Action::SemiSyncSource { .. } => {
                // Whoever waits is told that it is done (M2).
                server.source_side = false;
                self.release(key);
            }
            Action::Fence => {
                // Whoever waits is cut off without an answer (M3).
                server.executed = server.executed.union(&std::mem::take(&mut server.stuck));
                (server.offline, server.source_side, server.read_only) = (true, false, true);
            }
            Action::SetReadOnly => (server.offline, server.read_only) = (false, true),
            Action::Claim { epoch, .. } if server.claimed.as_ref().is_some_and(|(claimed, ..)| claimed > epoch) => {
                return Err(precondition("a higher epoch was here"));
            }
            Action::Claim { epoch, valid_ms } => {
                let until = now.plus_ms(*valid_ms).min(lease);
                server.claimed = Some((*epoch, executor.to_owned(), until));
            }
            Action::WriteEpoch { .. } | Action::Unfence if !claimed => return Err(precondition("not claimed")),
            Action::WriteEpoch { epoch, .. } => {
                (server.applier, server.receiver) = (false, false);
                self.write_epoch(key, *epoch)?;
                let server = self.servers.get_mut(key).unwrap();
                server.source = server.source.filter(|_| !server.executed.contains(&server.received));
            }
            Action::Unfence => {
                (server.read_only, server.offline, server.claimed) = (false, false, None);
                server.restarted = false;
            }
            Action::ForgetSource => server.source = None,
            Action::Repoint { .. } if !self.tidy && !server.executed.contains(&server.received) => {
                return Err(precondition("not everything is applied"));
            }
            Action::Repoint { source, .. } => {
                assert!(server.executed.contains(&server.received), "{key}: relay log thrown away");
                let index = (0..10).find(|index| addr(*index) == *source).unwrap();
                server.source = Some(index);
                server.received = GtidSet::default();
                (server.receiver, server.applier) = (true, true);
                self.flow(index);
            }
            _ => {}
        }
        let attached = u32::try_from(self.attached(index).len()).unwrap();
        Ok(Box::new(self.servers[key].observe(now, attached, wait_count, false)))
    }

    /// What a replica's receiver gets from its source now.
    fn sent_to(&self, key: &ServerAddr) -> GtidSet {
        let replica = self.servers.get(key).filter(|replica| replica.receiver && self.sends);
        let source = replica.and_then(|replica| self.servers.get(&addr(replica.source?)));
        source.filter(|it| it.alive && !it.offline).map(|it| it.executed.clone()).unwrap_or_default()
    }

    /// A look at an old primary that lives; one that accepts writes would end the recovery, unless a person forces it.
    fn look_at_old(&self, machine: &Machine) -> Option<Observation> {
        let old = self.servers.get(&machine.record().old_primary).filter(|old| old.alive && !old.cut)?;
        let shown = machine.record().cause.is_forced() || !old.writable();
        shown.then(|| old.observe(self.now, 0, self.wait_count, false))
    }

    fn write_epoch(&mut self, key: &ServerAddr, epoch: Epoch) -> Result<(), ActionError> {
        let server = &self.servers[key];
        let index = server.index;
        let is_epoch = |set: &GtidSet| {
            let found = self.epochs.iter().filter(|((index, number), _)| set.contains(&one(*index, *number)));
            found.map(|(_, epoch)| *epoch).max()
        };
        if is_epoch(&server.executed) == Some(epoch) {
            return Ok(());
        }
        if is_epoch(&server.stuck) != Some(epoch) {
            let number = server.executed.union(&server.stuck).of_source(&super::servers::uuid(index)).count() + 1;
            self.epochs.insert((index, number), epoch);
            self.commit(index);
        }
        if self.servers[key].stuck.is_empty() {
            return Ok(());
        }
        let failure = Failure { at: self.now, kind: FailureKind::Silent, message: "no answer in time".to_owned() };
        Err(ActionError::Contact { server: key.clone(), failure })
    }

    /// Runs the machine for at most `effects_max` effects, in the order `pick` says. True: it ended.
    pub fn run(&mut self, machine: &mut Machine, effects_max: usize, mut pick: impl FnMut(usize) -> usize) -> bool {
        let gate = |now: Mono| Gate { now, leader_until: now.plus_ms(LEASE_MS) };
        let mut queue: VecDeque<_> = machine.step(gate(self.now), Event::Start).into();
        for _ in 0..effects_max {
            if queue.is_empty() {
                if machine.finished() {
                    return true;
                }
                self.now = self.now.plus_ms(20);
                queue.extend(machine.step(gate(self.now), Event::Tick));
                if let Some(seen) = self.look_at_old(machine) {
                    queue.extend(machine.step(gate(self.now), Event::OldAnswers(Box::new(seen))));
                }
                self.check(machine);
                continue;
            }
            let chosen = pick(queue.len()) % queue.len();
            let effect = queue.remove(chosen).unwrap();
            if let Some(event) = self.perform(effect, machine, Fate::Fine, gate(self.now).leader_until) {
                queue.extend(machine.step(gate(self.now), event));
            }
            self.check(machine);
        }
        machine.finished() && queue.is_empty()
    }

    /// Runs the machine in the order of its effects, each with the fate that `fate` gives it.
    pub fn drive(&mut self, machine: &mut Machine, effects_max: usize, mut fate: impl FnMut(&Effect) -> Fate) {
        let gate = |now: Mono| Gate { now, leader_until: now.plus_ms(LEASE_MS) };
        let mut queue: VecDeque<_> = machine.step(gate(self.now), Event::Start).into();
        for _ in 0..effects_max {
            let event = match queue.pop_front() {
                Some(effect) => {
                    let fate = fate(&effect);
                    self.perform(effect, machine, fate, gate(self.now).leader_until)
                }
                None => {
                    self.now = self.now.plus_ms(20);
                    Some(Event::Tick)
                }
            };
            queue.extend(event.into_iter().flat_map(|event| machine.step(gate(self.now), event)));
            self.check(machine);
        }
    }
}

/// Which of the effects that are due is next, from a seed: xorshift (Marsaglia, "Xorshift RNGs", 2003).
pub fn order(seed: u64) -> impl FnMut(usize) -> usize {
    let mut random = seed | 1;
    move |_| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        usize::try_from(random % 1000).unwrap()
    }
}
