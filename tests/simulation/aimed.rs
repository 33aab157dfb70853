//! Runs that are aimed at one safety rule each: what chance seldom brings together. Every number of the list
//! comes again with other times (`AIMED_FROM + number + k * AIMS`).

use baton::core::policy::Policy;

use super::{
    faults::{Fault, Kind, Target, Way, When},
    fleet::Fleet,
    random::Random,
    scenario::{WARM_MS, hide},
};

/// How many there are.
pub const AIMS: u64 = 18;

/// What an aimed run is made of.
pub struct Aim {
    pub servers: usize,
    pub wait_count: u32,
    pub plan: Vec<Fault>,
    /// In the end everybody replicates, and nothing excuses it.
    pub ends_well: bool,
}

fn fault(at_ms: u64, kind: Kind, for_ms: u64) -> Fault {
    Fault { when: When::At(WARM_MS + at_ms), kind, for_ms }
}

fn during(statement: u64, kind: Kind, for_ms: u64) -> Fault {
    Fault { when: When::Statement(statement), kind, for_ms }
}

impl Aim {
    pub fn draw(number: u64, random: &mut Random) -> Self {
        let some = Target::Replica(random.index(5));
        let other = Target::Replica(random.index(5));
        let at = random.below(1000);
        let long = 4000 + random.below(4000);
        let primary = Target::Primary;
        let cut_off = Kind::CutFromOperators { target: primary, way: Way::Both, leader_alone: false };
        let (servers, wait_count, plan) = match number % AIMS {
            // The primary with one acker on the other side: one stopped acker is missing.
            0 => (4, 1, vec![fault(at, Kind::Split(0b10), long)]),
            // With an acker that nobody knows, which is hidden below.
            1 => (4, 1, vec![fault(at, Kind::Isolate(primary), long)]),
            // It is back at once, out of our reach, and receivers that were connecting find it.
            2 => {
                let lag = (0..3).map(|number| fault(at, Kind::Lag(Target::Replica(number), 3000), 9000));
                let kill = fault(at + 1500, Kind::Kill(primary), random.between(20, 300));
                (4, 1, lag.chain([kill, during(1, cut_off, long)]).collect())
            }
            // One has received more, another has executed more.
            3 => {
                let (lags, cut) = if random.chance(50) { (0, 1) } else { (1, 0) };
                let lag = fault(at, Kind::Lag(Target::Replica(lags), 3000), 9000);
                let cut = fault(at + 1500, Kind::CutFromServers(Target::Replica(cut), Way::Both), 1300);
                (3, 1, vec![lag, cut, fault(at + 2300, Kind::Kill(primary), long)])
            }
            4 => {
                let lag = (0..2).map(|number| fault(at, Kind::Lag(Target::Replica(number), 2000), 9000));
                (3, 1, lag.chain([fault(at + 2000, Kind::Kill(primary), long)]).collect())
            }
            // A relay log that waits for its applier.
            5 => {
                let lag = fault(at, Kind::Lag(some, 4000), 9000);
                let kill = fault(at + 2000, Kind::Kill(some), 300);
                (4, 1, vec![lag, kill, fault(at + 2400, Kind::Kill(primary), long)])
            }
            // Only one that lost its data is left.
            6 => {
                let wipe = fault(at, Kind::Wipe(Target::Replica(0)), 300);
                let kill = fault(at + 100, Kind::Kill(Target::Replica(1)), long);
                (3, 0, vec![wipe, kill, fault(at + 600, Kind::Kill(primary), long)])
            }
            // Clients are let in by a word that waited for a frozen process.
            7 => {
                let number = random.between(12, 26);
                let freeze = during(number, Kind::Freeze(Target::Chosen), 5500);
                let faults = [fault(at, Kind::Kill(primary), 20_000), freeze, during(number, Kind::KillLeader, 0)];
                (4, random.pick(&[0, 2]), faults.into())
            }
            // The leader cannot write what it chose, and dies.
            8 => {
                let cut = during(random.between(2, 6), Kind::ApiOutForLeader, 6000);
                let kill = during(random.between(12, 40), Kind::KillLeader, 0);
                (4, random.pick(&[0, 1]), vec![fault(at, Kind::Kill(primary), 20_000), cut, kill])
            }
            // The new primary is lost, too, and its clients are not.
            9 => {
                let second = fault(at + 3000, Kind::Isolate(primary), long);
                (4, 1, vec![fault(at, Kind::Kill(primary), 1500), second])
            }
            10 => (4, 1, vec![fault(at, Kind::Kill(primary), long)]),
            // It comes back before enough of its ackers are stopped.
            11 => {
                let kill = fault(at, Kind::Kill(Target::Replica(0)), long);
                (4, 1, vec![kill, fault(at + 200, Kind::Freeze(primary), 2500 + random.below(1000))])
            }
            // A crash brings back what nobody acknowledged.
            12 => {
                let cut = fault(at, Kind::CutFromServers(primary, Way::Out), 1500);
                (3, 1, vec![cut, fault(at + 400, Kind::Kill(primary), 1500)])
            }
            // A person forces the failover of a primary that is then out of reach, and lives.
            13 => (4, 0, vec![fault(at, Kind::Force(None), 0), during(random.between(1, 3), cut_off, long)]),
            // The operators are with the few.
            14 => (3, random.pick(&[0, 1]), vec![fault(at, Kind::Split(0b10), long)]),
            // Out of our reach, and of one replica's; another one hears it.
            15 => (4, 1, vec![fault(at, cut_off, long), fault(at, Kind::CutFromServers(other, Way::Both), long)]),
            // Nobody replicates, for another reason, and the primary is out of our reach.
            16 => {
                let kill = (0..2).map(|number| fault(at, Kind::Kill(Target::Replica(number)), 200));
                (3, 0, kill.chain([fault(at + 600, cut_off, long)]).collect())
            }
            // It falls silent a moment after it was made.
            _ => (4, 1, vec![fault(at, Kind::Kill(primary), 1000), fault(at + 3000, Kind::Freeze(primary), long)]),
        };
        let ends_well = matches!(number % AIMS, 10 | 11);
        Self { servers, wait_count, plan, ends_well }
    }

    /// The rest of what it needs.
    pub fn set_up(number: u64, fleet: &mut Fleet, policy: &mut Policy) {
        for server in &mut fleet.servers {
            let config = &mut server.config;
            (config.boots_fenced, config.skip_replica_start, config.relay_log_recovery) = (true, true, false);
            (config.source_side, config.names_replicas) = (false, true);
        }
        match number % AIMS {
            1 => hide(fleet, policy),
            2 => (fleet.servers[0].config.boots_fenced, fleet.servers[0].config.source_side) = (false, true),
            17 => policy.failover.block_ms = 60_000,
            _ => {}
        }
    }
}
