//! Appliers that do not get on: with an error, or with threads that run and wait for ever, as on a full disk.

use baton::core::{
    policy::PromotionRule,
    recovery::{Phase, machine::Machine},
};

use super::fleet::{Server, World, addr, policy, trx};

#[test]
fn a_stuck_applier_is_not_chosen_when_another_has_the_same() {
    let mut replicas = vec![Server::replica(1, 5, 10), Server::replica(2, 4, 10)];
    replicas[0].applier = false;
    replicas[0].applier_error = true;
    let mut world = World::new(replicas, 0, 10);
    let mut machine = world.machine(&policy(3));
    assert!(world.run(&mut machine, 2000, |_| 0), "{}", world.log.join("\n"));
    let record = machine.record();
    assert_eq!(record.new_primary, Some(addr(2)));
    assert_eq!(record.pending_replicas, vec![addr(1)]);
}

/// Those that received all 10 transactions, the last of which were acknowledged, have appliers with an error.
fn nobody_can(sound: Option<Server>) -> String {
    let mut replicas = vec![Server::replica(1, 5, 10), Server::replica(2, 4, 10)];
    replicas.iter_mut().for_each(|server| (server.applier, server.applier_error) = (false, true));
    replicas.extend(sound);
    let count = replicas.len();
    let mut world = World::new(replicas, 1, 10);
    let mut machine = world.machine(&policy(count + 1));
    world.run(&mut machine, 20_000, |_| 0);
    assert_eq!(machine.record().phase, Phase::Refused, "{}", world.log.join("\n"));
    assert!(world.servers.values().all(|server| !server.alive || !server.writable()));
    world.journal.unwrap().message
}

#[test]
fn what_only_servers_with_a_broken_applier_have_is_named() {
    let named = |first: u64| trx(0, 10).subtract(&trx(0, first)).to_string();
    let told = nobody_can(None);
    assert!(
        told.ends_with(&format!("in relay logs alone, of servers that cannot be promoted: {}", named(5))),
        "{told}"
    );
    let told = nobody_can(Some(Server::replica(3, 6, 8)));
    assert!(told.ends_with(&format!("on no server that can be promoted: {}", named(8))), "{told}");
}

/// The owner prefers 1, whose applier's threads run and apply nothing; 2 and 3 have received so much.
fn waiting_for_ever(received: u64) -> (World, Machine) {
    let others = [2, 3].map(|index| Server::replica(index, 8, received));
    let mut policy = policy(4);
    policy.servers.get_mut(&addr(1)).unwrap().promotion = Some(PromotionRule::Prefer);
    let mut world = World::new([vec![Server::replica(1, 5, 10)], others.to_vec()].concat(), 1, 10);
    world.hangs = Some(1);
    let mut machine = world.machine(&policy);
    world.run(&mut machine, 20_000, |_| 0);
    assert!(world.servers[&addr(1)].applier && !world.servers[&addr(1)].executed.contains(&trx(0, 6)));
    (world, machine)
}

#[test]
fn an_applier_that_runs_and_applies_nothing_gives_way_to_another_that_has_the_same_and_less_to_apply() {
    let (world, machine) = waiting_for_ever(10);
    let record = machine.record();
    assert_eq!((record.phase, &record.new_primary), (Phase::Succeeded, &Some(addr(2))), "{}", record.message);
    assert_eq!((record.message.as_str(), &record.pending_replicas), ("", &vec![addr(1)]));
    let writable = record.timings.writable.unwrap();
    assert!((10_000..12_000).contains(&writable), "{writable} ms");
    let hung = record.candidates.iter().find(|candidate| candidate.server == addr(1)).unwrap();
    assert!(hung.reason.contains("it makes no progress"), "{}", hung.reason);
    assert!(world.servers[&addr(2)].executed.contains(&world.acknowledged) && world.acknowledged == trx(0, 10));
}

#[test]
fn one_that_alone_received_everything_is_waited_for_and_said_to_make_no_progress() {
    let (world, machine) = waiting_for_ever(9);
    let record = machine.record();
    assert_eq!((record.phase, &record.new_primary), (Phase::Promoting, &Some(addr(1))), "{}", record.message);
    let told = "waiting for 10.0.0.2:3306 to apply what it received: no progress";
    assert_eq!((record.message.as_str(), world.journal.as_ref().unwrap().message.as_str()), (told, told));
    assert!(world.servers.values().all(|server| !server.writable()));
}
