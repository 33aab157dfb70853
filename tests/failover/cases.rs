//! Single failovers, told as examples.

use baton::core::{
    policy::{DataLoss, PromotionRule},
    recovery::{
        Loss, Phase, Verdict,
        machine::{Effect, Event, Gate},
    },
};

use super::fleet::{Fate, Server, World, addr, policy, trx};

fn run(world: &mut World, policy: &baton::core::policy::Policy) -> baton::core::recovery::Recovery {
    let mut machine = world.machine(policy);
    assert!(world.run(&mut machine, 2000, |_| 0), "did not end: {:?}\n{}", machine.record(), world.log.join("\n"));
    machine.record().clone()
}

#[test]
fn the_most_advanced_replica_wins_though_another_executed_more() {
    // The case of orchestrator #1312: 1 executed more, 2 received more.
    let replicas = vec![Server::replica(1, 8, 8), Server::replica(2, 5, 10), Server::replica(3, 3, 7)];
    let mut world = World::new(replicas, 1, 10);
    let record = run(&mut world, &policy(4));
    assert_eq!(record.phase, Phase::Succeeded, "{record:?}");
    assert_eq!(record.new_primary, Some(addr(2)));
    assert_eq!(record.lost, Some(Loss::None));
    assert_eq!(world.routed, Some(addr(2)));
    assert!(world.servers[&addr(2)].executed.contains(&trx(0, 10)));
    for index in [1, 3] {
        assert_eq!(world.servers[&addr(index)].source, Some(2), "{index}");
    }
    let timings = &record.timings;
    assert!(timings.fenced < timings.chosen.map(|ms| ms + 1) && timings.chosen < timings.writable);
    assert!(timings.writable < timings.routed && timings.routed < timings.completed);
}

#[test]
fn rules_decide_among_equals_only() {
    let replicas = vec![Server::replica(1, 10, 10), Server::replica(2, 10, 10), Server::replica(3, 9, 9)];
    let mut policy = policy(4);
    policy.servers.get_mut(&addr(2)).unwrap().promotion = Some(PromotionRule::Prefer);
    policy.servers.get_mut(&addr(3)).unwrap().promotion = Some(PromotionRule::Prefer);
    let record = run(&mut World::new(replicas, 1, 10), &policy);
    assert_eq!(record.new_primary, Some(addr(2)));
}

/// 2 may not become primary and has more than 1, which gets it from there.
#[test]
fn who_may_become_primary_gets_what_it_lacks_from_who_may_not() {
    for wait_count in [0, 1] {
        let mut policy = policy(4);
        policy.servers.get_mut(&addr(2)).unwrap().promotion = Some(PromotionRule::MustNot);
        policy.servers.get_mut(&addr(3)).unwrap().promotion = Some(PromotionRule::MustNot);
        // What is to be got is in a relay log still.
        let replicas = vec![Server::replica(1, 7, 9), Server::replica(2, 8, 10), Server::replica(3, 9, 9)];
        let mut world = World::new(replicas, wait_count, 10);
        let record = run(&mut world, &policy);
        assert_eq!((record.phase, &record.new_primary), (Phase::Succeeded, &Some(addr(1))), "{record:?}");
        assert!(world.servers[&addr(1)].executed.contains(&trx(0, 10)));
        assert_eq!(record.promoted_set, Some(trx(0, 10)));
        assert!(!matches!(record.lost, Some(Loss::AtLeast(_))), "{:?}", record.lost);
        assert!([2, 3].iter().all(|index| world.servers[&addr(*index)].source == Some(1)), "{:?}", world.log);
    }
}

#[test]
fn a_preferred_server_catches_up_when_that_is_quick() {
    let mut policy = policy(3);
    policy.servers.get_mut(&addr(1)).unwrap().promotion = Some(PromotionRule::Prefer);
    let replicas = || vec![Server::replica(1, 8, 8), Server::replica(2, 10, 10)];
    let mut world = World::new(replicas(), 1, 10);
    let record = run(&mut world, &policy);
    assert_eq!((record.phase, &record.new_primary), (Phase::Succeeded, &Some(addr(1))), "{record:?}");
    assert!(world.servers[&addr(1)].executed.contains(&trx(0, 10)));
    // One that cannot apply what it gets is not waited for: 2 has everything.
    let mut world = World::new(replicas(), 0, 10);
    world.hangs = Some(1);
    let mut machine = world.machine(&policy);
    world.run(&mut machine, 10_000, |_| 0);
    let record = machine.record();
    assert!(record.phase.promoted() && record.new_primary == Some(addr(2)), "{record:?}");
    let writable = record.timings.writable.unwrap();
    assert!((3000..5000).contains(&writable), "{writable} ms");
}

/// Nobody else has what it had: the owner decides whether that is lost.
#[test]
fn who_dies_while_another_one_catches_up_from_it_is_not_waited_for_by_an_owner_who_accepts_loss() {
    for accepts in [true, false] {
        let mut policy = policy(3);
        policy.servers.get_mut(&addr(2)).unwrap().promotion = Some(PromotionRule::MustNot);
        policy.failover.data_loss = Some(if accepts { DataLoss::Accept } else { DataLoss::Refuse });
        let mut source = Server::replica(2, 8, 10);
        // It is fenced, and then dies with what it only received.
        source.dies_after = Some(1);
        let mut world = World::new(vec![Server::replica(1, 9, 9), source], if accepts { 0 } else { 1 }, 10);
        let mut machine = world.machine(&policy);
        world.run(&mut machine, 3000, |_| 0);
        let record = machine.record();
        assert_eq!(record.phase.promoted(), accepts, "{record:?}");
        assert!(accepts || record.message.starts_with("blocked: 1 of the 2 replicas"), "{}", record.message);
    }
}

#[test]
fn a_server_that_is_asked_for_and_is_behind_catches_up() {
    let mut world = World::new(vec![Server::replica(1, 8, 8), Server::replica(2, 10, 10)], 1, 10);
    let policy = policy(3);
    let mut machine = world.machine(&policy);
    machine.record_mut().candidate = Some(addr(1));
    assert!(world.run(&mut machine, 2000, |_| 0), "{:?}", machine.record());
    assert_eq!(machine.record().new_primary, Some(addr(1)), "{:?}", machine.record());
    assert!(world.servers[&addr(1)].executed.contains(&trx(0, 10)));
}

#[test]
fn a_must_not_replica_that_alone_has_everything_is_no_reason_to_lose_data() {
    // What it has cannot be got from it.
    let mut replicas = vec![Server::replica(1, 9, 9), Server::replica(2, 9, 10)];
    (replicas[1].applier, replicas[1].applier_error) = (false, true);
    let mut policy = policy(3);
    policy.servers.get_mut(&addr(2)).unwrap().promotion = Some(PromotionRule::MustNot);
    let mut world = World::new(replicas.clone(), 1, 10);
    let record = run(&mut world, &policy);
    assert_eq!(record.phase, Phase::Refused);
    assert!(record.message.contains("10.0.0.3:3306"), "{}", record.message);
    assert!(world.servers.values().all(|server| server.index == 0 || server.receiver), "receivers are started again");

    policy.failover.data_loss = Some(DataLoss::Accept);
    let record = run(&mut World::new(replicas, 1, 10), &policy);
    assert_eq!((record.phase, record.new_primary), (Phase::Succeeded, Some(addr(1))));
    assert!(matches!(record.lost, Some(Loss::AtLeast(set)) if set.count() == 1));
}

#[test]
fn incomparable_sets_stop_everything() {
    let mut replicas = vec![Server::replica(1, 9, 9), Server::replica(2, 10, 10)];
    replicas[0].executed = "00000000-0000-0000-0000-000000000000:1-8:12".parse().unwrap();
    let record = run(&mut World::new(replicas, 0, 12), &policy(3));
    assert_eq!(record.phase, Phase::Refused);
    assert!(record.message.contains("split-brain"), "{}", record.message);
}

#[test]
fn an_errant_replica_is_never_promoted_and_is_listed_as_lost() {
    let mut replicas = vec![Server::replica(1, 10, 10), Server::replica(2, 10, 10), Server::replica(3, 10, 10)];
    replicas[0].executed = replicas[0].executed.union(&trx(1, 2));
    let record = run(&mut World::new(replicas, 0, 10), &policy(4));
    assert_eq!(record.new_primary, Some(addr(2)));
    let errant = record.candidates.iter().find(|candidate| candidate.server == addr(1)).unwrap();
    assert_eq!(errant.verdict, Verdict::Excluded);
    assert_eq!(record.lost_replicas, vec![addr(1)]);
}

#[test]
fn without_the_quorum_nothing_is_promoted() {
    let mut replicas = vec![Server::replica(1, 10, 10), Server::replica(2, 10, 10)];
    replicas[1].alive = false;
    let mut world = World::new(replicas, 1, 10);
    let policy = policy(3);
    let mut machine = world.machine(&policy);
    assert!(!world.run(&mut machine, 500, |_| 0));
    assert_eq!(machine.record().phase, Phase::Fencing);
    assert!(machine.record().message.starts_with("blocked"), "{}", machine.record().message);
    world.servers.get_mut(&addr(2)).unwrap().alive = true;
    let mut machine = world.resume(&policy);
    assert!(world.run(&mut machine, 2000, |_| 0));
    assert_eq!(machine.record().phase, Phase::Succeeded);
}

#[test]
fn a_replica_with_the_source_side_on_is_freed_before_it_is_waited_for() {
    let mut replicas = vec![Server::replica(1, 5, 10), Server::replica(2, 4, 9)];
    for replica in &mut replicas {
        replica.source_side = true;
    }
    let record = run(&mut World::new(replicas, 1, 10), &policy(3));
    assert_eq!(record.phase, Phase::Succeeded, "{record:?}");
}

#[test]
fn nobody_becomes_writable_before_the_record_names_them() {
    for fate in [Fate::NotDone, Fate::AnswerLost] {
        let replicas = vec![Server::replica(1, 10, 10), Server::replica(2, 10, 10), Server::replica(3, 8, 8)];
        let policy = policy(4);
        let mut world = World::new(replicas, 2, 10);
        let mut machine = world.machine(&policy);
        // The API server takes the intent and then nothing more, or does not say so.
        world.drive(&mut machine, 400, |effect| if *effect == Effect::Save { fate } else { Fate::Fine });
        (1..4).for_each(|index| world.write(index));
        assert_eq!(world.acknowledged, trx(0, 10), "a client was served by a server that no record names");
        // The next leader has only the record.
        let mut machine = world.resume(&policy);
        assert!(world.run(&mut machine, 2000, |_| 0), "{:?}\n{}", machine.record(), world.log.join("\n"));
        assert_eq!(machine.record().phase, Phase::Succeeded);
    }
}

#[test]
fn clients_of_a_writable_replica_are_cut_off_and_told_nothing() {
    // Its semi-sync waits for ackers that it does not have; switching that off would tell them "done" (M2).
    let mut replicas = vec![Server::replica(1, 10, 10), Server::replica(2, 4, 9)];
    (replicas[1].read_only, replicas[1].source_side) = (false, true);
    let mut world = World::new(replicas, 1, 10);
    world.write(2);
    let told = world.acknowledged.clone();
    let mut machine = world.machine(&policy(3));
    world.run(&mut machine, 2000, |_| 0);
    assert_eq!(world.acknowledged, told, "{}", world.log.join("\n"));
    assert!(world.servers[&addr(2)].stuck.is_empty(), "{}", world.log.join("\n"));
}

#[test]
fn receivers_are_started_again_though_their_stop_was_still_under_way() {
    let replicas = vec![Server::replica(1, 10, 10), Server::replica(2, 10, 10)];
    let mut world = World::new(replicas, 1, 10);
    let mut machine = world.machine(&policy(3));
    let gate = |world: &World| Gate { now: world.now, leader_until: world.now.plus_ms(2000) };
    let begin = machine.step(gate(&world), Event::Start).remove(0);
    let begun = world.perform(begin, &machine, Fate::Fine, gate(&world).leader_until).unwrap();
    let stops = machine.step(gate(&world), begun);
    // The primary answers before any of the stops does.
    world.servers.get_mut(&addr(0)).unwrap().alive = true;
    let seen = Box::new(world.servers[&addr(0)].observe(world.now, 2, 1, true));
    assert!(machine.step(gate(&world), Event::OldAnswers(seen)).is_empty());
    let mut queue: Vec<_> = stops;
    while !machine.finished() {
        let event = match queue.pop() {
            Some(effect) => world.perform(effect, &machine, Fate::Fine, gate(&world).leader_until),
            None => Some(Event::Tick),
        };
        world.now = world.now.plus_ms(20);
        queue.extend(event.into_iter().flat_map(|event| machine.step(gate(&world), event)));
    }
    assert_eq!(machine.record().phase, Phase::Failed);
    assert!(world.servers.values().all(|server| server.index == 0 || server.receiver), "{}", world.log.join("\n"));
}

/// A replica that an earlier attempt moved has the lost primary's transactions and points elsewhere:
/// they are no strays, also for a leader who does not rely on what the old primary shows now.
#[test]
fn a_replica_that_was_moved_already_keeps_what_was_acknowledged() {
    let mut chosen_before = Server::replica(1, 10, 10);
    chosen_before.acker = false;
    let replicas = vec![chosen_before, Server::replica(2, 5, 5), Server::replica(3, 10, 10)];
    let (mut world, policy) = (World::new(replicas, 1, 10), policy(4));
    let mut record = world.machine(&policy).record().clone();
    record.phase = Phase::Fencing;
    world.journal = Some(record);
    world.servers.get_mut(&addr(1)).unwrap().alive = false;
    let moved = world.servers.get_mut(&addr(3)).unwrap();
    (moved.source, moved.received) = (Some(1), trx(0, 0));
    let old = world.servers.get_mut(&addr(0)).unwrap();
    (old.alive, old.read_only) = (true, true);
    let mut machine = world.resume(&policy);
    world.run(&mut machine, 300, |_| 0);
    assert_eq!(machine.record().new_primary, Some(addr(3)), "{:?}", machine.record().candidates);
}

/// A leader died after it had moved a replica under the server it had chosen; the old primary was never
/// gone. It needs its acker back.
#[test]
fn a_replica_that_was_moved_is_moved_back_when_nobody_is_promoted() {
    let (mut world, policy) =
        (World::new(vec![Server::replica(1, 10, 10), Server::replica(2, 10, 10)], 1, 10), policy(3));
    let mut record = world.machine(&policy).record().clone();
    (record.phase, record.new_primary) = (Phase::Promoting, Some(addr(1)));
    world.journal = Some(record);
    world.servers.get_mut(&addr(0)).unwrap().alive = true;
    world.servers.get_mut(&addr(2)).unwrap().source = Some(1);
    let mut machine = world.resume(&policy);
    assert!(world.run(&mut machine, 300, |_| 0), "{}", world.log.join("\n"));
    assert_eq!(machine.record().phase, Phase::Failed);
    assert_eq!(world.attached(0), [1, 2], "{}", world.log.join("\n"));
}

/// A record that is left open by the last write of it would be carried on once it is read.
#[test]
fn a_record_is_closed_though_its_last_write_is_not_answered() {
    let mut world = World::new(vec![Server::replica(1, 10, 10), Server::replica(2, 10, 10)], 1, 10);
    let mut machine = world.machine(&policy(3));
    let mut last = 0;
    world.drive(&mut machine, 600, |effect| {
        last += u32::from(matches!(effect, Effect::Save));
        if last == 3 { Fate::NotDone } else { Fate::Fine }
    });
    assert!(last > 3 && machine.finished(), "{last} writes, {:?}", machine.record().phase);
    assert_eq!(world.journal.unwrap().phase, Phase::Succeeded);
}

/// A winner whose process was started again while its promotion went on, receiver running, has received
/// more, and its source has acknowledged that: clients are let in after it is applied.
#[test]
fn what_a_restarted_winner_received_is_applied_before_clients_come() {
    let mut world = World::new(vec![Server::replica(1, 10, 10), Server::replica(2, 5, 5)], 1, 10);
    let lost = world.servers.get_mut(&addr(0)).unwrap();
    (lost.alive, lost.cut) = (true, true);
    let mut machine = world.machine(&policy(3));
    let gate = |world: &World| Gate { now: world.now, leader_until: world.now.plus_ms(2000) };
    let mut queue: std::collections::VecDeque<_> = machine.step(gate(&world), Event::Start).into();
    let mut attempts = 0;
    for _ in 0..300 {
        let event = match queue.pop_front() {
            Some(effect) => {
                let epoch = matches!(&effect, Effect::Act(_, action, _) if action.name() == "WriteEpoch");
                attempts += u32::from(epoch);
                let fate = if epoch && attempts == 1 { Fate::NotDone } else { Fate::Fine };
                let event = world.perform(effect, &machine, fate, gate(&world).leader_until);
                if epoch && attempts == 1 {
                    let winner = world.servers.get_mut(&addr(1)).unwrap();
                    (winner.receiver, winner.applier, winner.source_side) = (true, false, false);
                    world.write(0);
                }
                event
            }
            None => {
                world.now = world.now.plus_ms(20);
                Some(Event::Tick)
            }
        };
        queue.extend(event.into_iter().flat_map(|event| machine.step(gate(&world), event)));
        world.check(&machine);
    }
    let received = &world.acknowledged;
    assert!(received.contains(&trx(0, 11)) && attempts > 1, "{received}, {attempts} attempts");
    assert_eq!(machine.record().new_primary, Some(addr(1)));
    assert!(world.servers[&addr(1)].writable() && world.servers[&addr(1)].executed.contains(received));
}

/// Clients wrote to the chosen server before it was cut off, and nobody else may become primary: that is no
/// reason to give the old primary its ackers back.
#[test]
fn a_recovery_that_let_clients_in_does_not_give_up() {
    let replicas = vec![Server::replica(1, 10, 10), Server::replica(2, 10, 10), Server::replica(3, 10, 10)];
    let mut policy = policy(4);
    for index in [2, 3] {
        policy.servers.get_mut(&addr(index)).unwrap().promotion = Some(PromotionRule::MustNot);
    }
    // Up to the moment in which clients are let in.
    let start = World::new(replicas, 2, 10);
    let until = |effects: usize| {
        let mut world = start.clone();
        let mut machine = world.machine(&policy);
        world.run(&mut machine, effects, |_| 0);
        world.servers[&addr(1)].writable().then_some(world)
    };
    let mut world = (1..200).find_map(until).unwrap();
    world.write(1);
    world.servers.get_mut(&addr(1)).unwrap().cut = true;
    let mut next = world.resume(&policy);
    assert!(!world.run(&mut next, 400, |_| 0), "{:?}", next.record());
    assert!(next.record().message.starts_with("blocked: "), "{}", next.record().message);
    assert!(world.attached(0).is_empty(), "the old primary has an acker");
    world.servers.get_mut(&addr(1)).unwrap().cut = false;
    assert!(world.run(&mut next, 2000, |_| 0), "{:?}", next.record());
    assert_eq!((next.record().phase, &next.record().new_primary), (Phase::Succeeded, &Some(addr(1))));
    assert!(world.servers[&addr(1)].executed.contains(&world.acknowledged));
}
