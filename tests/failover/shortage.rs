//! Too few replicas are left to acknowledge for a new primary.

use baton::core::recovery::{Phase, machine::Machine};

use super::{
    fleet::World,
    servers::{Server, addr, policy, trx},
};

const REASON: &str = "blocked: too few replicas are left to acknowledge what a new primary commits";

/// The only acker is left: it is stopped, and neither claimed nor given a transaction of its own.
fn waiting() -> (World, Machine) {
    let mut other = Server::replica(2, 5, 5);
    other.acker = false;
    let mut world = World::new(vec![Server::replica(1, 10, 10), other], 1, 10);
    let mut machine = world.machine(&policy(3));
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
}

#[test]
fn an_old_primary_that_is_back_with_everything_stays_the_primary() {
    let (mut world, mut machine) = waiting();
    back(&mut world, 11);
    assert!(world.run(&mut machine, 300, |_| 0), "{:?}", machine.record());
    assert_eq!((machine.record().phase, &machine.record().new_primary), (Phase::Failed, &None));
    assert!(machine.record().message.starts_with("the old primary is back"), "{}", machine.record().message);
    assert!([1, 2].iter().all(|index| world.servers[&addr(*index)].receiver), "{}", world.log.join("\n"));
}

#[test]
fn an_old_primary_that_lost_something_does_not() {
    let (mut world, mut machine) = waiting();
    back(&mut world, 9);
    assert!(!world.run(&mut machine, 300, |_| 0), "{:?}", machine.record());
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
