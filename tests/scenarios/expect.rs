//! Compares what Baton says with what a scenario expects, and shows both where they differ.

use baton::core::analysis::{Act, Analysis, Evidence, analyse};

use crate::{
    notation::{Line, Scenario},
    world,
};

/// The codes a scenario expects.
pub(crate) fn codes(scenario: &Scenario) -> Vec<String> {
    let lines = scenario.lines("expect").iter().filter(|line| !line.nested && line.text != "nothing");
    lines.map(|line| line.text.split_whitespace().next().unwrap().to_owned()).collect()
}

/// Plays the scenario and checks all it expects.
pub(crate) fn check(scenario: &Scenario) -> Result<(), String> {
    assert!(!scenario.lines("expect").is_empty(), "{}: expects not even \"nothing\"", scenario.title);
    let (snapshot, policy) = world::play(scenario);
    analyses(scenario, &analyse(&snapshot, &policy))
}

/// Codes, servers and acts must be the same in the same order; evidence must contain what is told.
fn analyses(scenario: &Scenario, found: &[Analysis]) -> Result<(), String> {
    let lines = scenario.lines("expect");
    let wanted: Vec<&Line> = lines.iter().filter(|line| !line.nested && line.text != "nothing").collect();
    let heads: Vec<_> = found.iter().map(head).collect();
    let same = wanted.len() == heads.len() && wanted.iter().zip(&heads).all(|(want, have)| words(&want.text) == *have);
    if !same {
        return Err(difference(scenario, &wanted, found));
    }
    if let Some(bare) = found.iter().find(|analysis| analysis.evidence.is_empty()) {
        return Err(format!("{}: {} rests on nothing", scenario.title, head(bare)));
    }
    let mut index = 0_usize;
    for line in lines.iter().filter(|line| line.text != "nothing") {
        if !line.nested {
            index += 1;
            continue;
        }
        let (server, words) = line.text.split_once(": ").unwrap_or_else(|| panic!("no evidence: {}", line.text));
        let shows = |seen: &Evidence| seen.server.host() == server && seen.saw.contains(words);
        if !found[index - 1].evidence.iter().any(shows) {
            return Err(difference(scenario, &wanted, found) + &format!("\n  missing evidence: {}", line.text));
        }
    }
    Ok(())
}

fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn head(analysis: &Analysis) -> String {
    let act = match analysis.act {
        Act::Failover => "failover",
        Act::RestartReceivers => "restart-receivers",
        Act::Repair => "repair",
        Act::Nothing => "none",
    };
    let skipped = if analysis.skipped { " skipped" } else { "" };
    format!("{} {} {act}{skipped}", analysis.code.name(), analysis.server.host())
}

fn evidence(analysis: &Analysis) -> Vec<String> {
    analysis.evidence.iter().map(|seen| format!("{}: {}", seen.server.host(), seen.saw)).collect()
}

fn difference(scenario: &Scenario, wanted: &[&Line], found: &[Analysis]) -> String {
    let wanted: Vec<_> = wanted.iter().map(|line| format!("    {}", words(&line.text))).collect();
    let found = found.iter().map(|analysis| {
        let evidence: Vec<_> = evidence(analysis).iter().map(|saw| format!("\n      {saw}")).collect();
        format!("    {}{}", head(analysis), evidence.concat())
    });
    let found: Vec<_> = found.collect();
    format!("{}\n  expected:\n{}\n  found:\n{}", scenario.title, wanted.join("\n"), found.join("\n"))
}
