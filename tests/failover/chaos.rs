//! Failovers under everything at once: clients that write meanwhile, lost answers of servers, journal
//! and route, leaders that die or freeze and wake late beside the next one, an old primary that lives on
//! out of reach and comes back, replicas that restart, fall silent or die, an acker nobody knows.
//!
//! What nothing can hold back stays out: an acker that starts replicating by itself once clients write
//! to the new primary (it has to boot with `skip_replica_start`), and one that nobody knows and that the
//! old primary did not have when it was last seen, or counted in place of a known one that had died; and a
//! primary that a person has replaced, and that boots writable while an acker of it could not be stopped.

use std::collections::VecDeque;

use baton::core::{
    id::Epoch,
    policy::{DataLoss, Policy},
    recovery::{
        Cause, FORCED, Phase,
        leave::When,
        machine::{Effect, Event, Gate, Machine},
    },
    step::Action,
    time::Mono,
};
use proptest::prelude::*;

use super::fleet::{Fate, Server, World, addr, policy};

/// Events with faults among them, and events after the last fault.
const FAULTY: u32 = 250;
const QUIET: u32 = 3000;

/// An executor: its machine, what it has still to do, until when it leads.
struct Executor {
    machine: Machine,
    queue: VecDeque<Effect>,
    lease: Mono,
}

/// Whether clients are let in by it.
fn unfences(effect: &Effect) -> bool {
    matches!(effect, Effect::Act(_, Action::Unfence, _))
}

/// Whether an executor is about to let clients in.
fn opening(executor: &Executor) -> bool {
    executor.queue.iter().any(unfences)
}

/// A recovery as its first leader begins it.
fn begun(world: &World, policy: &Policy, forced: bool) -> Machine {
    if !forced {
        return world.machine(policy);
    }
    let cause = Cause { analysis: FORCED.to_owned(), server: addr(0), reason: "a drill".to_owned() };
    let executor = format!("a{}", world.log.len());
    let mut machine = Machine::new(&world.snapshot(), policy, cause, Epoch(7), &executor, world.now);
    if !world.servers[&addr(0)].alive {
        machine.presume_dead();
    }
    machine
}

struct Chaos {
    world: World,
    policy: Policy,
    /// A person forces it.
    forced: bool,
    leader: Executor,
    frozen: Vec<Executor>,
    random: u64,
    /// There are no more faults.
    quiet: bool,
    /// Somebody said to a server that clients may write to it: it may have heard.
    opened: bool,
    /// How often a recovery was left to a Job.
    left: u32,
}

impl Chaos {
    fn new(world: World, policy: Policy, forced: bool, seed: u64) -> Self {
        let machine = begun(&world, &policy, forced);
        let leader = Executor { machine, queue: VecDeque::new(), lease: world.now.plus_ms(2000) };
        let mut chaos = Self {
            world,
            policy,
            forced,
            leader,
            frozen: Vec::new(),
            random: seed | 1,
            quiet: false,
            opened: false,
            left: 0,
        };
        chaos.employ();
        chaos.tell(Event::Start);
        chaos
    }

    /// The leader may have a Job, for all of it or for the rest.
    fn employ(&mut self) {
        match self.pick(4) {
            0 => self.leader.machine.leave_to("job".to_owned(), When::AtOnce),
            1 => self.leader.machine.leave_to("job".to_owned(), When::Writable),
            _ => {}
        }
    }

    /// The record was left: a Job claims it at once, or the leader when none came. Nothing that whoever left it
    /// still had to do may do harm.
    fn hand_over(&mut self) {
        self.world.log.push("left to the Job".to_owned());
        self.left += 1;
        let next = Executor { machine: self.world.employ(&self.policy), queue: VecDeque::new(), lease: self.world.now };
        let old = std::mem::replace(&mut self.leader, next);
        self.frozen.push(old);
        self.tell(Event::Start);
    }

    fn pick(&mut self, below: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        usize::try_from(self.random >> 11).unwrap() % below.max(1)
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.pick(100) < percent
    }

    fn some_replica(&mut self) -> usize {
        let replicas = self.world.servers.values().filter(|server| server.index > 0 && !server.hidden);
        let indexes: Vec<_> = replicas.map(|server| server.index).collect();
        indexes[self.pick(indexes.len())]
    }

    fn server(&mut self, index: usize) -> &mut Server {
        self.world.servers.get_mut(&addr(index)).unwrap()
    }

    /// The leader's machine takes an event.
    fn tell(&mut self, event: Event) {
        self.leader.lease = self.world.now.plus_ms(2000);
        let gate = Gate { now: self.world.now, leader_until: self.leader.lease };
        let effects = self.leader.machine.step(gate, event);
        self.leader.queue.extend(effects);
        self.world.check(&self.leader.machine);
    }

    /// One effect of the leader, in any order, or time passes.
    fn work(&mut self) {
        let length = self.leader.queue.len();
        let chosen = self.pick(length);
        let Some(effect) = self.leader.queue.remove(chosen) else {
            self.world.now = self.world.now.plus_ms(20);
            return self.tell(Event::Tick);
        };
        self.opened |= unfences(&effect);
        let fate = match self.pick(if self.quiet { 1 } else { 12 }) {
            1 => Fate::AnswerLost,
            2 => Fate::NotDone,
            _ => Fate::Fine,
        };
        let event = self.world.perform(effect, &self.leader.machine, fate, self.leader.lease);
        if let Some(event) = event {
            self.tell(event);
        }
        self.world.check(&self.leader.machine);
    }

    /// The leader dies, or freezes and sleeps until somebody else leads.
    fn replace_leader(&mut self, freezes: bool) {
        self.world.now = self.world.now.max(self.leader.lease);
        self.world.log.push(format!("leader replaced, frozen: {freezes}"));
        let machine = match self.world.journal {
            Some(_) => self.world.resume(&self.policy),
            None => begun(&self.world, &self.policy, self.forced),
        };
        let next = Executor { machine, queue: VecDeque::new(), lease: self.world.now };
        let old = std::mem::replace(&mut self.leader, next);
        if freezes {
            self.frozen.push(old);
        }
        self.tell(Event::Start);
    }

    /// A frozen leader wakes and does one thing more. What it has still to say to a server it says only
    /// while it surely led, except where the server itself decides; the journal knows who executes.
    fn wake(&mut self) {
        let count = self.frozen.len();
        let sleeper = self.pick(count);
        let Some(executor) = self.frozen.get_mut(sleeper) else { return };
        let Some(effect) = executor.queue.pop_front() else { return };
        let decided_there = match &effect {
            Effect::Act(_, action, _) => matches!(action.name(), "Claim" | "WriteEpoch" | "Unfence"),
            Effect::Route(_) => false,
            _ => true,
        };
        if decided_there {
            self.opened |= unfences(&effect);
            self.world.perform(effect, &executor.machine, Fate::Fine, executor.lease);
            self.world.check(&self.leader.machine);
        }
    }

    /// Something happens to a server.
    fn trouble(&mut self) {
        let index = self.some_replica();
        let opens = self.opened || opening(&self.leader) || self.frozen.iter().any(opening);
        let seen_in_time = !self.world.servers[&addr(index)].cut && !opens;
        let restarts = self.pick(6);
        self.world.log.push(format!("trouble {restarts} with {index}"));
        match restarts {
            0 => self.server(index).cut ^= true,
            1 => self.crash(index),
            2 if seen_in_time => {
                self.boot(index, true);
                self.look(index);
            }
            3 => self.boot(index, false),
            4 => {
                self.server(0).cut = false;
                self.look(0);
            }
            _ => {
                self.crash(0);
                let read_only = self.forced || self.chance(50);
                self.boot(0, false);
                self.server(0).read_only = read_only;
                self.server(0).source_side = self.world.wait_count > 0;
                self.look(0);
            }
        }
    }

    /// A crash makes durable what waited, and tells nobody (M6).
    fn crash(&mut self, index: usize) {
        let server = self.server(index);
        server.alive = false;
        server.executed = server.executed.union(&std::mem::take(&mut server.stuck));
    }

    /// A process starts: fenced, without a claim, its threads as the configuration says.
    fn boot(&mut self, index: usize, replicates: bool) {
        self.crash(index);
        let server = self.server(index);
        (server.alive, server.read_only, server.offline, server.claimed) = (true, true, false, None);
        (server.source_side, server.restarted) = (false, true);
        (server.receiver, server.applier) = (replicates && server.source.is_some(), server.source.is_some());
        server.dies_after = None;
        if let Some(source) = server.source.filter(|_| replicates) {
            self.world.flow(source);
        }
    }

    /// The observing session looks at a server.
    fn look(&mut self, index: usize) {
        self.world.now = self.world.now.plus_ms(2);
        let (now, wait_count) = (self.world.now, self.world.wait_count);
        let attached = u32::try_from(self.world.attached(index).len()).unwrap();
        let server = &self.world.servers[&addr(index)];
        if server.alive && !server.cut && !server.hidden {
            let seen = Box::new(server.observe(now, attached, wait_count, true));
            self.tell(if index == 0 { Event::OldAnswers(seen) } else { Event::Looked(addr(index), seen) });
        }
    }

    /// Appliers apply, clients write, looks are made.
    fn life(&mut self) {
        let index = self.some_replica();
        let server = self.server(index);
        if server.alive && server.applier && !server.source_side {
            server.executed = server.executed.union(&server.received.clone());
        }
        for index in [0, index] {
            if self.chance(40) {
                self.world.write(index);
            }
            if self.chance(30) {
                self.look(index);
            }
        }
        self.world.check(&self.leader.machine);
    }

    /// Runs through the faults and then to an end, if there is one.
    fn run(&mut self) -> bool {
        for round in 0..FAULTY + QUIET {
            if round == FAULTY {
                self.heal();
            }
            match self.pick(if self.quiet { 60 } else { 100 }) {
                0..50 => self.work(),
                50..80 => self.life(),
                80..92 => self.trouble(),
                92..94 => self.replace_leader(false),
                94..96 => self.replace_leader(true),
                _ => self.wake(),
            }
            if self.leader.machine.left() {
                self.hand_over();
            } else if self.leader.machine.finished() && self.leader.queue.is_empty() {
                if self.leader.machine.record().phase.finished() {
                    return true;
                }
                // The intent could not be written: it is tried again.
                self.replace_leader(false);
            }
        }
        false
    }

    /// No more faults; whoever is away comes back.
    fn heal(&mut self) {
        self.quiet = true;
        self.world.log.push("healed".to_owned());
        let indexes: Vec<_> =
            self.world.servers.values().map(|server| server.index).filter(|index| *index > 0).collect();
        for index in indexes {
            self.server(index).cut = false;
            if !self.server(index).alive {
                self.boot(index, false);
            }
        }
        // Whoever leads then may have given up on what did not answer.
        self.replace_leader(false);
    }

    /// The recovery came to nothing: the operator looks again and, if the primary is lost, begins another.
    fn again(&mut self) {
        // As its configuration has it, in case it was fenced.
        self.server(0).source_side = self.world.wait_count > 0;
        self.crash(0);
        self.world.journal = None;
        self.opened = false;
        self.world.log.push("again".to_owned());
        self.forced = false;
        let machine = self.world.machine(&self.policy);
        self.leader = Executor { machine, queue: VecDeque::new(), lease: self.world.now };
        self.frozen.clear();
        self.tell(Event::Start);
        self.run();
    }
}

/// A replica: executed, further received, acker, stopped by somebody beforehand.
type Shape = (u64, u64, bool, bool);

fn shapes() -> impl Strategy<Value = Vec<Shape>> {
    let shape = (1u64..12, 0u64..8, prop::bool::weighted(0.85), prop::bool::weighted(0.1));
    prop::collection::vec(shape, 2..5)
}

fn world(shapes: &[Shape], wait_count: u32, cut: bool, hidden: bool) -> World {
    let replica = |(index, shape): (usize, &Shape)| {
        let (executed, more, acker, stopped) = *shape;
        let mut server = Server::replica(index + 1, executed, executed + more);
        (server.acker, server.receiver) = (acker, !stopped);
        server
    };
    let mut replicas: Vec<_> = shapes.iter().enumerate().map(replica).collect();
    if hidden {
        let mut stranger = Server::replica(9, 1, 1);
        stranger.hidden = true;
        replicas.push(stranger);
    }
    let mut world = World::new(replicas, wait_count, 20);
    let primary = world.servers.get_mut(&addr(0)).unwrap();
    (primary.alive, primary.cut) = (cut, cut);
    world.tidy = false;
    world
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_acknowledged_is_lost_in_chaos(
        shapes in shapes(),
        wait_count in 0u32..3,
        cut in any::<bool>(),
        hidden in prop::bool::weighted(0.2),
        accept in prop::bool::weighted(0.1),
        forced in prop::bool::weighted(0.2),
        seed in any::<u64>(),
    ) {
        let mut policy = policy(shapes.len() + 1);
        policy.failover.data_loss = (accept && wait_count == 0).then_some(DataLoss::Accept);
        let mut chaos = Chaos::new(world(&shapes, wait_count, cut, hidden), policy, forced, seed);
        let ended = chaos.run();
        let phase = chaos.leader.machine.record().phase;
        if ended && phase != Phase::Succeeded {
            let held = chaos.world.servers.values().filter(|server| server.alive && !server.cut && !server.hidden && !server.restarted);
            let held: Vec<_> = held.filter(|server| server.source == Some(0) && !server.receiver).collect();
            let message = &chaos.leader.machine.record().message;
            prop_assert!(held.is_empty() || message.contains("stopped on"), "left stopped: {held:?}\n{}", chaos.world.log.join("\n"));
            chaos.again();
        }
    }
}
