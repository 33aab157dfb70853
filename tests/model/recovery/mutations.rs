//! The searches find what the rules prevent: each rule that is switched off has a counterexample here.

use baton::core::rules::{Rule, switch_off};
use stateright::{Checker, HasDiscoveries};

use super::{
    NOTHING, Setup, TURN, cut, dead,
    properties::{
        CLAIMS_END, EPOCH_FIRST, EPOCHS_GROW, FENCED, INTENT_FIRST, LATE_IS_HARMLESS, NOTHING_LOST, RELAY_LOGS_KEPT,
        ROUTED_IS_OPEN,
    },
    search,
    world::Limits,
};

/// A rule, the worlds that miss it, and one of the properties that are broken there.
type Case = (Rule, fn() -> Setup, &'static str);

const CASES: &[Case] = &[
    (Rule::IntentFirst, || dead(NOTHING), INTENT_FIRST),
    (Rule::EpochSwap, || dead(Limits { crashes: 1, ..NOTHING }), EPOCHS_GROW),
    (Rule::Quorum, || cut(Limits { writes: 1, ..NOTHING }), FENCED),
    (Rule::Connecting, || dead(Limits { returns: 1, writes: 1, ..NOTHING }), FENCED),
    (Rule::DrainFirst, || cut(Limits { writes: 1, ..NOTHING }), NOTHING_LOST),
    (Rule::DrainBeforeRepoint, || cut(Limits { deaths: 1, writes: 1, ..NOTHING }), RELAY_LOGS_KEPT),
    (Rule::FenceOrder, || cut(Limits { returns: 1, writes: 1, ..NOTHING }), NOTHING_LOST),
    (Rule::ServerDeadline, || dead(Limits { freezes: 1, ..NOTHING }), LATE_IS_HARMLESS),
    (Rule::ClaimEnds, || dead(Limits { stops: 1, ..NOTHING }), CLAIMS_END),
    (Rule::EpochFirst, || dead(NOTHING), EPOCH_FIRST),
    (Rule::RouteLast, || dead(NOTHING), ROUTED_IS_OPEN),
];

#[test]
fn a_rule_that_is_off_is_missed() {
    let _turn = TURN.lock();
    let mut unnoticed = Vec::new();
    for (rule, setup, broken) in CASES {
        switch_off(Some(*rule));
        let checker = search(rule.name(), setup(), HasDiscoveries::AnyOf([*broken].into()));
        // A path is found again by taking its steps.
        let path = checker.discovery(broken);
        switch_off(None);
        match path {
            Some(path) => println!("  {broken}, after {} steps", path.into_actions().len()),
            None => unnoticed.push(rule.name()),
        }
    }
    assert!(unnoticed.is_empty(), "nothing misses {unnoticed:?}");
}
