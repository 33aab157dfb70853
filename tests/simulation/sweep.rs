//! Many seeds on all cores, and what they came to.

use std::{
    collections::BTreeMap,
    fmt,
    ops::RangeInclusive,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use super::run::{Outcome, run};

/// Failures that are listed.
const FAILURES_SHOWN: usize = 50;
/// Progress is told after so many seeds.
const TOLD_EACH: u64 = 1000;
/// After so many failures the rest is not tried.
const FAILURES_MAX: usize = 500;

#[derive(Debug, Default)]
pub struct Swept {
    pub seeds: u64,
    pub failures: Vec<(u64, String)>,
    pub failovers: usize,
    reopened: usize,
    given_up: usize,
    acknowledged: u64,
    pub unanswered: (u64, u64),
    without_failover: u64,
    /// Reasons with how many seeds ended with them, and one of those.
    why_not: BTreeMap<String, (u64, u64)>,
    simulated_ms: u64,
    took: Duration,
}

impl Swept {
    fn add(&mut self, seed: u64, outcome: Outcome) {
        self.seeds += 1;
        if let Some(failure) = outcome.failure {
            println!("FAILED seed {seed}: {failure}");
            self.failures.push((seed, failure));
        }
        if self.seeds.is_multiple_of(TOLD_EACH) {
            println!("{} seeds, {} failed", self.seeds, self.failures.len());
        }
        self.failovers += outcome.failovers;
        self.without_failover += u64::from(outcome.failovers == 0);
        self.reopened += outcome.reopened;
        self.given_up += outcome.given_up;
        self.acknowledged += outcome.acknowledged;
        let (found, missed) = outcome.unanswered;
        self.unanswered = (self.unanswered.0 + found, self.unanswered.1 + missed);
        self.simulated_ms += outcome.simulated_ms;
        if let Some(why_not) = outcome.why_not {
            self.why_not.entry(why_not).or_insert((0, seed)).0 += 1;
        }
    }
}

pub fn sweep(seeds: RangeInclusive<u64>, threads: usize) -> Swept {
    let (next, last) = (AtomicU64::new(*seeds.start()), *seeds.end());
    let swept = Mutex::new(Swept::default());
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed > last || swept.lock().unwrap().failures.len() >= FAILURES_MAX {
                        return;
                    }
                    // A panic in a run is a failure of its seed.
                    let outcome = std::panic::catch_unwind(|| run(seed, false))
                        .unwrap_or_else(|_| Outcome { failure: Some("panicked".to_owned()), ..Outcome::default() });
                    swept.lock().unwrap().add(seed, outcome);
                }
            });
        }
    });
    let mut swept = swept.into_inner().unwrap();
    swept.took = began.elapsed();
    swept.failures.sort();
    swept
}

impl fmt::Display for Swept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.took.as_secs_f64();
        writeln!(
            f,
            "{} seeds in {seconds:.1} s: {:.1} seeds/s, {:.0} simulated seconds each",
            self.seeds,
            self.seeds as f64 / seconds,
            self.simulated_ms as f64 / 1000.0 / self.seeds.max(1) as f64
        )?;
        writeln!(
            f,
            "{} failovers, {} primaries opened again, {} recoveries given up, {} seeds without a failover, {} acknowledged \
             writes",
            self.failovers, self.reopened, self.given_up, self.without_failover, self.acknowledged
        )?;
        let (found, missed) = self.unanswered;
        writeln!(f, "{} writes without an answer, {found} found later", found + missed)?;
        for (why, (count, seed)) in &self.why_not {
            writeln!(f, "{count} seeds end without a writable primary, as seed {seed} does: {why}")?;
        }
        for (seed, failure) in self.failures.iter().take(FAILURES_SHOWN) {
            writeln!(f, "FAILED seed {seed}: {failure}")?;
        }
        write!(f, "{} seeds failed", self.failures.len())
    }
}
