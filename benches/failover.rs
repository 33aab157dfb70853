//! How long nobody can write when a primary dies, as writers see it: real servers, a real API server,
//! the real operator. Prints one row per case for docs/performance.md and keeps every run as JSON.
//!
//! Runs where `KUBECONFIG` leads, in the network namespace it is started in:
//! `dev/kubernetes/up.sh --control-plane`, then
//! `dev/kubernetes/enter.sh cargo bench --features testing --bench failover -- --server 9.7`. Writers that are
//! not optimised would take the processor from the servers.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use baton::testing::{
    folder::Folder,
    kubernetes::{Kubernetes, Operator, condition},
    process::Signal,
    series::Series,
    statistics::Sample,
    topology::{Options, Place, Topology},
    trial::{Fault, Report, Trial},
    writers::Config,
};
use clap::{Parser, ValueEnum};
use kube::core::DynamicObject;
use serde::Serialize;
use serde_json::{Value, json};

/// Namespace of the objects.
const NAMESPACE: &str = "baton-bench";
/// How long the operator may take from the new object to `FailoverReady`.
const READY_DEADLINE: Duration = Duration::from_secs(60);
/// How long writes may be away before a run counts as failed.
const WRITABLE_DEADLINE: Duration = Duration::from_secs(60);
/// How long an operator that stands by gets to look at what there is.
const WARM: Duration = Duration::from_secs(3);
/// After how long without writes the operator's view of the cluster is printed.
const LATE: Duration = Duration::from_secs(10);
/// How long the rest of the failover may take after that.
const COMPLETE_DEADLINE: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Tier {
    Fast,
    Standard,
    Relaxed,
}

#[derive(Debug, Parser)]
struct Cli {
    /// Which servers: 5.6, 9.7.
    #[arg(long, default_value = "9.7")]
    server: Series,
    /// What happens to the primary: kill, stop, cut; several with commas.
    #[arg(long, value_delimiter = ',', default_value = "kill")]
    case: Vec<Fault>,
    /// Detection tier of the cluster.
    #[arg(long, value_enum, default_value = "fast")]
    tier: Tier,
    /// Lets the operator set heartbeats and timeouts on the replicas.
    #[arg(long)]
    enforce: bool,
    /// Semi-sync, lossless, one acknowledgement (9.7 only).
    #[arg(long)]
    semi_sync: bool,
    /// The operator that leads is killed with the primary; another one takes over.
    #[arg(long)]
    with_leader: bool,
    /// Starts a killed primary again afterwards and measures how long it takes until it is a replica.
    #[arg(long)]
    rejoin: bool,
    /// How often.
    #[arg(long, default_value_t = 20)]
    runs: u32,
    /// Writers.
    #[arg(long, default_value_t = 8)]
    writers: u32,
    /// Rows per second and writer; 0 for as many as possible.
    #[arg(long, default_value_t = 50)]
    rate: u32,
    /// The operator.
    #[arg(long, default_value = "target/release/baton")]
    operator: PathBuf,
    /// Arguments of the operator.
    #[arg(long, default_value = "operator", value_delimiter = ' ')]
    operator_args: Vec<String>,
    /// Given by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

/// The operator that leads and, where it is to die, the one that takes over.
#[derive(Debug)]
struct Operators {
    program: PathBuf,
    args: Vec<String>,
    folder: PathBuf,
    started: u16,
    leader: Operator,
    standby: Option<Operator>,
}

impl Operators {
    fn start(program: PathBuf, cli: &Cli, folder: &Path) -> anyhow::Result<Self> {
        let folder = folder.to_owned();
        let leader = operator(&program, &cli.operator_args, &folder, 0)?;
        Ok(Self { program, args: cli.operator_args.clone(), folder, started: 1, leader, standby: None })
    }

    /// Starts one that waits for the leader's end.
    async fn stand_by(&mut self) -> anyhow::Result<()> {
        self.standby = Some(operator(&self.program, &self.args, &self.folder, self.started)?);
        self.started += 1;
        tokio::time::sleep(WARM).await;
        Ok(())
    }

    /// Kills the leader; the one that stood by is the leader from now on.
    fn lose_leader(&mut self) -> anyhow::Result<()> {
        let next = self.standby.take().context("nobody stands by")?;
        let mut dead = std::mem::replace(&mut self.leader, next);
        dead.signal(Signal::Kill)?;
        Ok(())
    }
}

/// Starts an operator with addresses of its own.
fn operator(program: &Path, args: &[String], folder: &Path, number: u16) -> anyhow::Result<Operator> {
    let port = 20_000 + 3 * number;
    let environment = [
        format!("POD_NAMESPACE={NAMESPACE}"),
        format!("POD_NAME=operator-{number}"),
        format!("BATON_HEALTH_ADDRESS=127.0.0.1:{port}"),
        format!("BATON_METRICS_ADDRESS=127.0.0.1:{}", port + 1),
        format!("BATON_ADMIN_ADDRESS=127.0.0.1:{}", port + 2),
    ];
    let log = folder.join(format!("operator-{number}.log"));
    Ok(Operator::start_on(None, program, args, &environment, &log)?)
}

/// One failover.
#[derive(Debug, Serialize)]
struct Run {
    report: Report,
    /// From the moment in which the old primary answers again to that in which it replicates.
    rejoined_ms: Option<f64>,
    /// `status.timings` of the record: milliseconds since the operator's first sign.
    timings: Value,
    /// `status.steps` of the record.
    steps: Value,
    phase: String,
}

/// All runs of one case.
#[derive(Debug, Serialize)]
struct Case {
    name: String,
    gap_ms: Sample,
    after_fault_ms: Sample,
    /// From the decision to a writable server, by the record.
    control_ms: Option<Sample>,
    /// From the old primary's return until it replicates, where it had nothing of its own.
    rejoined_ms: Option<Sample>,
    acknowledged: u64,
    lost: usize,
    unexpected: usize,
    /// Runs in which the acknowledging server changed more than once.
    restless: usize,
    failed: Vec<String>,
    runs: Vec<Run>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let program = root.join(&cli.operator);
    if !program.exists() {
        bail!("no operator at {}; hint: cargo build --release", program.display());
    }
    let kubernetes = Kubernetes::prepare(&root.join("crds"), NAMESPACE)
        .await
        .context("hint: dev/kubernetes/up.sh --control-plane, then dev/kubernetes/enter.sh cargo bench ...")?;
    kubernetes.clear("MysqlCluster").await?;
    kubernetes.apply_credentials("bench").await?;
    let folder = Folder::new()?;
    let out = root.join("target/bench");
    std::fs::create_dir_all(&out)?;
    let mut operators = Operators::start(program, &cli, folder.path())?;
    let mut cases = Vec::new();
    for fault in &cli.case {
        let case = run_case(&cli, &kubernetes, &mut operators, *fault).await;
        std::fs::copy(operators.leader.log(), out.join("operator.log"))?;
        let case = case.with_context(|| format!("the operator's log is {}", out.join("operator.log").display()))?;
        if !operators.leader.is_running() {
            bail!("the operator ended; its log is {}", out.join("operator.log").display());
        }
        std::fs::write(out.join(format!("failover-{}.json", case.name)), serde_json::to_vec_pretty(&case)?)?;
        cases.push(case);
    }
    print_table(&cases);
    Ok(())
}

async fn run_case(cli: &Cli, kubernetes: &Kubernetes, operators: &mut Operators, fault: Fault) -> anyhow::Result<Case> {
    let tier = format!("{:?}", cli.tier);
    let mut name = format!("{}-{fault}-{}", cli.server.name(), tier.to_lowercase());
    name.push_str(if cli.enforce { "-enforced" } else { "" });
    name.push_str(if cli.semi_sync { "-semi-sync" } else { "" });
    name.push_str(if cli.with_leader { "-leader" } else { "" });
    let (mut runs, mut failed) = (Vec::new(), Vec::new());
    for number in 1..=cli.runs {
        if cli.with_leader {
            operators.stand_by().await?;
        }
        match run_once(cli, kubernetes, operators, fault, &format!("run-{fault}-{number}")).await {
            Ok(run) => {
                let (gap, lost) = (run.report.gap.gap_ms, run.report.verdict.lost.len());
                let rejoined = run.rejoined_ms.map_or(String::new(), |ms| format!(", replica after {ms:.0} ms"));
                eprintln!(
                    "{name} {number}/{}: gap {gap:.0} ms, lost {lost}{rejoined}, {} {}",
                    cli.runs, run.phase, run.timings
                );
                runs.push(run);
            }
            Err(error) => {
                eprintln!("{name} {number}/{}: {error:#}", cli.runs);
                failed.push(format!("{error:#}"));
            }
        }
    }
    summarize(name, runs, failed)
}

async fn run_once(
    cli: &Cli,
    kubernetes: &Kubernetes,
    operators: &mut Operators,
    fault: Fault,
    name: &str,
) -> anyhow::Result<Run> {
    let topology = Topology::start(&options(cli)).await?;
    let result = fail_over(cli, kubernetes, operators, fault, name, topology).await;
    // In order: a cluster that is gone must not keep the operator busy with servers that are gone.
    kubernetes.delete("MysqlCluster", name).await?;
    if let Ok(Some(record)) = kubernetes.failover_of(name).await {
        kubernetes.delete("MysqlFailover", record.metadata.name.as_deref().unwrap_or_default()).await?;
    }
    result.map(|(run, topology)| {
        drop(topology);
        run
    })
}

async fn fail_over(
    cli: &Cli,
    kubernetes: &Kubernetes,
    operators: &mut Operators,
    fault: Fault,
    name: &str,
    topology: Topology,
) -> anyhow::Result<(Run, Topology)> {
    let enforce = if cli.enforce { "Enforce" } else { "Report" };
    let spec = json!({"detection": {"tier": format!("{:?}", cli.tier), "replicationSettings": enforce}});
    kubernetes.apply_cluster(name, &topology.addresses(), "bench", &spec).await?;
    let ready = |object: &_| condition(object, "FailoverReady");
    kubernetes.wait("MysqlCluster", name, "FailoverReady", READY_DEADLINE, ready).await?;
    let config = Config { writers: cli.writers, rate: cli.rate, ..Config::new(topology.addresses()) };
    let mut trial = Trial::begin(topology, config).await?;
    kubernetes.wait("MysqlCluster", name, "FailoverReady under load", READY_DEADLINE, ready).await?;
    if cli.with_leader {
        operators.lose_leader()?;
    }
    trial.strike(fault)?;
    let state = async {
        tokio::time::sleep(LATE).await;
        let state = kubernetes.state_of(name).await;
        eprintln!("{name}: nobody writes after {} s; {state}", LATE.as_secs());
        std::future::pending::<std::convert::Infallible>().await
    };
    let (report, mut topology) = tokio::select! {
        finished = trial.finish(WRITABLE_DEADLINE) => finished?,
        never = state => match never {},
    };
    let record = kubernetes.failover_of(name).await?.context("writable, but there is no failover record")?;
    let done = |object: &_| ["Succeeded", "Failed", "Refused"].contains(&text(object, "/status/phase").as_str());
    let record_name = record.metadata.name.clone().unwrap_or_default();
    let record = kubernetes.wait("MysqlFailover", &record_name, "complete", COMPLETE_DEADLINE, done).await?;
    let of_record = |path: &str| record.data.pointer(path).cloned().unwrap_or_default();
    let (timings, steps) = (of_record("/status/timings"), of_record("/status/steps"));
    let rejoined_ms = if cli.rejoin { rejoin(kubernetes, name, &mut topology).await? } else { None };
    Ok((Run { report, rejoined_ms, timings, steps, phase: text(&record, "/status/phase") }, topology))
}

/// Starts the old primary again; `None`: it has transactions of its own and is quarantined.
async fn rejoin(kubernetes: &Kubernetes, name: &str, topology: &mut Topology) -> anyhow::Result<Option<f64>> {
    let old = topology.servers.first_mut().context("no servers")?;
    let addr = old.addr().to_string();
    old.restart().await?;
    let returned = Instant::now();
    let of = |object: &DynamicObject, list: &str, key: &str, value: &str| {
        let servers = object.data.pointer(list).and_then(Value::as_array).cloned().unwrap_or_default();
        servers.iter().any(|server| server["address"] == *addr && (key.is_empty() || server[key] == *value))
    };
    let quarantined = |object: &DynamicObject| of(object, "/status/quarantined", "", "");
    let settled = |object: &DynamicObject| {
        quarantined(object) || of(object, "/status/servers", "role", "Replica") && condition(object, "Replicating")
    };
    let object = kubernetes.wait("MysqlCluster", name, "old primary settled", COMPLETE_DEADLINE, settled).await?;
    Ok((!quarantined(&object)).then(|| returned.elapsed().as_secs_f64() * 1000.0))
}

fn text(object: &kube::core::DynamicObject, pointer: &str) -> String {
    object.data.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// A primary and three replicas; 5.6 as orchestrator was measured on it, 9.7 with its own defaults.
fn options(cli: &Cli) -> Options {
    let mut options = Options { place: Place::Network, ..Options::new(cli.server, 3) };
    options.semi_sync_acks = cli.semi_sync.then_some(1);
    if cli.server == Series::Mysql56 {
        options.net_timeout_s = Some(4);
        options.heartbeat_ms = Some(1000);
    }
    options
}

fn summarize(name: String, runs: Vec<Run>, failed: Vec<String>) -> anyhow::Result<Case> {
    let sample = |value: fn(&Run) -> Option<f64>| Sample::of(runs.iter().filter_map(value));
    let control = |run: &Run| {
        let at = |phase: &str| run.timings.get(phase).and_then(Value::as_f64);
        Some(at("writable")? - at("detected")?)
    };
    let verdicts = || runs.iter().map(|run| &run.report.verdict);
    let why = || format!("no run of {name} gave a result; the first failed: {}", failed.first().map_or("", |e| e));
    Ok(Case {
        gap_ms: sample(|run| Some(run.report.gap.gap_ms)).with_context(why)?,
        after_fault_ms: sample(|run| Some(run.report.after_fault_ms)).with_context(why)?,
        control_ms: sample(control),
        rejoined_ms: sample(|run| run.rejoined_ms),
        acknowledged: verdicts().map(|verdict| verdict.acknowledged).sum(),
        lost: verdicts().map(|verdict| verdict.lost.len()).sum(),
        unexpected: verdicts().map(|verdict| verdict.unexpected.len()).sum(),
        restless: runs.iter().filter(|run| run.report.changes != 1).count(),
        name,
        failed,
        runs,
    })
}

fn print_table(cases: &[Case]) {
    println!(
        "| case | runs | gap ms median (min, p99, max) | first sign to writable ms | control path ms median (p99) | replica again ms median (p99), runs | rows acknowledged | lost | failed |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    for case in cases {
        let Sample { count, min, median, p99, max } = case.gap_ms;
        let writable =
            Sample::of(case.runs.iter().filter_map(|run| run.timings.get("writable").and_then(Value::as_f64)));
        let writable = writable.map_or("-".to_owned(), |sample| format!("{:.0}", sample.median));
        let control =
            case.control_ms.map_or("-".to_owned(), |sample| format!("{:.0} ({:.0})", sample.median, sample.p99));
        let rejoined = case
            .rejoined_ms
            .map_or("-".to_owned(), |sample| format!("{:.0} ({:.0}), {}", sample.median, sample.p99, sample.count));
        let (name, failed) = (&case.name, case.failed.len() + case.restless);
        let gap = format!("{median:.0} ({min:.0}, {p99:.0}, {max:.0})");
        println!(
            "| {name} | {count} | {gap} | {writable} | {control} | {rejoined} | {} | {} | {failed} |",
            case.acknowledged, case.lost
        );
    }
}
