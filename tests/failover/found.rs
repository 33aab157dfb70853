//! What searching all orders of events found (tests/model), told as examples.

use baton::core::{
    id::Epoch,
    recovery::{
        Phase,
        machine::{Effect, Event, Gate},
    },
    step::Action,
};

use super::fleet::{Fate, Server, World, addr, one, policy};

fn moves(effect: &Effect, index: usize) -> bool {
    matches!(effect, Effect::Act(server, Action::Repoint { .. }, _) if *server == addr(index))
}

#[test]
fn an_acker_that_was_away_for_three_attempts_is_tried_again_when_the_epoch_waits_for_it() {
    let mut world = World::new(vec![Server::replica(1, 5, 5), Server::replica(2, 5, 5)], 1, 5);
    let mut machine = world.machine(&policy(3));
    let mut left = 3;
    world.drive(&mut machine, 2000, |effect| {
        let lost = moves(effect, 2) && left > 0;
        left -= u32::from(lost);
        if lost { Fate::NotDone } else { Fate::Fine }
    });
    assert_eq!((left, machine.record().phase), (0, Phase::Succeeded), "{:?}", machine.record());
}

/// A leader died while the epoch of 1 waited for its acknowledgement: 1 does not show it yet, and 2 has it.
#[test]
fn a_recovery_is_not_given_up_when_an_acker_has_the_epoch_that_waits() {
    let mut world = World::new(vec![Server::replica(1, 5, 5), Server::replica(2, 5, 5)], 1, 5);
    let mut machine = world.machine(&policy(3));
    // Nothing is said to 1 after its receiver was stopped.
    world.drive(&mut machine, 12, |effect| match effect {
        Effect::Act(server, Action::StopReceiver, _) if *server == addr(1) => Fate::Fine,
        Effect::Act(server, ..) if *server == addr(1) => Fate::NotDone,
        _ => Fate::Fine,
    });
    assert_eq!(world.journal.as_ref().unwrap().new_primary, Some(addr(1)));
    world.epochs.insert((1, 1), Epoch(7));
    let chosen = world.servers.get_mut(&addr(1)).unwrap();
    (chosen.stuck, chosen.source_side) = (one(1, 1), true);
    let acker = world.servers.get_mut(&addr(2)).unwrap();
    acker.received = acker.received.union(&one(1, 1));
    world.servers.get_mut(&addr(0)).unwrap().alive = true;
    let mut next = world.resume(&policy(3));
    assert!(world.run(&mut next, 2000, |_| 0), "{:?}", next.record());
    assert_eq!(next.record().phase, Phase::Succeeded, "{}", next.record().message);
}

/// 2 was moved, acknowledges for 1, is started again, and does not replicate by itself.
#[test]
fn an_acker_that_was_started_again_is_moved_again() {
    let mut world = World::new(vec![Server::replica(1, 5, 5), Server::replica(2, 5, 5)], 1, 5);
    let mut machine = world.machine(&policy(3));
    let mut moved = false;
    world.drive(&mut machine, 200, |effect| {
        moved |= moves(effect, 2);
        // Nobody gets further before that.
        if matches!(effect, Effect::Act(_, Action::WriteEpoch { .. }, _)) { Fate::NotDone } else { Fate::Fine }
    });
    assert!(moved && world.servers[&addr(2)].source == Some(1));
    let acker = world.servers.get_mut(&addr(2)).unwrap();
    (acker.receiver, acker.applier) = (false, true);
    let (now, seen) = (world.now.plus_ms(10), Box::new(acker.observe(world.now.plus_ms(10), 0, 1, true)));
    let gate = Gate { now, leader_until: now.plus_ms(2000) };
    let effects = machine.step(gate, Event::Looked(addr(2), seen));
    assert!(effects.iter().any(|effect| moves(effect, 2)), "{effects:?}");
}

/// Its data is being replaced: it is not stopped, moved, chosen or counted.
#[test]
fn a_server_that_is_being_rebuilt_is_left_alone_by_a_failover() {
    let replicas = || vec![Server::replica(1, 8, 8), Server::replica(2, 9, 9), Server::replica(3, 7, 7)];
    let concerned = |rebuilding: bool| {
        let (mut world, mut policy) = (World::new(replicas(), 0, 10), policy(4));
        policy.rebuilding = rebuilding.then(|| addr(2)).into_iter().collect();
        let mut machine = world.machine(&policy);
        assert!(world.run(&mut machine, 4000, |_| 0), "{:?}\n{}", machine.record(), world.log.join("\n"));
        let record = machine.record();
        assert_eq!(record.phase, Phase::Succeeded, "{record:?}");
        (record.new_primary.clone().unwrap(), record.steps.iter().any(|step| step.server == addr(2)))
    };
    assert_eq!(concerned(false), (addr(2), true), "it has most");
    assert_eq!(concerned(true), (addr(1), false));
}

/// The endpoint of the old primary cannot be withdrawn for so long: when clients are let in elsewhere, in milliseconds.
fn opened_after(refused_ms: u64) -> u64 {
    let mut world = World::new(vec![Server::replica(1, 5, 5), Server::replica(2, 5, 5)], 1, 5);
    let mut machine = world.machine(&policy(3));
    let gate = |world: &World| Gate { now: world.now, leader_until: world.now.plus_ms(2000) };
    let began = world.now;
    let mut queue: std::collections::VecDeque<_> = machine.step(gate(&world), Event::Start).into();
    for _ in 0..2000 {
        let event = match queue.pop_front() {
            Some(Effect::Act(_, Action::Unfence, _)) => return world.now.since_ms(began),
            Some(effect) => {
                let refused = effect == Effect::Route(None) && world.now.since_ms(began) < refused_ms;
                world.perform(
                    effect,
                    &machine,
                    if refused { Fate::NotDone } else { Fate::Fine },
                    gate(&world).leader_until,
                )
            }
            None => {
                world.now = world.now.plus_ms(20);
                Some(Event::Tick)
            }
        };
        queue.extend(event.into_iter().flat_map(|event| machine.step(gate(&world), event)));
    }
    panic!("nobody is let in: {:?}", machine.record());
}

/// The old primary may come back and take what they write; who has no right to change endpoints is not to stay without
/// a primary for that.
#[test]
fn nobody_is_let_in_while_others_are_routed_to_the_old_primary_unless_that_lasts() {
    let refused_ms = 1500;
    assert!(opened_after(0) < 500);
    let opened_ms = opened_after(refused_ms);
    assert!((refused_ms..refused_ms + 500).contains(&opened_ms), "{opened_ms}");
    let opened_ms = opened_after(60_000);
    assert!((3000..4000).contains(&opened_ms), "{opened_ms}");
}
