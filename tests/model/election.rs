//! Model checking of the election: no two leaders, ever; somebody, soon.
//!
//! The first is checked in worlds where anything may be lost, late or stopped, the second in worlds where
//! everyone is prompt. Each world is small and searched completely. That the search can find two leaders
//! at all is shown by worlds in which one rule is broken on purpose.

#[path = "election/forget.rs"]
mod forget;
#[path = "election/world.rs"]
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

/// A world in which nothing happens but pauses, of any length and of anybody.
fn pauses(contenders: usize) -> Setup {
    Setup {
        contenders: vec![(1_000, timing()); contenders],
        losses: false,
        stops: false,
        crashes: false,
        restarts: false,
        deletions: false,
        horizon: None,
        prompt: false,
        mutation: Mutation::None,
    }
}

/// Two contenders of which the first has a clock that advances by `slow_ms` while the second's advances
/// by 1000.
fn drifting(slow_ms: u64) -> Setup {
    Setup { contenders: vec![(slow_ms, timing()), (1_000, timing())], ..pauses(2) }
}

/// Searches a world to its end and tells how large it was.
fn search(name: &str, setup: Setup) -> impl Checker<Setup> {
    let started = std::time::Instant::now();
    let checker = setup.checker().spawn_dfs().join();
    let (states, steps) = (checker.unique_state_count(), checker.state_count());
    println!("{name}: {states} states, {steps} steps, {:.1} s", started.elapsed().as_secs_f64());
    checker
}

fn holds(name: &str, setup: Setup) {
    let checker = search(name, setup);
    assert!(checker.is_done(), "{name}: the search did not come to its end");
    checker.assert_properties();
}

/// A history in which two lead must be found.
fn two_leaders(name: &str, setup: Setup) {
    let checker = search(name, setup);
    let path = checker.assert_any_discovery(ONE_LEADER);
    assert!(checker.model().leaders(path.last_state()) > 1);
}

#[test]
fn two_contenders_that_lose_messages_stop_crash_and_restart() {
    holds(
        "two, losses, stops, crashes, restarts",
        Setup { losses: true, stops: true, crashes: true, restarts: true, ..pauses(2) },
    );
}

#[test]
fn two_contenders_whose_lease_is_deleted_again_and_again() {
    holds("two, losses, deletions", Setup { losses: true, deletions: true, ..pauses(2) });
}

#[test]
fn three_contenders_that_pause() {
    holds("three, pauses", pauses(3));
}

#[test]
fn three_contenders_that_lose_messages_until_one_lease_has_expired() {
    holds("three, losses, 3 ticks", Setup { losses: true, horizon: Some(3), ..pauses(3) });
}

/// The bound is `lease / deadline`, 1.5 here: 1000 / 670 is just below it, 1000 / 660 just above.
#[test]
fn clocks_may_differ_by_less_than_lease_over_deadline() {
    holds("two, drift 1.49, losses", Setup { losses: true, ..drifting(670) });
    two_leaders("two, drift 1.52", drifting(660));
}

/// While settings are rolled out, contenders of the old and the new meet.
#[test]
fn contenders_of_different_timing_understand_each_other() {
    let short = Timing::new(2_000, 1_500, 1_000).unwrap();
    let contenders = vec![(1_000, short), (1_000, timing())];
    holds("two, timings, losses", Setup { contenders, losses: true, ..pauses(2) });
}

#[test]
fn prompt_contenders_replace_a_leader_in_time() {
    let prompt = Setup { restarts: true, prompt: true, ..pauses(2) };
    holds("two, prompt, crashes", Setup { crashes: true, ..prompt.clone() });
    holds("two, prompt, stops", Setup { stops: true, ..prompt });
}

#[test]
fn counting_validity_from_the_end_of_a_renewal_is_found() {
    two_leaders("counting from the end", Setup { mutation: Mutation::CountFromEnd, ..pauses(2) });
}

#[test]
fn writing_without_a_version_is_found() {
    two_leaders("no version", Setup { mutation: Mutation::NoVersion, ..pauses(2) });
}

#[test]
fn writing_without_the_uid_is_found() {
    two_leaders("no uid", Setup { deletions: true, mutation: Mutation::NoUid, ..pauses(2) });
}

#[test]
fn trusting_a_write_without_an_answer_is_found() {
    two_leaders("trusting", Setup { losses: true, mutation: Mutation::TrustLostWrites, ..pauses(2) });
}

#[test]
fn sharing_an_identity_is_found() {
    two_leaders("same identity", Setup { mutation: Mutation::SameIdentity, ..pauses(2) });
}
