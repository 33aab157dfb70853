//! The whole operator over a simulated fleet and API server: the real election, the real task of a
//! cluster, everything else made of a seed. One seed is one run, to the event; the invariants of
//! docs/safety.md are checked after every event and in the end.
//!
//! A seed that fails prints its whole log. `BATON_SEED=n` runs that seed alone and prints it in any case:
//! `BATON_SEED=42 cargo test --features testing --test simulation one -- --nocapture`.
//! Every seed that ever found a fault is kept in `simulation/seeds.txt`.
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

#[path = "simulation/world.rs"]
mod world;

use baton::core::gtid::GtidSet;
use world::{
    run::{self, run},
    scenario::{AIMED_FROM, ERRORS_FROM, JOBS_FROM, KEPT_FROM, MORE_FROM, Scenario},
    sim::State,
    sweep,
};

/// Seeds that every test run tries, besides the kept ones.
const SEEDS: u64 = 60;

/// A failing seed with everything that happened in it.
fn told(seed: u64) -> String {
    let again = run(seed, true);
    let failure =
        again.failure.unwrap_or_else(|| "it passes when it is run again: the run is not deterministic".into());
    format!("{}\nseed {seed}: {failure}", again.log.join("\n"))
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text:?}")))
}

#[test]
fn seeds_that_once_failed_pass() {
    let kept = include_str!("simulation/seeds.txt").lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    for line in kept {
        let seed = line.split_whitespace().next().unwrap().parse().unwrap();
        assert!(run(seed, false).failure.is_none(), "{}", told(seed));
    }
}

#[test]
fn some_seeds_pass() {
    let mut unanswered = 0;
    for first in [1, MORE_FROM, AIMED_FROM, JOBS_FROM, KEPT_FROM, ERRORS_FROM] {
        let swept = sweep::sweep(first..=first + SEEDS / 2, 2);
        unanswered += swept.unanswered.0 + swept.unanswered.1;
        let failed = swept.failures.first().map(|(seed, _)| told(*seed));
        assert!(failed.is_none(), "{}", failed.unwrap_or_default());
        assert!(swept.failovers * 5 > usize::try_from(SEEDS).unwrap(), "the runs are empty: {swept}");
    }
    assert!(unanswered > 0, "no client was left without an answer");
}

/// A cluster whose primary has a write that waits for an acknowledgement when it is killed, and starts again.
fn with_an_unanswered_write() -> State {
    let mut state = Scenario::draw(3, false).state;
    let fleet = &mut state.fleet;
    let primary = &mut fleet.servers[0];
    (primary.config.boots_fenced, primary.source_side, primary.wait_count) = (true, true, 1);
    (0..fleet.servers.len()).for_each(|replica| fleet.stop_receiver(replica));
    assert!(fleet.write(0) && fleet.acknowledged.is_empty());
    fleet.kill(0);
    fleet.boot(0, false);
    let primary = &mut fleet.servers[0];
    (primary.read_only, primary.super_read_only) = (false, false);
    state
}

/// I2: a write that was found and is gone later, and one that was not there and is later.
#[test]
fn a_write_that_turns_out_both_ways_is_noticed() {
    for found_first in [true, false] {
        let mut state = with_an_unanswered_write();
        let (with, without) = (state.fleet.servers[0].executed.clone(), GtidSet::default());
        assert_eq!(with.count(), 1);
        let (first, second) = if found_first { (with, without) } else { (without, with) };
        for set in [first.clone(), first, second] {
            assert_eq!(state.fleet.broken, None);
            state.fleet.servers[0].executed = set;
            state.look_for_unanswered();
        }
        assert!(state.fleet.broken.is_some_and(|broken| broken.starts_with("I2")));
    }
}

#[test]
fn a_seed_is_a_run() {
    let (first, second) = (run(3, true), run(3, true));
    assert!(first.log.len() > 100, "{}", first.log.len());
    assert_eq!(first.log, second.log);
}

/// The seed of `BATON_SEED` with its log.
#[test]
fn one() {
    let Some(seed) = number("BATON_SEED") else { return };
    let outcome = run(seed, true);
    println!("{}", outcome.log.join("\n"));
    println!("seed {seed}: {outcome:?}", outcome = run::Outcome { log: Vec::new(), ..outcome });
}

/// `BATON_SEEDS` seeds from `BATON_FIRST_SEED` on, on `BATON_JOBS` cores, by `make simulate`.
#[test]
#[ignore = "dev/simulate.sh runs it, optimised"]
fn many() {
    let (first, count) = (number("BATON_FIRST_SEED").unwrap_or(1), number("BATON_SEEDS").unwrap_or(1000));
    let jobs = number("BATON_JOBS").and_then(|jobs| usize::try_from(jobs).ok());
    let threads = jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(2, usize::from));
    let swept = sweep::sweep(first..=first + count - 1, threads);
    println!("{swept}");
    assert!(swept.failures.is_empty(), "{}", told(swept.failures[0].0));
}
