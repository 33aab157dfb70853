//! Too few replicas are left to acknowledge for a new primary, or would be without need.

use std::collections::VecDeque;

use baton::core::{
    policy::Mode,
    recovery::{
        Phase,
        machine::{Event, Gate, Machine},
    },
    time::Mono,
};

use super::{
    fleet::{Fate, World},
    servers::{Server, addr, policy, trx},
};

const REASON: &str = "blocked: too few replicas are left to acknowledge what a new primary commits";

/// The only acker is left: it is stopped, and neither claimed nor given a transaction of its own.
fn waiting(read_only: Mode) -> (World, Machine) {
    let mut other = Server::replica(2, 5, 5);
    other.acker = false;
    let mut world = World::new(vec![Server::replica(1, 10, 10), other], 1, 10);
    let mut policy = policy(3);
    policy.failover.read_only = read_only;
    let mut machine = world.machine(&policy);
    assert!(!world.run(&mut machine, 300, |_| 0), "without an acker nobody becomes writable");
    let record = world.journal.as_ref().unwrap();
    assert_eq!((record.message.as_str(), &record.new_primary), (REASON, &None));
    let untouched = |server: &Server| server.claimed.is_none() && !server.source_side;
    assert!(world.servers.values().filter(|server| server.index > 0).all(untouched), "{}", world.log.join("\n"));
    (world, machine)
}

fn back(world: &mut World, executed: u64) {
    let old = world.servers.get_mut(&addr(0)).unwrap();
    (old.alive, old.read_only, old.restarted, old.executed) = (true, true, true, trx(0, executed));
    old.source_side = true;
}

#[test]
fn an_old_primary_that_is_back_with_everything_stays_the_primary() {
    let (mut world, mut machine) = waiting(Mode::Automatic);
    back(&mut world, 11);
    assert!(world.run(&mut machine, 500, |_| 0), "{:?}", machine.record());
    assert_eq!((machine.record().phase, &machine.record().new_primary), (Phase::Failed, &None));
    assert!(machine.record().message.starts_with("the old primary is back"), "{}", machine.record().message);
    assert!([1, 2].iter().all(|index| world.servers[&addr(*index)].receiver), "{}", world.log.join("\n"));
}

/// Nobody opens it: the replica that is missing may be back sooner than a person.
#[test]
fn an_old_primary_that_waits_for_a_person_is_told_of() {
    let (mut world, mut machine) = waiting(Mode::DetectOnly);
    back(&mut world, 11);
    assert!(!world.run(&mut machine, 500, |_| 0), "{:?}", machine.record());
    let told = &machine.record().message;
    assert!(told.starts_with(REASON) && told.contains("10.0.0.1:3306 is back, lacks nothing"), "{told}");
}

#[test]
fn an_old_primary_that_lost_something_does_not() {
    let (mut world, mut machine) = waiting(Mode::Automatic);
    back(&mut world, 9);
    assert!(!world.run(&mut machine, 500, |_| 0), "{:?}", machine.record());
    assert!(!world.servers[&addr(1)].receiver, "it would get back less than was acknowledged");
}

/// Commits wait for two of three, one of them is away: the choice is made when it is back.
#[test]
fn a_replica_that_is_back_is_enough() {
    let mut world = World::new((1..=3).map(|index| Server::replica(index, 10, 10)).collect(), 2, 10);
    world.servers.get_mut(&addr(3)).unwrap().alive = false;
    let mut machine = world.machine(&policy(4));
    assert!(!world.run(&mut machine, 300, |_| 0), "{:?}", machine.record());
    assert_eq!((machine.record().message.as_str(), &machine.record().new_primary), (REASON, &None));
    world.servers.get_mut(&addr(3)).unwrap().alive = true;
    assert!(world.run(&mut machine, 500, |_| 0), "{:?}", machine.record());
    assert_eq!((machine.record().phase, &machine.record().new_primary), (Phase::Succeeded, &Some(addr(1))));
    assert!(world.servers[&addr(1)].executed.contains(&world.acknowledged));
}

/// The leader promoted a server and died; whoever goes on knows the others by looks from before, and does not take
/// those that acknowledge away while clients write.
#[test]
fn who_goes_on_leaves_replicas_that_follow_alone() {
    let start = World::new((1..=3).map(|index| Server::replica(index, 10, 10)).collect(), 1, 10);
    let policy = policy(4);
    let open = |effects: usize| {
        let mut world = start.clone();
        let mut machine = world.machine(&policy);
        world.run(&mut machine, effects, |_| 0);
        let phase = world.journal.as_ref().unwrap().phase;
        (phase == Phase::Writable && world.attached(1) == [2, 3]).then_some(world)
    };
    let mut world = (1..200).find_map(open).unwrap();
    let mut next = world.resume_late(&policy);
    let gate = |now: Mono| Gate { now, leader_until: now.plus_ms(2000) };
    let (mut effects, before) = (VecDeque::from(next.step(gate(world.now), Event::Start)), world.log.len());
    // Looks from after the claim show the same, some later than all else.
    for round in 0..40 {
        let event = match effects.pop_front() {
            Some(effect) => world.perform(effect, &next, Fate::Fine, gate(world.now).leader_until),
            None if round < 20 => Some(Event::Tick),
            None => [2, 3].get(round - 20).map(|index| {
                let seen = world.servers[&addr(*index)].observe(world.now, 0, 1, true);
                Event::Looked(addr(*index), Box::new(seen))
            }),
        };
        world.now = world.now.plus_ms(20);
        effects.extend(event.into_iter().flat_map(|event| next.step(gate(world.now), event)));
    }
    assert!(next.finished(), "{:?}", next.record());
    let log = &world.log[before..];
    assert!(!log.iter().any(|line| line.contains("StopReceiver")), "{}", log.join("\n"));
    assert_eq!(next.record().pending_replicas, []);
}
