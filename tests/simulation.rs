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

use world::{
    run::{self, run},
    scenario::{AIMED_FROM, JOBS_FROM, KEPT_FROM, MORE_FROM},
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
    for first in [1, MORE_FROM, AIMED_FROM, JOBS_FROM, KEPT_FROM] {
        let swept = sweep::sweep(first..=first + SEEDS / 2, 2);
        let failed = swept.failures.first().map(|(seed, _)| told(*seed));
        assert!(failed.is_none(), "{}", failed.unwrap_or_default());
        assert!(swept.failovers * 5 > usize::try_from(SEEDS).unwrap(), "the runs are empty: {swept}");
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
