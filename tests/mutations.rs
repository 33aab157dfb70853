//! The tests of the tests: each safety rule of `src/core/rules.rs` is switched off in turn, and seeds of the
//! simulation are run until one breaks an invariant. A rule that nothing misses is a hole in the simulation
//! or no rule. `make mutations` runs this and writes docs/safety-rules.md.
//!
//! `BATON_RULE=Quorum` tries one rule alone, `BATON_SEEDS=n` at most so many seeds for each; with
//! `BATON_SEED=n` that seed is shown with that rule off.
#![allow(
    missing_docs,
    unreachable_pub,
    dead_code,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

#[path = "mutations/cases.rs"]
mod cases;
#[path = "mutations/gap.rs"]
mod gap;
#[path = "model/recovery/missed.rs"]
mod missed;
#[path = "mutations/routed.rs"]
mod routed;
#[path = "engine/task.rs"]
mod task;
#[path = "simulation/world.rs"]
mod world;

use std::{fmt::Write, fs, path::Path, time::Instant};

use baton::core::rules::{Rule, switch_off};
use world::{
    aimed::AIMS,
    run::run,
    scenario::{AIMED_FROM, MORE_FROM},
};

/// Seeds that are tried for each rule, unless it is said otherwise.
const SEEDS: usize = 3000;
/// How often each aim is tried.
const ROUNDS: u64 = 12;
/// Characters of an invariant's words that are told.
const WORDS: usize = 90;

/// Rules that no seed misses: others stand behind them.
const COVERED: &[(Rule, &str)] = &[
    (
        Rule::ServerDeadline,
        "no seed: `ClaimEnds` and `Validity` stand before it; `tests/mysql/reign.rs` and `tests/contract` on real servers",
    ),
    (Rule::GiveUpRestores, "no seed: housekeeping stands behind it"),
    (Rule::ClaimEnds, "no seed: `ServerDeadline` stands behind it; `tests/mysql/reign.rs` on real servers"),
];

/// A rule, the name of a case, and whether it tells that the rule holds.
type Case = (Rule, &'static str, fn() -> bool);

/// Rules that are shown by a case of their own.
const CASES: &[Case] = &[
    (Rule::GapVoids, "gap::a_death_that_only_a_gap_made_long", gap::a_death_that_only_a_gap_made_long),
    (Rule::WithdrawFirst, "routed::a_route_that_cannot_be_withdrawn", routed::a_route_that_cannot_be_withdrawn),
    (Rule::Incomparable, "cases::two_sets_that_each_have_something", cases::two_sets_that_each_have_something),
    (Rule::LooksTwice, "cases::one_failed_look", cases::one_failed_look),
    (Rule::ReceivedCounts, "cases::what_was_only_received", cases::what_was_only_received),
    (Rule::LargestWins, "cases::a_preferred_server_that_is_behind", cases::a_preferred_server_that_is_behind),
    (Rule::ClaimValidity, "cases::a_renewal_that_took_long", cases::a_renewal_that_took_long),
    (Rule::ClaimExpires, "cases::a_claim_that_is_alive", cases::a_claim_that_is_alive),
    (Rule::FailoverBudget, "cases::one_failover_after_the_other", cases::one_failover_after_the_other),
    (Rule::ReopenProof, "cases::a_closed_primary_that_lacks_something", cases::a_closed_primary_that_lacks_something),
    (Rule::SavedFirst, "cases::a_rebuild_before_the_export", cases::a_rebuild_before_the_export),
    (Rule::EmptyIsReset, "cases::a_server_without_transactions", cases::a_server_without_transactions),
];

/// What noticed that a rule was off.
struct Caught {
    seed: u64,
    tried: usize,
    words: String,
}

/// Seeds in the order in which they are tried: those that once failed, some that are aimed, then new ones.
fn seeds() -> impl Iterator<Item = u64> {
    let kept = include_str!("simulation/seeds.txt").lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let kept: Vec<u64> = kept.map(|line| line.split_whitespace().next().unwrap().parse().unwrap()).collect();
    let aimed = AIMED_FROM..AIMED_FROM + AIMS * ROUNDS;
    kept.into_iter().chain(aimed).chain((1..).flat_map(|number| [MORE_FROM + number, number]))
}

/// The first words of a broken rule, without what differs from seed to seed.
fn words(failure: &str) -> String {
    let plain = failure.replace("-0000-0000-0000-000000000000", "").replace('|', "/");
    plain.chars().take(WORDS).collect()
}

fn failure(seed: u64) -> Option<String> {
    let outcome = std::panic::catch_unwind(|| run(seed, false).failure);
    outcome.unwrap_or_else(|_| Some("a panic".to_owned()))
}

/// The first seed that fails with the rule off, and not with it on.
fn search(rule: Rule, most: usize) -> Option<Caught> {
    seeds().take(most).enumerate().find_map(|(tried, seed)| {
        switch_off(Some(rule));
        let found = failure(seed);
        switch_off(None);
        let words = words(&found.filter(|_| failure(seed).is_none())?);
        Some(Caught { seed, tried: tried + 1, words })
    })
}

/// Whether a case tells that its rule is off.
fn noticed(rule: Rule, holds: fn() -> bool) -> bool {
    assert!(holds(), "{}: the case fails with all rules on", rule.name());
    switch_off(Some(rule));
    let held = holds();
    switch_off(None);
    !held
}

/// The seed of `BATON_SEED` with its log, the rule of `BATON_RULE` off.
fn one(rule: &str, seed: u64) {
    switch_off(Rule::ALL.iter().copied().find(|known| known.name() == rule));
    let outcome = run(seed, true);
    println!("{}\n{:?}", outcome.log.join("\n"), outcome.failure);
    switch_off(None);
}

#[test]
fn every_rule_is_missed_when_it_is_off() {
    let wanted = std::env::var("BATON_RULE").ok();
    if let (Some(rule), Ok(seed)) = (&wanted, std::env::var("BATON_SEED")) {
        return one(rule, seed.parse().unwrap());
    }
    let most = std::env::var("BATON_SEEDS").map_or(SEEDS, |text| text.parse().unwrap());
    let (mut page, mut unnoticed) = (String::from(HEAD), Vec::new());
    for rule in Rule::ALL.iter().copied().filter(|rule| wanted.as_deref().is_none_or(|name| name == rule.name())) {
        let (name, began) = (rule.name(), Instant::now());
        let covered = COVERED.iter().find(|(covered, _)| *covered == rule).map(|(_, why)| *why);
        let case = CASES.iter().find(|(of, ..)| *of == rule);
        let case = case.filter(|(_, _, holds)| noticed(rule, *holds)).map(|(_, name, _)| format!("`{name}`"));
        let told = case.or_else(|| {
            let caught = search(rule, covered.map_or(most, |_| most / 10));
            caught.map(|Caught { seed, tried, words }| format!("{words} (seed {seed}, after {tried})"))
        });
        let model = missed::MISSED.iter().find(|(missed, _)| *missed == rule);
        let model = model.map(|(_, broken)| format!("`tests/model`: {broken}"));
        let told: Vec<_> = told.or(covered.map(str::to_owned)).into_iter().chain(model).collect();
        if told.is_empty() {
            unnoticed.push(name);
        }
        let told = told.join("; ");
        println!("{name}: {told}; {:.1} s", began.elapsed().as_secs_f64());
        let (number, place, about) = (rule.number(), rule.place(), rule.about());
        writeln!(page, "| {name} | {number} | `{place}` | {about} | {told} |").unwrap();
    }
    if std::env::var_os("BATON_BLESS").is_some() && wanted.is_none() {
        fs::write(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/safety-rules.md"), page).unwrap();
    }
    assert!(unnoticed.is_empty(), "nothing notices that these are off: {unnoticed:?}");
}

const HEAD: &str = "\
# Safety rules, and what notices when one is missing

Generated by `make mutations`: with each rule switched off in turn (`src/core/rules.rs`, in tests alone), seeds of the
simulation are run until one breaks an invariant of [safety.md](safety.md): first those that once failed
(`tests/simulation/seeds.txt`), then some that are aimed (`tests/simulation/aimed.rs`), then others. The number tells after how many.
Others have a case of their own (`tests/mutations/`), and some are missed by a complete search of all orders of events
(`tests/model`), which tells what is broken then.

| rule | safety.md | kept by | says | missed by |
| --- | --- | --- | --- | --- |
";
