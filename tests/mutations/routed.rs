//! A failover whose first write, that nobody is routed to the old primary, is refused.

use std::collections::VecDeque;

use baton::{
    core::{
        id::Epoch,
        observation::{FailureKind, Receiver},
        recovery::{
            Cause,
            machine::{Effect, Event, Gate, Machine},
        },
        step::Action,
    },
    testing::snapshot::{Cluster, addr, policy},
};

/// For so long it is refused, in milliseconds.
const REFUSED_MS: u64 = 1500;

/// Clients are let in nowhere else as long as they may be routed to the old primary.
pub fn a_route_that_cannot_be_withdrawn() -> bool {
    let mut cluster = Cluster::primary_and_replicas(2);
    cluster.look();
    cluster.fail("p", FailureKind::Refused);
    ["r1", "r2"].into_iter().for_each(|name| cluster.lose_source(name));
    let snapshot = cluster.look();
    let cause = Cause { analysis: "DeadPrimary".to_owned(), server: addr("p"), reason: String::new() };
    let mut machine = Machine::new(&snapshot, &policy(), cause, Epoch(7), "a", snapshot.at);
    let mut now = snapshot.at;
    let gate = |now| Gate { now, leader_until: now.plus_ms(2000) };
    let mut effects: VecDeque<_> = machine.step(gate(now), Event::Start).into();
    while now.since_ms(snapshot.at) < REFUSED_MS {
        now = now.plus_ms(5);
        let event = match effects.pop_front() {
            Some(Effect::Act(_, Action::Unfence, _)) => return false,
            Some(Effect::Act(server, ..)) => {
                let mut seen = snapshot.last(&server).cloned().unwrap();
                (seen.at, seen.channels[0].receiver) = (now, Receiver::Stopped);
                Event::Acted(server, Ok(Box::new(seen)))
            }
            Some(Effect::Begin) => Event::Begun(Ok(())),
            Some(Effect::Save) => Event::Saved(machine.record().new_primary.clone(), Ok(())),
            Some(Effect::Route(target)) => Event::Routed(target, Err("refused".to_owned())),
            Some(_) | None => Event::Tick,
        };
        effects.extend(machine.step(gate(now), event));
    }
    let claimed = machine.record().steps.iter().any(|step| step.step == "WriteEpoch");
    assert!(claimed, "it waits for something else: {:?}", machine.record());
    true
}
