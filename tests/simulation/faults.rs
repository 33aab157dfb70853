//! What goes wrong in a run, how it begins and how it ends. Targets are worked out when a fault begins:
//! "the primary" is whoever is by then.
//!
//! What nothing can hold back stays out of the schedule:
//! - an acker that starts replicating by itself when it boots, while a failover is under way (it has to
//!   boot with `skip_replica_start`; docs/safety.md, "Known limits");
//! - an acker with `relay_log_recovery`, whose crash throws away what it acknowledged (M7);
//! - ackers that nobody knows, and ackers that are replaced while nobody looks;
//! - a statement that a cut delays and delivers when nobody waits for it any more: a late
//!   `START REPLICA` is one like any other;
//! - a person who starts replication in the middle of a failover.

use std::collections::BTreeMap;

use baton::core::{id::ServerAddr, recovery::Part};

use super::{
    fleet::Event,
    server::{Power, index_of},
    sim::State,
    statements::following,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// Who is the primary by the newest record.
    Primary,
    /// Who is to become it in the recovery under way.
    Chosen,
    /// Who was it before.
    Old,
    /// One that is not the primary.
    Replica(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Both,
    /// What is sent to it does not arrive.
    In,
    /// What it sends does not arrive.
    Out,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// SIGKILL; it starts again after the fault's time.
    Kill(Target),
    /// SIGSTOP.
    Freeze(Target),
    /// Between it and all operators, or the leader alone.
    CutFromOperators {
        target: Target,
        way: Way,
        leader_alone: bool,
    },
    /// Between it and the other servers.
    CutFromServers(Target, Way),
    /// From everybody.
    Isolate(Target),
    /// The primary with some replicas and operators apart from the rest; bits say who is with it.
    Split(u64),
    Lag(Target, u64),
    /// Its applier stops with an error, which a person mends.
    Poison(Target),
    /// Its clock is set, in milliseconds.
    SetClock(Target, i64),
    KillLeader,
    FreezeLeader,
    /// The API server: for everybody, for the leader alone, slow, flaky, watches late.
    ApiOut,
    ApiOutForLeader,
    ApiSlow(u64),
    Flaky(u64),
    WatchesLate(u64),
    /// What watches showed before comes again, and then what is there.
    WatchesReplay,
    /// The API server answers this many percent of the calls with 429 or 500 and does not carry them out.
    ApiRefuses(u64),
    /// It carries this many percent of the writes out, and answers with 500 all the same.
    ApiFails(u64),
    /// This many percent of what watches would show is lost; each kind of object has a watch of its own.
    WatchesLose(u64),
    /// A replica comes back without its data.
    Wipe(Target),
    /// A person writes on a replica.
    Stray(Target),
    /// A person asks for a failover, to any server or to this one.
    Force(Option<usize>),
    /// The leader is asked to go.
    StopLeader,
    /// The leader is cut off from all servers.
    CutOff,
}

#[derive(Debug, Clone, Copy)]
pub enum When {
    At(u64),
    /// At this statement, counted while a recovery is under way.
    Statement(u64),
}

#[derive(Debug, Clone, Copy)]
pub struct Fault {
    pub when: When,
    pub kind: Kind,
    pub for_ms: u64,
}

/// How long after its cause a failover may still begin, in milliseconds.
const CAUSE_MS: u64 = 15_000;

#[derive(Debug, Default)]
pub struct Faults {
    pub plan: Vec<Fault>,
    /// What each fault that began concerns: servers, operators.
    pub begun: Vec<(usize, Vec<usize>, Vec<usize>)>,
    statements: u64,
    /// Who began each recovery last.
    pub recoveries: BTreeMap<String, String>,
    /// Until when a failover would have a cause.
    pub cause_until: u64,
}

impl Faults {
    pub fn planned(plan: Vec<Fault>) -> Self {
        Self { plan, ..Self::default() }
    }
}

impl State {
    /// A statement was carried out.
    pub fn stepped(&mut self) {
        if self.healed || self.api.unfinished().is_none() {
            return;
        }
        self.faults.statements += 1;
        let number = self.faults.statements;
        let due = |fault: &Fault| matches!(fault.when, When::Statement(at) if at == number);
        let due: Vec<_> = (0..self.faults.plan.len()).filter(|it| due(&self.faults.plan[*it])).collect();
        due.into_iter().for_each(|fault| self.fleet.after(0, Event::Fault(fault)));
    }

    pub fn primary(&self) -> usize {
        let promoted = self.api.records.values().filter_map(|stored| stored.status.as_ref());
        let newest = promoted
            .filter(|record| record.part == Part::Primary && record.phase.promoted())
            .max_by_key(|record| record.epoch);
        newest.and_then(|record| record.new_primary.as_ref()).map_or(0, index_of)
    }

    fn target(&self, target: Target) -> usize {
        let index = |addr: Option<&ServerAddr>| addr.map(index_of);
        let primary = self.primary();
        match target {
            Target::Primary => primary,
            Target::Chosen => {
                index(self.api.unfinished().and_then(|record| record.new_primary.as_ref())).unwrap_or(primary)
            }
            Target::Old => index(self.api.newest().map(|record| &record.old_primary)).unwrap_or(primary),
            Target::Replica(number) => {
                let known = |it: &usize| *it != primary && !self.fleet.servers[*it].hidden;
                let others: Vec<_> = (0..self.fleet.servers.len()).filter(known).collect();
                others[number % others.len()]
            }
        }
    }

    fn leader(&self) -> usize {
        self.seats.iter().position(|seat| seat.leads).unwrap_or_default()
    }

    pub fn inject(&mut self, number: usize) {
        if self.healed {
            return;
        }
        let Fault { kind, for_ms, .. } = self.faults.plan[number];
        let everybody: Vec<_> = (0..self.seats.len()).collect();
        let (servers, operators) = match kind {
            Kind::Kill(target) | Kind::Freeze(target) | Kind::Lag(target, _) => (vec![self.target(target)], Vec::new()),
            Kind::Poison(target) | Kind::SetClock(target, _) | Kind::Wipe(target) | Kind::Stray(target) => {
                (vec![self.target(target)], Vec::new())
            }
            Kind::CutFromOperators { target, leader_alone: true, .. } => {
                (vec![self.target(target)], vec![self.leader()])
            }
            Kind::CutFromOperators { target, .. } | Kind::Isolate(target) => (vec![self.target(target)], everybody),
            Kind::CutFromServers(target, _) => (vec![self.target(target)], Vec::new()),
            Kind::Split(bits) => self.sides(bits),
            Kind::KillLeader | Kind::FreezeLeader | Kind::ApiOutForLeader | Kind::StopLeader => {
                (Vec::new(), vec![self.leader()])
            }
            Kind::CutOff => ((0..self.fleet.servers.len()).collect(), vec![self.leader()]),
            Kind::ApiOut | Kind::ApiSlow(_) | Kind::Flaky(_) => (Vec::new(), Vec::new()),
            Kind::WatchesLate(_) | Kind::WatchesReplay | Kind::Force(_) => (Vec::new(), Vec::new()),
            Kind::ApiRefuses(_) | Kind::ApiFails(_) | Kind::WatchesLose(_) => (Vec::new(), Vec::new()),
        };
        self.say(|| format!("FAULT {kind:?} for {for_ms} ms: servers {servers:?}, operators {operators:?}"));
        let chosen = self.target(Target::Chosen);
        let important = servers.iter().any(|it| *it == chosen || *it == self.primary());
        let cause = match kind {
            Kind::Kill(_) | Kind::Freeze(_) | Kind::Isolate(_) | Kind::CutFromServers(..) => important,
            Kind::Split(_) => true,
            _ => false,
        };
        if cause {
            let until = self.fleet.now + for_ms + CAUSE_MS;
            self.faults.cause_until = self.faults.cause_until.max(until);
        }
        self.trouble_at = self.trouble_at.max(self.fleet.now + for_ms);
        self.strike(kind, &servers, &operators);
        self.faults.begun.push((number, servers, operators));
        self.fleet.settle();
        self.fleet.after(for_ms, Event::Undo(number));
    }

    /// Who is with the primary when the network splits.
    fn sides(&self, bits: u64) -> (Vec<usize>, Vec<usize>) {
        let primary = self.primary();
        let with = |index: &usize| bits >> index & 1 == 1;
        let with_it = |it: &usize| *it == primary || with(it) || self.fleet.servers[*it].hidden;
        let servers = (0..self.fleet.servers.len()).filter(with_it).collect();
        let operators = (0..self.seats.len()).filter(|it| with(&(it + 8))).collect();
        (servers, operators)
    }

    pub fn boot(&mut self, server: usize) {
        if self.fleet.servers[server].power != Power::Dead {
            return;
        }
        let by_itself = !self.fleet.servers[server].config.skip_replica_start;
        let replicates = by_itself && self.api.unfinished().is_none();
        self.say(|| format!("server {server} starts, replication too: {replicates}"));
        self.fleet.boot(server, replicates);
    }

    /// No more faults. Who is away comes back, in any order.
    pub fn heal(&mut self) {
        self.say(|| "HEALED".to_owned());
        self.healed = true;
        self.trouble_at = self.fleet.now;
        self.replay = false;
        (self.api_out, self.api_slow_ms, self.watch_late_ms, self.flaky) = (false, 0, 0, 0);
        (self.api_refuses, self.api_fails, self.watch_loses) = (0, 0, 0);
        self.reconnect(|_| true);
        for server in 0..self.fleet.servers.len() {
            self.fleet.servers[server].lag_ms = 0;
            self.mend(server);
            let delay_ms = self.random.below(500);
            self.fleet.freeze(server, false);
            self.fleet.after(delay_ms, Event::Boot(server));
        }
        for seat in &mut self.seats {
            seat.cut_from_api = false;
            seat.gate.thaw();
        }
        self.fleet.settle();
    }

    /// Somebody looks after replicas that came back without replicating, while no recovery is under way.
    pub fn tend(&mut self) {
        if self.api.unfinished().is_some() {
            return;
        }
        let primary = self.primary();
        for server in 0..self.fleet.servers.len() {
            let found = &mut self.fleet.servers[server];
            if server != primary && found.runs() && found.channel.is_none() && found.log().is_empty() {
                found.channel = Some(following(primary));
                found.idle = true;
            }
        }
        for server in self.fleet.replicas_of(primary) {
            // What Baton stopped is Baton's.
            if self.fleet.servers[server].runs() && self.fleet.servers[server].idle {
                self.fleet.start_receiver(server);
                self.fleet.start_applier(server);
            }
        }
    }
}
