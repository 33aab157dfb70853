//! The bench of simulated servers.

use std::sync::{Arc, Mutex};

use baton::{
    core::{
        gtid::GtidSet,
        id::ServerAddr,
        observation::Observation,
        step::{Action, ActionError},
    },
    engine::ports::Servers,
};
use tokio::sync::Notify;

use super::{
    script::{Bench, Fate, Setup},
    world::{
        api::Api,
        faults::Faults,
        fleet::Fleet,
        operator::Process,
        ports::Ports,
        random::Random,
        server::{Config, Server, addr, one},
        sim::{START_MS, Sim, State},
        statements::following,
    },
};

/// Longest time of an action, in milliseconds.
pub const BUDGET_MS: u64 = 5000;

pub struct Simulated {
    sim: Arc<Sim>,
    executors: Vec<Ports>,
    servers: usize,
    /// The newest client's server and transaction; `None`: it was refused.
    client: Option<(usize, GtidSet)>,
}

impl Simulated {
    /// Inside a runtime whose clock is paused.
    pub fn start(setup: Setup) -> Self {
        let config = Config {
            boots_fenced: true,
            skip_replica_start: true,
            relay_log_recovery: setup.relay_log_recovery,
            source_side: false,
            names_replicas: true,
        };
        let mut servers: Vec<_> = (0..=setup.replicas).map(|index| Server::new(index, config)).collect();
        for server in &mut servers {
            (server.replica_side, server.wait_count) = (setup.acks > 0, setup.acks.max(1));
        }
        (servers[0].read_only, servers[0].super_read_only) = (false, false);
        servers[0].source_side = setup.acks > 0;
        servers[1..].iter_mut().for_each(|replica| replica.channel = Some(following(0)));
        let count = servers.len();
        let mut fleet = Fleet::new(servers, 700, Random::new(1), setup.acks > 0);
        fleet.now = START_MS;
        for replica in 1..count {
            fleet.start_receiver(replica);
            fleet.start_applier(replica);
        }
        let state = State::new(fleet, Api::new(addr(0)), 2, Faults::default(), Random::new(2), false);
        let sim = Sim::new(state);
        tokio::spawn(Arc::clone(&sim).pass_time());
        let process = |operator| Process {
            operator,
            identity: format!("operator-{operator}"),
            rate: 1000,
            offset_ms: 0,
            leader_until: Mutex::new(None),
            goes: Notify::new(),
        };
        let executors = (0..2).map(|operator| Ports::new(Arc::clone(&sim), Arc::new(process(operator)))).collect();
        Self { sim, executors, servers: count, client: None }
    }
}

impl Bench for Simulated {
    fn addresses(&self) -> Vec<ServerAddr> {
        (0..self.servers).map(addr).collect()
    }

    async fn act(&mut self, executor: usize, server: usize, action: Action) -> Result<(), ActionError> {
        self.executors[executor].act(&addr(server), action, BUDGET_MS).await.map(|_| ())
    }

    async fn write(&mut self, server: usize) {
        self.client = self.sim.with(|state| {
            let taken = state.fleet.write(server);
            taken.then(|| (server, one(server, state.fleet.servers[server].written)))
        });
    }

    async fn told(&mut self) -> String {
        let Some((server, set)) = &self.client else { return "refused".to_owned() };
        let word = self.sim.with(|state| {
            let waits = state.fleet.servers[*server].waiting.iter().any(|commit| commit.client && commit.set == *set);
            match (state.fleet.acknowledged.contains(set), waits) {
                (true, _) => "told",
                (false, true) => "waits",
                (false, false) => "cut off",
            }
        });
        word.to_owned()
    }

    async fn look(&mut self, server: usize) -> Option<(Box<Observation>, u64)> {
        self.sim.with(|state| state.fleet.servers[server].runs().then(|| (Box::new(state.fleet.look(server)), 0)))
    }

    async fn stop_applier(&mut self, server: usize) {
        self.sim.with(|state| state.fleet.servers[server].channel.as_mut().unwrap().applier = false);
    }

    async fn process(&mut self, server: usize, fate: Fate) {
        self.sim.with(|state| match fate {
            Fate::Crash => state.fleet.kill(server),
            Fate::Boot => state.fleet.boot(server, false),
            Fate::Freeze => state.fleet.freeze(server, true),
            Fate::Thaw => state.fleet.freeze(server, false),
        });
    }
}
