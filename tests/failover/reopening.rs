//! The primary came back and refuses writes: it is opened again, whoever executes that and wherever it dies.

use baton::core::{
    id::Epoch,
    policy::{Mode, Policy},
    recovery::{Cause, Phase, machine::Machine},
};
use proptest::prelude::*;

use super::fleet::{self, Server, World, addr, trx};

fn policy(servers: usize) -> Policy {
    let mut policy = fleet::policy(servers);
    policy.failover.read_only = Mode::Automatic;
    policy
}

/// All servers came back; the primary has everything and takes no writes, and some receivers did not start.
fn closed(replicas: Vec<Server>, wait_count: u32) -> World {
    let mut world = World::new(replicas, wait_count, 10);
    (world.tidy, world.open_book) = (false, true);
    let old = world.servers.get_mut(&addr(0)).unwrap();
    (old.alive, old.read_only) = (true, true);
    world
}

fn begin(world: &World, policy: &Policy) -> Machine {
    let cause = Cause { analysis: "NoWritablePrimary".to_owned(), server: addr(0), reason: String::new() };
    Machine::new(&world.snapshot(), policy, cause, Epoch(7), "a", world.now)
}

#[test]
fn it_accepts_writes_again_in_a_new_reign_and_its_replicas_are_started() {
    for wait_count in [0, 1] {
        let mut replicas = vec![Server::replica(1, 10, 10), Server::replica(2, 8, 9)];
        replicas[0].receiver = false;
        let mut world = closed(replicas, wait_count);
        let policy = policy(3);
        let mut machine = begin(&world, &policy);
        assert!(world.run(&mut machine, 4000, |_| 0), "{:?}\n{}", machine.record(), world.log.join("\n"));
        let record = machine.record();
        assert_eq!((record.phase, record.new_primary.clone()), (Phase::Succeeded, Some(addr(0))), "{record:?}");
        assert!(record.timings.writable.is_some());
        let primary = &world.servers[&addr(0)];
        assert!(!primary.read_only && !primary.offline);
        assert!(
            world.epochs.iter().any(|((server, _), epoch)| (*server, *epoch) == (0, Epoch(7))),
            "{:?}",
            world.epochs
        );
        assert!(
            world.servers.values().filter(|server| server.index != 0).all(|server| server.receiver && server.read_only)
        );
    }
}

#[test]
fn one_that_dies_meanwhile_is_given_up_at_once_and_nobody_else_is_opened() {
    let mut world = closed(vec![Server::replica(1, 10, 10)], 0);
    let policy = policy(2);
    world.servers.get_mut(&addr(0)).unwrap().dies_after = Some(2);
    let (mut machine, at) = (begin(&world, &policy), world.now);
    assert!(world.run(&mut machine, 4000, |_| 0), "{:?}\n{}", machine.record(), world.log.join("\n"));
    assert_eq!((machine.record().phase, machine.record().new_primary.clone()), (Phase::Failed, None));
    assert!(world.now.since_ms(at) < 5000, "a failover waits for it");
    assert!(world.servers[&addr(1)].read_only);
}

/// What was proven when it began is proven again by whoever carries it on.
#[test]
fn what_has_changed_meanwhile_ends_it_and_nothing_is_opened() {
    type Change = fn(&mut World, &mut Policy);
    let changes: [(Change, &str); 4] = [
        (|world, _| world.servers.get_mut(&addr(1)).unwrap().read_only = false, "accepts writes"),
        (|world, _| world.servers.get_mut(&addr(1)).unwrap().received = trx(0, 11), "has transactions that it lacks"),
        (|world, _| world.servers.get_mut(&addr(0)).unwrap().source = Some(1), "it replicates from"),
        (|_, policy| policy.paused = true, "the cluster is paused"),
    ];
    for (change, why) in changes {
        for effects in 1..4 {
            let mut world = closed(vec![Server::replica(1, 10, 10), Server::replica(2, 10, 10)], 0);
            let mut policy = policy(3);
            let mut machine = begin(&world, &policy);
            world.run(&mut machine, effects, |_| 0);
            change(&mut world, &mut policy);
            let mut machine = world.resume(&policy);
            assert!(world.run(&mut machine, 4000, |_| 0), "{:?}\n{}", machine.record(), world.log.join("\n"));
            let record = machine.record();
            assert_eq!((record.phase, record.new_primary.clone()), (Phase::Failed, None), "{record:?}");
            assert!(record.message.contains(why), "{why}: {}", record.message);
            assert!(world.servers[&addr(0)].read_only);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// The invariants are checked after every effect; in the end the primary is open and nobody else.
    #[test]
    fn it_is_opened_whoever_dies_in_between(
        shapes in prop::collection::vec((1u64..11, prop::bool::ANY), 1..4),
        wait_count in 0u32..2,
        crashes in prop::collection::vec(0usize..20, 0..4),
        order in any::<u64>(),
    ) {
        let replica = |(index, (has, started)): (usize, &(u64, bool))| {
            let mut server = Server::replica(index + 1, *has, *has);
            server.receiver = *started;
            server
        };
        let mut world = closed(shapes.iter().enumerate().map(replica).collect(), wait_count);
        let policy = policy(shapes.len() + 1);
        let mut pick = fleet::order(order);
        let mut machine = begin(&world, &policy);
        for crash in crashes {
            if world.run(&mut machine, crash, &mut pick) {
                break;
            }
            machine = if world.journal.is_some() { world.resume(&policy) } else { begin(&world, &policy) };
        }
        let ended = world.run(&mut machine, 6000, &mut pick);
        let record = machine.record();
        prop_assert!(ended, "I6: did not end: {record:?}\n{}", world.log.join("\n"));
        prop_assert_eq!(record.phase, Phase::Succeeded, "{}", world.log.join("\n"));
        let open = world.servers.values().filter(|server| !server.read_only && !server.offline);
        prop_assert_eq!(open.map(|server| server.index).collect::<Vec<_>>(), [0]);
    }
}
