//! Real faults: real MySQL servers and operators, each in a network namespace of its own, a real API server
//! behind a proxy that misbehaves, writers that remember what they were told, and a judge in the end.
//!
//! `make test-faults` runs all of them, `make test-faults FAULTS=F01,F05` some; `make test` runs a few.
//! Each prints a line: what was seen, for docs/reliability.md.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]
#![allow(missing_docs, unreachable_pub, clippy::print_stdout, clippy::print_stderr, reason = "a test that reports")]

#[path = "faults/ackers.rs"]
mod ackers;
#[path = "faults/api.rs"]
mod api;
#[path = "faults/chains.rs"]
mod chains;
#[path = "faults/clocks.rs"]
mod clocks;
#[path = "faults/crashes.rs"]
mod crashes;
#[path = "faults/disks.rs"]
mod disks;
#[path = "faults/explained.rs"]
mod explained;
#[path = "faults/forced.rs"]
mod forced;
#[path = "faults/judge.rs"]
mod judge;
#[path = "faults/kept.rs"]
mod kept;
#[path = "faults/long.rs"]
mod long;
#[path = "faults/network.rs"]
mod network;
#[path = "faults/operators.rs"]
mod operators;
#[path = "faults/pod.rs"]
mod pod;
#[path = "faults/points.rs"]
mod points;
#[path = "faults/primary.rs"]
mod primary;
#[path = "faults/replicas.rs"]
mod replicas;
#[path = "faults/scenario.rs"]
mod scenario;
#[path = "faults/sessions.rs"]
mod sessions;
#[path = "faults/soak.rs"]
mod soak;
#[path = "faults/stage.rs"]
mod stage;
#[path = "faults/stalls.rs"]
mod stalls;
#[path = "faults/tls.rs"]
mod tls;
#[path = "faults/waits.rs"]
mod waits;
#[path = "faults/writes.rs"]
mod writes;

use scenario::Scenario;

/// Scenarios of `make test`: each kind of fault once.
const FEW: [&str; 5] = ["F01", "F03", "F05", "F07", "F31-after-Claim"];

fn all() -> Vec<Scenario> {
    let all = [
        primary::scenarios(),
        network::scenarios(),
        ackers::scenarios(),
        kept::scenarios(),
        stalls::scenarios(),
        disks::scenarios(),
        replicas::scenarios(),
        chains::scenarios(),
        crashes::scenarios(),
        operators::scenarios(),
        clocks::scenarios(),
        api::scenarios(),
        sessions::scenarios(),
        long::scenarios(),
        tls::scenarios(),
        forced::scenarios(),
    ];
    let mut all: Vec<_> = all.into_iter().flatten().collect();
    let number = |scenario: &Scenario| scenario.name.split('-').next().unwrap_or_default().to_owned();
    all.sort_by_key(number);
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn a_few_faults_are_survived() {
    scenario::run(all(), |name| FEW.contains(&name), 1).await;
}

/// Takes minutes: `BATON_FAULTS` names some of them, by name or by the part before the dash, `BATON_TIMES` says how
/// often each is played.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: make test-faults"]
async fn every_fault_is_survived() {
    let wanted = std::env::var("BATON_FAULTS").unwrap_or_default();
    let times = std::env::var("BATON_TIMES").ok().map_or(1, |times| times.parse().expect("BATON_TIMES is a number"));
    scenario::run(all(), |name| scenario::wants(&wanted, name), times).await;
}

/// Takes hours: `BATON_SOAK_HOURS`. `BATON_SEED` says which noise comes when.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes hours: make soak"]
async fn noise_causes_no_failover() {
    let number = |name: &str| std::env::var(name).unwrap_or_default();
    let hours = number("BATON_SOAK_HOURS").parse().expect("BATON_SOAK_HOURS is a number");
    soak::run(hours, number("BATON_SEED").parse().expect("BATON_SEED is a number")).await;
}
