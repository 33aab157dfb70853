//! One run: a seed, from the first look to the end, and what came of it.

use std::sync::Arc;

use baton::core::recovery::Phase;
use tokio::runtime::Builder;

use super::{
    check,
    operator::operate,
    scenario::Scenario,
    sim::{START_MS, Sim, pause},
};

/// Longest time after the last fault until clients can write, in milliseconds: recoveries that came to
/// nothing are tried again after 30 s.
const LIVE_MS: u64 = 100_000;
/// An explanation that holds for this long will not change any more, in milliseconds.
const EXPLAINED_MS: u64 = 40_000;
/// Longest time until all servers are the same, in milliseconds.
const CONVERGE_MS: u64 = 60_000;
/// Time in which an idle cluster must not write, in milliseconds.
const IDLE_MS: u64 = 1200;
/// What is due at a server is tried again within this time, in milliseconds.
const DUTY_MS: u64 = 4000;
/// Pause between two looks at what has become of the run, in milliseconds.
const POLL_MS: u64 = 100;
/// Polls between two rounds of a person.
const TEND_POLLS: u64 = 30;

#[derive(Debug, Default)]
pub struct Outcome {
    pub failure: Option<String>,
    pub failovers: usize,
    pub reopened: usize,
    pub given_up: usize,
    pub acknowledged: u64,
    /// Writes without an answer that were found later, and that were not.
    pub unanswered: (u64, u64),
    /// Why nobody could write in the end, if nobody could.
    pub why_not: Option<String>,
    pub simulated_ms: u64,
    pub log: Vec<String>,
}

/// Runs `seed`; with a log when it is to be read.
pub fn run(seed: u64, log: bool) -> Outcome {
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let Scenario { operators, policy, state } = Scenario::draw(seed, log);
        let sim = Sim::new(state);
        tokio::spawn(Arc::clone(&sim).pass_time());
        for operator in 0..operators {
            tokio::spawn(operate(Arc::clone(&sim), operator, policy.clone()));
        }
        let why_not = observe(&sim).await;
        outcome(&sim, why_not)
    })
}

fn outcome(sim: &Sim, why_not: Option<String>) -> Outcome {
    let mut outcome = sim.with(|state| {
        let records = || state.api.records.values().filter_map(|stored| stored.status.as_ref());
        Outcome {
            failure: state.fleet.broken.clone(),
            failovers: records().filter(|it| it.phase.promoted() && !it.cause.reopens()).count(),
            reopened: records().filter(|it| it.phase.promoted() && it.cause.reopens()).count(),
            given_up: records().filter(|it| matches!(it.phase, Phase::Failed | Phase::Refused)).count(),
            acknowledged: state.fleet.count_told,
            unanswered: state.fleet.unanswered.count(),
            why_not,
            simulated_ms: state.fleet.now - START_MS,
            log: Vec::new(),
        }
    });
    outcome.log = sim.log();
    outcome
}

/// Watches the run to its end; the reason why nobody can write, if that is how it ends.
async fn observe(sim: &Sim) -> Option<String> {
    let healed = until(sim, u64::MAX, |state| state.healed.then_some(state.fleet.now)).await?;
    let mut explained: Option<(String, u64)> = None;
    let ended = until(sim, healed + LIVE_MS, |state| {
        let now = state.fleet.now;
        if ((now - healed) / POLL_MS).is_multiple_of(TEND_POLLS) {
            state.tend();
        }
        // What a person asked for may come late, and make another one.
        let asked = state.api.asked();
        if let Some(primary) = check::writable(state, healed).filter(|_| !asked) {
            return Some(Ok(primary));
        }
        let why = check::why_not(state);
        let (why, since) = match (explained.take(), why) {
            (Some((before, since)), Some(why)) if before == why => (why, since),
            (_, Some(why)) => (why, now),
            (_, None) => return None,
        };
        explained = Some((why.clone(), since));
        (now >= since + EXPLAINED_MS).then_some(Err(why))
    })
    .await;
    match ended {
        Some(Ok(primary)) => end(sim, primary).await,
        Some(Err(why)) => {
            let ends_well = |state: &mut super::sim::State| state.ends_well;
            if sim.with(ends_well) {
                sim.with(|state| state.fleet.fail(|| format!("I6: everybody is back, and nobody can write: {why}")));
            }
            return Some(why);
        }
        None => sim.with(|state| match explained {
            Some(_) => {}
            None => state.fleet.fail(|| "I6: nobody can write, and nobody says why".to_owned()),
        }),
    }
    explained.map(|(why, _)| why).filter(|_| ended.is_none())
}

/// Clients rest, servers become the same, nothing is written any more.
async fn end(sim: &Sim, primary: usize) {
    sim.with(|state| state.writers_rest = true);
    let since = sim.now();
    let deadline = since + CONVERGE_MS;
    let same = until(sim, deadline, |state| {
        if ((state.fleet.now - since) / POLL_MS).is_multiple_of(TEND_POLLS) {
            state.tend();
        }
        let there = check::shown(state).is_some() && check::apart(state, primary).is_none();
        (there && !state.api.asked() && state.fleet.servers[primary].waiting.is_empty()).then_some(())
    })
    .await;
    sim.with(|state| {
        if same.is_none() {
            let apart = check::apart(state, primary).unwrap_or_else(|| "I6: nobody leads, or commits wait".to_owned());
            state.fleet.fail(|| apart);
        }
        check::finally(state, primary);
    });
    settle(sim, primary).await;
    pause(IDLE_MS).await;
    let before = sim.with(|state| state.api.writes);
    pause(IDLE_MS).await;
    sim.with(|state| {
        let written = state.api.writes - before;
        if written > 0 && state.api.unfinished().is_none() {
            state.fleet.fail(|| format!("I12: {written} writes of an idle cluster"));
        }
    });
}

/// Whoever came back last is made a replica, which may be tried again, and is written down as an acker.
async fn settle(sim: &Sim, primary: usize) {
    let (mut before, mut since) = (None, sim.now());
    let settled = until(sim, sim.now() + CONVERGE_MS, |state| {
        let same = check::all_same(state, primary);
        let seen = Some((state.api.members.clone(), same));
        if before != seen {
            (before, since) = (seen, state.fleet.now);
        }
        (state.fleet.now >= since + if same { IDLE_MS } else { DUTY_MS }).then_some(())
    });
    settled.await;
}

/// Waits for something; `None` when a rule is broken or it is too late.
async fn until<R>(
    sim: &Sim,
    deadline: u64,
    mut condition: impl FnMut(&mut super::sim::State) -> Option<R>,
) -> Option<R> {
    loop {
        let panicked = sim.panicked();
        let (broken, found) = sim.with(|state| {
            if panicked {
                state.fleet.fail(|| "the simulation panicked".to_owned());
            }
            (state.fleet.broken.is_some(), condition(state))
        });
        if broken || found.is_some() {
            return found.filter(|_| !broken);
        }
        if sim.now() >= deadline {
            return None;
        }
        pause(POLL_MS).await;
    }
}
