//! Scenarios: how they are named, chosen, run and reported.

use std::{collections::BTreeMap, panic::AssertUnwindSafe, time::Duration};

use anyhow::bail;
use baton::testing::statistics::Sample;
use futures::{FutureExt, future::LocalBoxFuture};
use tokio::time::{Instant, timeout};

use super::{judge::Report, writes::Writes};

type Run = Box<dyn Fn(String) -> LocalBoxFuture<'static, anyhow::Result<Report>>>;

/// One scenario.
pub struct Scenario {
    /// Number of the fault in the list of faults, and a word when there are several of it.
    pub name: String,
    /// What is expected, in one line.
    pub expects: String,
    budget: Duration,
    run: Run,
}

/// A scenario; it may take `budget_s` seconds from the start of its servers to the judge's word, twice that beside others.
pub fn scenario<F>(name: &str, budget_s: u64, expects: &str, run: impl Fn(String) -> F + 'static) -> Scenario
where
    F: Future<Output = anyhow::Result<Report>> + 'static,
{
    Scenario {
        name: name.to_owned(),
        expects: expects.to_owned(),
        budget: Duration::from_secs(2 * budget_s),
        run: Box::new(move |name| Box::pin(run(name))),
    }
}

/// Whether `wanted`, a list with commas, names the scenario; an empty one names all.
pub fn wants(wanted: &str, name: &str) -> bool {
    let mut words = wanted.split(',').map(str::trim).filter(|word| !word.is_empty()).peekable();
    words.peek().is_none() || words.any(|word| name == word || name.split('-').next() == Some(word))
}

/// Runs those that are `wanted` one after the other, each so many `times`, prints what came of them, and fails when
/// one failed.
pub async fn run(all: Vec<Scenario>, wanted: impl Fn(&str) -> bool, times: usize) {
    let chosen: Vec<_> = all.into_iter().filter(|scenario| wanted(&scenario.name)).collect();
    assert!(!chosen.is_empty(), "no scenario is named so");
    let mut pauses: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    println!(
        "\n| scenario | verdict | longest pause of writes ms | rows acknowledged | lost | failovers | API writes+after the return+Events | took s, at most | expectation |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    let mut failed = Vec::new();
    for (scenario, round) in chosen.iter().flat_map(|scenario| (1..=times).map(move |round| (scenario, round))) {
        let started = Instant::now();
        let result = tried(scenario, round).await;
        let took = format!("{:.1}, {}", started.elapsed().as_secs_f64(), scenario.budget.as_secs());
        match result {
            Ok(Report { pause_ms, acknowledged, lost, failovers, writes, slow, note }) => {
                let note = if note.is_empty() { note } else { format!(" ({note})") };
                let verdict = if slow { "held, slow" } else { "held" };
                let Scenario { name, expects, .. } = scenario;
                pauses.entry(name).or_default().push(pause_ms);
                let Writes { failover, after, events } = writes;
                println!(
                    "| {name} | {verdict} | {pause_ms:.0} | {acknowledged} | {lost} | {failovers} | {failover}+{after}+{events} | {took} | {expects}{note} |"
                );
            }
            Err(error) => {
                println!("| {} | FAILED: {error:#} | | | | | | {took} | {} |", scenario.name, scenario.expects);
                failed.push(scenario.name.as_str());
            }
        }
    }
    for (name, pauses) in pauses.into_iter().filter(|(_, pauses)| pauses.len() > 1) {
        let Sample { count, median, p99, max, .. } = Sample::of(pauses).unwrap();
        println!(
            "\n{name}: longest pause of writes in {count} runs: p50 {median:.0} ms, p99 {p99:.0} ms, most {max:.0} ms"
        );
    }
    println!("\n{} of {} held", chosen.len() * times - failed.len(), chosen.len() * times);
    assert!(failed.is_empty(), "failed: {}", failed.join(", "));
}

async fn tried(scenario: &Scenario, round: usize) -> anyhow::Result<Report> {
    let name = if round == 1 { scenario.name.clone() } else { format!("{}-{round}", scenario.name) };
    let run = (scenario.run)(name);
    match timeout(scenario.budget, AssertUnwindSafe(run).catch_unwind()).await {
        Ok(Ok(ended)) => ended,
        Ok(Err(panic)) => bail!("it panicked: {:?}", panic.downcast_ref::<String>()),
        Err(_) => bail!("not finished within {} s", scenario.budget.as_secs()),
    }
}

#[test]
fn scenarios_are_chosen_by_name_or_by_number() {
    assert!(wants("", "F01") && wants("F01", "F01") && wants("F03, F01", "F01-idle"));
    assert!(wants("F01-idle", "F01-idle") && !wants("F01-idle", "F01") && !wants("F0", "F01"));
}
