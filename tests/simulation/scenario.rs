//! What a seed draws: a cluster, its configuration, and what goes wrong when.

use baton::core::policy::{Detection, Failover, Mode, Policy, SemiSync, Tier};

use super::{
    aimed::Aim,
    api::Api,
    faults::{Fault, Faults, Kind, Target, Way, When},
    fleet::{Event, Fleet},
    random::Random,
    server::{Config, Server, addr},
    sim::{START_MS, Seat, State},
    statements::following,
};

/// From this seed on a seed draws more; those before it are what they were when they found something.
pub const MORE_FROM: u64 = 100_000;
/// From this one on a server with a new disk may have forgotten its source, too.
const BARE_FROM: u64 = 140_000;
/// From this one on seeds are aimed.
pub const AIMED_FROM: u64 = 10_000_000;
/// From this one on there are Jobs.
pub const JOBS_FROM: u64 = 20_000_000;
/// From this one on Baton keeps semi-sync itself, too, and opens a primary that came back closed.
pub const KEPT_FROM: u64 = 30_000_000;
/// From this one on the API server answers with errors, and watches lose what they would show.
pub const ERRORS_FROM: u64 = 40_000_000;

/// Time before the first fault, in milliseconds: servers are seen, somebody leads.
pub const WARM_MS: u64 = 2500;
/// Time in which faults begin, in milliseconds.
const FAULTY_MS: u64 = 8000;
/// Time after it until everybody is back, in milliseconds.
const HEAL_MS: u64 = 3000;

#[derive(Debug)]
pub struct Scenario {
    pub operators: usize,
    pub policy: Policy,
    pub state: State,
}

impl Scenario {
    pub fn draw(seed: u64, log: bool) -> Self {
        let mut random = Random::new(seed);
        let aim = (AIMED_FROM..JOBS_FROM).contains(&seed).then(|| Aim::draw(seed - AIMED_FROM, &mut random));
        let servers = aim.as_ref().map_or_else(|| random.pick(&[3, 3, 3, 4, 4, 5]), |aim| aim.servers);
        let operators = random.pick(&[2, 2, 2, 3]);
        let wait_count = random.pick(&[0, 1, 1, 1, 2]).min(u32::try_from(servers).unwrap() - 2);
        let wait_count = aim.as_ref().map_or(wait_count, |aim| aim.wait_count);
        let tier = random.pick(&[Tier::Fast, Tier::Fast, Tier::Standard]);
        let detection = Detection::of(tier, None, false);
        let mut fleet = fleet(&mut random, servers, wait_count, detection.heartbeat_ms);
        let mut policy = policy(servers, detection, &mut random);
        let mut plan = plan(&mut random);
        if let Some(aim) = &aim {
            plan.clone_from(&aim.plan);
            Aim::set_up(seed - AIMED_FROM, &mut fleet, &mut policy);
        } else if seed >= MORE_FROM {
            more(&mut Random::new(!seed), &mut fleet, &mut policy, &mut plan);
        }
        if seed >= KEPT_FROM {
            keep(&mut Random::new(seed.rotate_left(32)), wait_count, &mut policy, &mut plan);
        }
        if seed >= ERRORS_FROM {
            err(&mut Random::new(!seed.rotate_left(32)), &mut plan);
        }
        let mut state = State::new(fleet, Api::new(addr(0)), operators, Faults::planned(plan), random, log);
        state.block_ms = policy.failover.block_ms;
        state.bare_wipes = seed >= BARE_FROM;
        if seed >= JOBS_FROM {
            policy.failover.by_job = state.random.chance(50);
            state.jobs = Some(policy.clone());
            state.seats.push(Seat::default());
        }
        state.ends_well = aim.is_some_and(|aim| aim.ends_well);
        for number in 0..state.faults.plan.len() {
            if let When::At(at) = state.faults.plan[number].when {
                state.fleet.after(at, Event::Fault(number));
            }
        }
        state.fleet.after(100, Event::Client);
        state.fleet.after(WARM_MS + FAULTY_MS + HEAL_MS, Event::Heal);
        let faults = state.faults.plan.clone();
        state.say(|| format!("seed {seed}: {servers} servers, {operators} operators, W {wait_count}, {tier:?}"));
        faults.iter().for_each(|fault| state.say(|| format!("planned: {fault:?}")));
        Self { operators, policy, state }
    }
}

fn policy(servers: usize, detection: Detection, random: &mut Random) -> Policy {
    let defaults = baton::testing::snapshot::policy();
    let block_ms = if random.chance(10) { 5000 } else { 0 };
    Policy {
        servers: (0..servers).map(|index| (addr(index), Default::default())).collect(),
        detection,
        failover: Failover { block_ms, ..defaults.failover },
        ..defaults
    }
}

fn fleet(random: &mut Random, count: usize, wait_count: u32, heartbeat_ms: u64) -> Fleet {
    // Of the replicas, enough acknowledge.
    let ackers = if random.chance(80) { count } else { wait_count as usize + 1 };
    let source_side = random.chance(30);
    let names_replicas = random.chance(80);
    let server = |index: usize| {
        let acks = wait_count > 0 && (index == 0 || index <= ackers);
        // A first primary that accepts writes as soon as it starts must at least wait for its ackers.
        let boots_fenced = wait_count == 0 || index > 0 || random.chance(70);
        let config = Config {
            boots_fenced,
            skip_replica_start: random.chance(85),
            relay_log_recovery: !acks && random.chance(30),
            source_side: wait_count > 0 && (source_side || !boots_fenced),
            names_replicas,
        };
        let mut server = Server::new(index, config);
        (server.replica_side, server.wait_count) = (acks, wait_count.max(1));
        (server.clock_offset_ms, server.clock_rate) = (random.below(10_000) as i64, random.between(900, 1100) as i64);
        server
    };
    let mut servers: Vec<_> = (0..count).map(server).collect();
    (servers[0].read_only, servers[0].super_read_only) = (false, false);
    servers[0].source_side = wait_count > 0;
    for replica in &mut servers[1..] {
        replica.channel = Some(following(0));
    }
    let mut fleet = Fleet::new(servers, heartbeat_ms, Random::new(random.next()), wait_count > 0);
    fleet.now = START_MS;
    for replica in 1..count {
        fleet.start_receiver(replica);
        fleet.start_applier(replica);
    }
    fleet
}

fn plan(random: &mut Random) -> Vec<Fault> {
    // Some runs have nothing in them that calls for a failover.
    if random.chance(7) {
        return (0..random.between(1, 4)).map(|_| harmless(random)).collect();
    }
    let mut plan = Vec::new();
    if random.chance(85) {
        plan.push(loss(random));
    }
    for _ in 0..random.below(5) {
        plan.push(anything(random));
    }
    plan
}

/// What was thought of later.
fn more(random: &mut Random, fleet: &mut Fleet, policy: &mut Policy, plan: &mut Vec<Fault>) {
    let replica = |random: &mut Random| Target::Replica(random.index(5));
    if random.chance(25) {
        plan.push(Fault { when: at(random), kind: Kind::Wipe(replica(random)), for_ms: time(random) });
    }
    if random.chance(25) {
        plan.push(Fault { when: at(random), kind: Kind::Stray(replica(random)), for_ms: 0 });
    }
    if random.chance(35) {
        let candidate = random.chance(30).then(|| random.index(5));
        plan.push(Fault { when: at(random), kind: Kind::Force(candidate), for_ms: 0 });
    }
    if random.chance(20) {
        let when = if random.chance(60) { When::Statement(random.between(1, 40)) } else { at(random) };
        plan.push(Fault { when, kind: Kind::StopLeader, for_ms: 0 });
    }
    if random.chance(20) {
        plan.push(Fault { when: at(random), kind: Kind::WatchesReplay, for_ms: time(random) });
    }
    if random.chance(15) {
        // The primary is out of our reach, and of one replica's; another one hears it.
        let (when, for_ms) = (at(random), time(random));
        let cut = Kind::CutFromOperators { target: Target::Primary, way: way(random), leader_alone: false };
        plan.push(Fault { when, kind: cut, for_ms });
        plan.push(Fault { when, kind: Kind::CutFromServers(replica(random), way(random)), for_ms });
    }
    if random.chance(10) {
        plan.push(Fault { when: at(random), kind: Kind::CutOff, for_ms: time(random) });
    }
    if random.chance(30) {
        policy.failover.block_ms = 60_000;
    }
    let last = fleet.servers.len() - 1;
    let named = fleet.servers[0].config.names_replicas && fleet.servers[last].replica_side;
    if random.chance(20) && last >= 3 && named && fleet.servers[0].config.boots_fenced {
        hide(fleet, policy);
    }
}

/// What Baton keeps, and all servers restart at once.
fn keep(random: &mut Random, wait_count: u32, policy: &mut Policy, plan: &mut Vec<Fault>) {
    policy.semi_sync = (wait_count > 0).then_some(SemiSync { acks: wait_count, zones: 1 });
    policy.failover.read_only = if random.chance(80) { Mode::Automatic } else { Mode::DetectOnly };
    if random.chance(40) {
        let when = WARM_MS + random.below(FAULTY_MS);
        let replicas = (0..5).map(Target::Replica);
        let kill = |target| {
            let when = When::At(when + random.below(300));
            Fault { when, kind: Kind::Kill(target), for_ms: 1000 + random.below(3000) }
        };
        plan.extend([Target::Primary].into_iter().chain(replicas).map(kill));
    }
}

/// Errors of the API server, most of them in the middle of a recovery, and watches that lose something.
fn err(random: &mut Random, plan: &mut Vec<Fault>) {
    let percent = |random: &mut Random| random.pick(&[20, 50, 100]);
    let when = |random: &mut Random| {
        if random.chance(60) { When::Statement(random.between(1, 40)) } else { at(random) }
    };
    if random.chance(40) {
        let kind = Kind::ApiRefuses(percent(random));
        plan.push(Fault { when: when(random), kind, for_ms: time(random) });
    }
    if random.chance(60) {
        let kind = Kind::ApiFails(percent(random));
        plan.push(Fault { when: when(random), kind, for_ms: time(random) });
    }
    if random.chance(60) {
        let kind = Kind::WatchesLose(percent(random));
        plan.push(Fault { when: when(random), kind, for_ms: time(random) });
    }
}

/// One acker is known to nobody but the primary, which names it.
pub fn hide(fleet: &mut Fleet, policy: &mut Policy) {
    let last = fleet.servers.len() - 1;
    fleet.servers[last].hidden = true;
    policy.servers.remove(&addr(last));
}

fn time(random: &mut Random) -> u64 {
    random.pick(&[20, 300, 1500, 3000, 5000, 9000]) + random.below(1000)
}

fn at(random: &mut Random) -> When {
    When::At(WARM_MS + random.below(FAULTY_MS))
}

/// The primary is lost.
fn loss(random: &mut Random) -> Fault {
    let target = Target::Primary;
    let kind = match random.below(10) {
        0..4 => Kind::Kill(target),
        4..6 => Kind::Freeze(target),
        6..8 => Kind::Isolate(target),
        8 => Kind::CutFromServers(target, way(random)),
        _ => Kind::Split(random.next()),
    };
    Fault { when: When::At(WARM_MS + random.below(2000)), kind, for_ms: time(random) }
}

fn way(random: &mut Random) -> Way {
    random.pick(&[Way::Both, Way::In, Way::Out])
}

fn target(random: &mut Random) -> Target {
    match random.below(8) {
        0 | 1 => Target::Primary,
        2 | 3 => Target::Chosen,
        4 => Target::Old,
        _ => Target::Replica(random.index(5)),
    }
}

fn anything(random: &mut Random) -> Fault {
    let whom = target(random);
    let kind = match random.below(20) {
        0..3 => Kind::Kill(whom),
        3..5 => Kind::Freeze(whom),
        5 => Kind::CutFromOperators { target: whom, way: way(random), leader_alone: random.chance(50) },
        6 => Kind::CutFromServers(whom, way(random)),
        7 => Kind::Isolate(whom),
        8 => Kind::Split(random.next()),
        9 => Kind::Lag(whom, random.between(500, 6000)),
        10 => Kind::Poison(whom),
        11 => Kind::SetClock(whom, random.pick(&[-3_600_000, -1000, 1000, 3_600_000])),
        12..14 => Kind::KillLeader,
        14..16 => Kind::FreezeLeader,
        16 => Kind::ApiOut,
        17 => Kind::ApiOutForLeader,
        18 => Kind::ApiSlow(random.pick(&[50, 500, 2000])),
        _ => random.pick(&[Kind::Flaky(5), Kind::Flaky(20), Kind::WatchesLate(500), Kind::WatchesLate(4000)]),
    };
    // Most second failures come in the middle of a recovery.
    let when = if random.chance(60) { When::Statement(random.between(1, 40)) } else { at(random) };
    Fault { when, kind, for_ms: time(random) }
}

/// What is no reason for a failover.
fn harmless(random: &mut Random) -> Fault {
    let replica = Target::Replica(random.index(5));
    let kind = match random.below(9) {
        0 => Kind::CutFromOperators { target: Target::Primary, way: way(random), leader_alone: random.chance(50) },
        1 => Kind::Lag(replica, random.between(500, 6000)),
        2 => Kind::SetClock(Target::Primary, random.pick(&[-3_600_000, 3_600_000])),
        3 => Kind::KillLeader,
        4 => Kind::FreezeLeader,
        5 => Kind::ApiOut,
        6 => Kind::Kill(replica),
        7 => Kind::Freeze(replica),
        _ => random.pick(&[Kind::Flaky(20), Kind::WatchesLate(4000), Kind::ApiSlow(1000)]),
    };
    Fault { when: at(random), kind, for_ms: time(random) }
}
