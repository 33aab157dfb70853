//! Model checking of the recovery of a lost primary: two executors or more, one after the other, and three servers.
//!
//! The real state machine is explored (`core::recovery::machine`), over small servers and a small API server:
//! everything that can happen between any two steps does. Every world is searched completely. That a search
//! would find what a rule prevents is shown by worlds in which one rule is off (feature `mutations`).

#[path = "recovery/api.rs"]
mod api;
#[path = "../failover/servers.rs"]
mod fake;
#[path = "recovery/graph.rs"]
mod graph;
#[path = "recovery/happen.rs"]
mod happen;
#[path = "recovery/mind.rs"]
mod mind;
#[path = "recovery/missed.rs"]
mod missed;
#[cfg(feature = "mutations")]
#[path = "recovery/mutations.rs"]
mod mutations;
#[path = "recovery/properties.rs"]
mod properties;
#[path = "recovery/servers.rs"]
mod servers;
#[path = "recovery/statements.rs"]
mod statements;
#[path = "recovery/words.rs"]
mod words;
#[path = "recovery/world.rs"]
mod world;

use std::{sync::Mutex, time::Instant};

use graph::Graph;
use mind::Mind;
use stateright::{Checker, HasDiscoveries, Model, Property};
use world::{Action, Limits, Setup, World};

/// Rules are switched off for the whole process: searches take turns.
static TURN: Mutex<()> = Mutex::new(());

impl Model for Setup {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        self.begin()
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
        properties::all(self)
    }
}

/// Nothing happens besides.
const NOTHING: Limits =
    Limits { crashes: 0, freezes: 0, stops: 0, losses: 0, deaths: 0, cuts: 0, returns: 0, writes: 0, longs: 0 };

/// The primary has died.
fn dead(limits: Limits) -> Setup {
    Setup { mind: Mind::new(), limits, dead: true, cut: false, reigns: 1 }
}

/// The primary lives on, out of the operators' reach, and its replicas still receive.
fn cut(limits: Limits) -> Setup {
    Setup { dead: false, cut: true, ..dead(limits) }
}

/// Searches a world and tells how large it was.
fn search(name: &str, setup: Setup, until: HasDiscoveries) -> impl Checker<Setup> {
    let started = Instant::now();
    let checker = setup.checker().finish_when(until).spawn_bfs().join();
    let (states, steps) = (checker.unique_state_count(), checker.state_count());
    let (machines, records) = checker.model().mind.size();
    let took_s = started.elapsed().as_secs_f64();
    println!("{name}: {states} states, {steps} steps, {machines} machines, {records} records, {took_s:.1} s");
    checker
}

fn holds(name: &str, setup: Setup) {
    let _turn = TURN.lock();
    let checker = search(name, setup, HasDiscoveries::AllFailures);
    assert!(checker.is_done(), "{name}: the search did not come to its end");
    checker.assert_properties();
}

/// From every state a recovery can end by what goes on by itself and by servers that come back.
fn ends(name: &str, setup: &Setup) {
    let _turn = TURN.lock();
    let started = Instant::now();
    let graph = Graph::of(setup);
    println!("{name}: {} states from which it can end, {:.1} s", graph.size(), started.elapsed().as_secs_f64());
    if let Some((path, world)) = graph.stuck() {
        panic!("{name}: nothing ends after {path:?}\n{world:#?}");
    }
}

#[test]
fn a_recovery_without_faults() {
    holds("dead", dead(NOTHING));
    holds("cut, a write", cut(Limits { writes: 1, ..NOTHING }));
    ends("dead", &dead(NOTHING));
}

#[test]
fn an_executor_that_dies_anywhere() {
    holds("dead, a crash", dead(Limits { crashes: 1, ..NOTHING }));
    ends("dead, a crash", &dead(Limits { crashes: 1, ..NOTHING }));
}

#[test]
fn an_answer_that_is_lost() {
    holds("dead, a loss", dead(Limits { losses: 1, ..NOTHING }));
    ends("dead, a loss", &dead(Limits { losses: 1, ..NOTHING }));
}

#[test]
fn a_replica_that_dies_and_comes_back() {
    ends("dead, a death", &dead(Limits { deaths: 1, ..NOTHING }));
}

#[test]
fn an_old_primary_that_comes_back() {
    ends("dead, a return", &dead(Limits { returns: 1, ..NOTHING }));
}

#[test]
#[ignore = "seconds when optimised: dev/README.md"]
fn an_executor_that_freezes_and_wakes_late() {
    holds("dead, a freeze", dead(Limits { freezes: 1, ..NOTHING }));
    ends("dead, a freeze", &dead(Limits { freezes: 1, ..NOTHING }));
    holds("cut, a freeze, a write", cut(Limits { freezes: 1, writes: 1, ..NOTHING }));
    holds("dead, a return, a write", dead(Limits { returns: 1, writes: 1, ..NOTHING }));
    holds("cut, a return, a write", cut(Limits { returns: 1, writes: 1, ..NOTHING }));
    holds("cut, a death, a write", cut(Limits { deaths: 1, writes: 1, ..NOTHING }));
    holds("cut, a freeze, a return", cut(Limits { freezes: 1, returns: 1, ..NOTHING }));
}

#[test]
#[ignore = "minutes when optimised: dev/README.md"]
fn two_misfortunes_at_once() {
    holds("dead, a crash, a death", dead(Limits { crashes: 1, deaths: 1, ..NOTHING }));
    holds("dead, a crash, a return, a write", dead(Limits { crashes: 1, returns: 1, writes: 1, ..NOTHING }));
    holds("dead, a freeze, a loss", dead(Limits { freezes: 1, losses: 1, ..NOTHING }));
    holds("dead, a freeze, a cut", dead(Limits { freezes: 1, cuts: 1, ..NOTHING }));
}

#[test]
#[ignore = "a minute when optimised: dev/README.md"]
fn executors_that_die_one_after_the_other() {
    holds("dead, two crashes", dead(Limits { crashes: 2, ..NOTHING }));
    ends("dead, two crashes", &dead(Limits { crashes: 2, ..NOTHING }));
    holds("dead, a crash, a freeze", dead(Limits { crashes: 1, freezes: 1, ..NOTHING }));
}

/// Who was told to go leaves a claim that is valid still, beside the one of who leads next, and what it said may come
/// late.
#[test]
#[ignore = "seconds when optimised: dev/README.md"]
fn claims_that_overlap() {
    holds("dead, a stop", dead(Limits { stops: 1, ..NOTHING }));
    ends("dead, a stop", &dead(Limits { stops: 1, ..NOTHING }));
}
