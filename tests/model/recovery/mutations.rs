//! The searches find what the rules prevent: each rule that is switched off has a counterexample here.

use baton::core::rules::{Rule, switch_off};
use stateright::{Checker, HasDiscoveries};

use super::{NOTHING, Setup, TURN, cut, dead, missed::MISSED, search, world::Limits};

/// A world in which the absence of a rule shows.
fn world(rule: Rule) -> Setup {
    match rule {
        Rule::EpochSwap => dead(Limits { crashes: 1, ..NOTHING }),
        Rule::DrainFirst => cut(Limits { writes: 1, ..NOTHING }),
        Rule::Connecting => dead(Limits { returns: 1, writes: 1, ..NOTHING }),
        Rule::DrainBeforeRepoint => cut(Limits { deaths: 1, writes: 1, ..NOTHING }),
        Rule::FenceOrder => cut(Limits { returns: 1, writes: 1, ..NOTHING }),
        Rule::GiveUpRestores => cut(Limits { returns: 1, ..NOTHING }),
        Rule::ServerDeadline => dead(Limits { freezes: 1, ..NOTHING }),
        Rule::ClaimEnds => dead(Limits { stops: 1, ..NOTHING }),
        _ => dead(NOTHING),
    }
}

#[test]
fn a_rule_that_is_off_is_missed() {
    let _turn = TURN.lock();
    let mut unnoticed = Vec::new();
    for (rule, broken) in MISSED {
        switch_off(Some(*rule));
        let checker = search(rule.name(), world(*rule), HasDiscoveries::AnyOf([*broken].into()));
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
