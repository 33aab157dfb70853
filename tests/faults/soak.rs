//! Noise without cause for a failover, for hours: packets lost and held up, replicas restarted, operators cut
//! off, an API server that comes and goes. Nothing must be failed over, nothing written while it is calm, and
//! the operators' memory must not grow.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, ensure};
use baton::testing::network::Cut;
use tokio::time::{Instant, sleep};

use super::{
    judge::Expect,
    stage::{Setup, Stage},
    writes::differences,
};

/// How long one kind of noise goes on.
const NOISE: Duration = Duration::from_secs(8);
/// Rounds of noise between two calm intervals.
const ROUNDS: u32 = 12;
/// How long things may settle before a calm interval counts.
const SETTLE: Duration = Duration::from_secs(20);
/// How long a calm interval is.
const CALM: Duration = Duration::from_secs(30);
/// Growth of memory that is none: in KiB, and as a part of what there was.
const GROWTH_KIB: u64 = 2048;
const GROWTH_PART: u64 = 10;
/// A process that was sampled so often has lived long enough to tell.
const LONG: usize = 12;

/// Numbers that look random and are the same with every run of a seed.
struct Dice(u64);

impl Dice {
    /// A number from `low` to `high`.
    fn roll(&mut self, low: u64, high: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        low + (self.0 >> 33) % (high - low + 1)
    }

    fn index(&mut self, low: usize, high: usize) -> usize {
        usize::try_from(self.roll(low as u64, high as u64)).unwrap_or_default()
    }
}

/// Memory of each process in KiB over time, by pod and start.
type Memory = BTreeMap<(usize, u32), Vec<u64>>;

fn sample(stage: &Stage, memory: &mut Memory) {
    for pod in &stage.pods {
        let status = pod.proc("status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        if let Some(kib) = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()) {
            memory.entry((pod.number, pod.starts())).or_default().push(kib);
        }
    }
}

async fn noise(stage: &mut Stage, dice: &mut Dice) -> anyhow::Result<&'static str> {
    let until = Instant::now() + NOISE;
    let kind = dice.roll(0, 4);
    match kind {
        0 => {
            for index in 0..stage.topology.servers.len() {
                stage.host(index).lose(u32::try_from(dice.roll(1, 5))?)?;
            }
            sleep(NOISE).await;
            for index in 0..stage.topology.servers.len() {
                stage.host(index).lose(0)?;
            }
        }
        1 => {
            while Instant::now() < until {
                let index = dice.index(0, stage.topology.servers.len() - 1);
                stage.host(index).cut(Cut::Both)?;
                sleep(Duration::from_millis(dice.roll(20, 150))).await;
                stage.host(index).heal()?;
                sleep(Duration::from_millis(dice.roll(300, 800))).await;
            }
        }
        2 => {
            let index = dice.index(1, stage.topology.servers.len() - 1);
            stage.server_mut(index).crash()?;
            sleep(Duration::from_millis(dice.roll(100, 3000))).await;
            stage.server_mut(index).restart().await?;
        }
        3 => {
            let pod = dice.index(0, stage.pods.len() - 1);
            stage.pods[pod].host.cut(Cut::Both)?;
            sleep(Duration::from_millis(dice.roll(1000, 15_000))).await;
            stage.heal()?;
        }
        _ => {
            for pod in &stage.pods {
                pod.host.part(&[stage.outside], Cut::Both)?;
            }
            sleep(Duration::from_millis(dice.roll(200, 3000))).await;
            stage.heal()?;
        }
    }
    Ok(["loss", "pauses of links", "restart of a replica", "operator cut off", "API server away"][kind as usize])
}

/// What the operators write to the API server while nothing happens, besides the Lease.
async fn calm(stage: &mut Stage, memory: &mut Memory) -> anyhow::Result<usize> {
    stage.heal()?;
    stage.ready().await?;
    sleep(SETTLE).await;
    let since = Instant::now();
    let mut seen = stage.status().await?;
    while since.elapsed() < CALM {
        sleep(Duration::from_millis(500)).await;
        let now = stage.status().await?;
        let mut said = Vec::new();
        differences("", &seen, &now, &mut said);
        for one in said {
            println!("  {one}");
        }
        seen = now;
    }
    sample(stage, memory);
    let mut writes = stage.written();
    writes.retain(|one| one.at >= since);
    for one in &writes {
        println!("  written while calm: {:?}", one.call);
    }
    Ok(writes.len())
}

/// Makes noise for so many hours, as `seed` has it, and says what came of it.
pub async fn run(hours: f64, seed: u64) {
    println!("seed {seed}");
    let result = soak(Duration::from_secs_f64(hours * 3600.0), Dice(seed)).await;
    result.unwrap_or_else(|error| panic!("FAILED with seed {seed}: {error:#}"));
}

async fn soak(length: Duration, mut dice: Dice) -> anyhow::Result<()> {
    let mut stage = Stage::new("soak", Setup { rate: 10, ..Setup::default() }).await?;
    let (mut memory, mut kinds) = (Memory::new(), BTreeMap::<&str, u32>::new());
    let (mut calm_writes, mut calms) = (0, 0);
    stage.strike("soak");
    let started = Instant::now();
    while started.elapsed() < length {
        for _ in 0..ROUNDS {
            let kind = noise(&mut stage, &mut dice).await?;
            *kinds.entry(kind).or_default() += 1;
            sample(&stage, &mut memory);
            let records = stage.records().await?;
            let logs = stage.logs();
            ensure!(records.is_empty(), "a needless failover after {kind}: {}; {logs}", records[0]);
        }
        let writes = calm(&mut stage, &mut memory).await?;
        (calm_writes, calms) = (calm_writes + writes, calms + 1);
        println!("{:.0} s: {kinds:?}, {writes} writes while calm", started.elapsed().as_secs_f64());
    }
    let minutes = started.elapsed().as_secs_f64() / 60.0;
    let operators = stage.pods.len();
    let report = stage.judge(Expect { failovers: (0, 0), ..Expect::default() }).await?;
    println!("soak of {minutes:.1} minutes: {kinds:?}");
    println!(
        "needless failovers {}, acknowledged rows {}, lost {}, longest pause of writes {:.0} ms, {calm_writes} API writes in {calms} calm intervals of {} s",
        report.failovers,
        report.acknowledged,
        report.lost,
        report.pause_ms,
        CALM.as_secs()
    );
    let grown = judge_memory(&memory, operators)?;
    ensure!(calm_writes == 0, "{calm_writes} API writes while nothing happened");
    ensure!(grown.is_empty(), "memory grows: {}", grown.join(", "));
    Ok(())
}

/// Operators whose memory grew from the second third to the last one, in each process that lived long enough to
/// tell, and in any case in the one of each operator that lived longest.
fn judge_memory(memory: &Memory, operators: usize) -> anyhow::Result<Vec<String>> {
    let mut grown = Vec::new();
    for number in 0..operators {
        let of = || memory.iter().filter(|((pod, _), _)| *pod == number);
        let longest = of().map(|(_, samples)| samples.len()).max();
        let longest = longest.with_context(|| format!("no memory of operator {number} was sampled"))?;
        for ((_, start), samples) in of().filter(|(_, samples)| samples.len() >= longest.min(LONG)) {
            let third = samples.len() / 3;
            let mean = |part: &[u64]| part.iter().sum::<u64>() / u64::try_from(part.len().max(1)).unwrap_or(1);
            let (first, last) = (mean(&samples[third..2 * third]), mean(&samples[2 * third..]));
            let said = format!(
                "operator {number}, start {start}: {} samples, {first} KiB in the second third, {last} KiB in the last",
                samples.len()
            );
            println!("memory of {said}");
            if third > 0 && last > first + (first / GROWTH_PART).max(GROWTH_KIB) {
                grown.push(said);
            }
        }
    }
    Ok(grown)
}

#[test]
fn memory_that_grows_is_seen_in_every_operator() {
    let flat = vec![40_000; 30];
    let grows: Vec<u64> = (0..30).map(|sample| 40_000 + 1000 * sample).collect();
    let memory =
        |second: &Vec<u64>| Memory::from([((0, 1), flat.clone()), ((1, 3), second.clone()), ((1, 4), vec![1])]);
    assert!(judge_memory(&memory(&flat), 2).unwrap().is_empty());
    assert_eq!(judge_memory(&memory(&grows), 2).unwrap().len(), 1);
    assert!(judge_memory(&memory(&flat), 3).is_err(), "one was never sampled");
}

#[test]
fn a_seed_is_a_course_of_its_own() {
    let rolls = |seed| {
        let mut dice = Dice(seed);
        (0..20).map(|_| dice.roll(0, 4)).collect::<Vec<_>>()
    };
    assert_eq!(rolls(7), rolls(7));
    assert_ne!(rolls(7), rolls(8));
}
