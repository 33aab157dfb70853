//! What watching costs: 25 clusters of 4 MySQL 5.6 servers, one look at each per second (tier Relaxed;
//! with Standard, two at each primary), and the share of a core and the memory that the operator takes
//! for it. Also shows that idle clusters cause no API write (safety.md I12): no object's version changes.
//!
//! Started like the benchmark of failovers; see there.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::{
    collections::BTreeMap,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use baton::testing::{
    folder::Folder,
    kubernetes::{Kubernetes, Operator, condition},
    series::Series,
    topology::{Options, Topology},
};
use clap::Parser;
use serde_json::json;
use tokio::time::sleep;

/// Namespace of the objects.
const NAMESPACE: &str = "baton-watch";
/// How long the operator may take until it knows all clusters.
const READY_DEADLINE: Duration = Duration::from_secs(120);
/// Rest before the measurement.
const SETTLE: Duration = Duration::from_secs(15);

#[derive(Debug, Parser)]
struct Cli {
    /// Clusters of a primary and three replicas.
    #[arg(long, default_value_t = 25)]
    clusters: u32,
    /// How long to measure.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// The operator.
    #[arg(long, default_value = "target/release/baton")]
    operator: PathBuf,
    /// Arguments of the operator.
    #[arg(long, default_value = "operator", value_delimiter = ' ')]
    operator_args: Vec<String>,
    /// `detection.tier`.
    #[arg(long, default_value = "Relaxed")]
    tier: String,
    /// Starts the servers and measures those only.
    #[arg(long)]
    servers_only: bool,
    /// Given by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    let topologies = start_servers(&cli).await?;
    let pids = topologies.iter().flat_map(|topology| &topology.servers).filter_map(|server| server.pid());
    let memory_kb: u64 = pids.map(|pid| status_kb(pid, "VmRSS")).sum::<anyhow::Result<u64>>()?;
    let count = topologies.iter().map(|topology| topology.servers.len()).sum::<usize>();
    eprintln!("{count} servers run and take {} MiB", memory_kb / 1024);
    if cli.servers_only {
        return Ok(());
    }
    measure(&cli, &topologies).await
}

async fn start_servers(cli: &Cli) -> anyhow::Result<Vec<Topology>> {
    let more = ["--innodb-buffer-pool-size=5M", "--max-connections=20", "--innodb-read-io-threads=1"];
    let more = more.into_iter().chain(["--innodb-write-io-threads=1", "--innodb-use-native-aio=OFF"]);
    let more: Vec<String> = more.map(str::to_owned).collect();
    let mut topologies = Vec::new();
    for number in 1..=cli.clusters {
        let options = Options { durable: false, more: more.clone(), ..Options::new(Series::Mysql56, 3) };
        topologies.push(Topology::start(&options).await?);
        eprintln!("cluster {number}/{} runs", cli.clusters);
    }
    Ok(topologies)
}

async fn measure(cli: &Cli, topologies: &[Topology]) -> anyhow::Result<()> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let program = root.join(&cli.operator);
    let kubernetes = Kubernetes::prepare(&root.join("crds"), NAMESPACE)
        .await
        .context("hint: dev/kubernetes/up.sh --control-plane, then dev/kubernetes/enter.sh cargo bench ...")?;
    kubernetes.clear("MysqlCluster").await?;
    kubernetes.apply_credentials("watch").await?;
    let folder = Folder::new()?;
    let mut operator = Operator::start(&program, &cli.operator_args, NAMESPACE, &folder.path().join("operator.log"))?;
    let mut names = Vec::new();
    for (topology, number) in topologies.iter().zip(1..) {
        let name = format!("watched-{number}");
        kubernetes
            .apply_cluster(&name, &topology.addresses(), "watch", &json!({"detection": {"tier": cli.tier}}))
            .await?;
        names.push(name);
    }
    let result = measure_operator(cli, &kubernetes, &names, &operator).await;
    if !operator.is_running() {
        let out = root.join("target/bench");
        std::fs::create_dir_all(&out)?;
        std::fs::copy(operator.log(), out.join("operator.log"))?;
        bail!("the operator ended; its log is {}", out.join("operator.log").display());
    }
    for name in &names {
        kubernetes.delete("MysqlCluster", name).await?;
    }
    result
}

async fn measure_operator(
    cli: &Cli,
    kubernetes: &Kubernetes,
    names: &[String],
    operator: &Operator,
) -> anyhow::Result<()> {
    for name in names {
        let ready = |object: &_| condition(object, "Ready");
        kubernetes.wait("MysqlCluster", name, "Ready", READY_DEADLINE, ready).await?;
    }
    sleep(SETTLE).await;
    let (before, started, ticks) = (versions(kubernetes).await?, Instant::now(), cpu_ticks(operator.pid())?);
    sleep(Duration::from_secs(cli.seconds)).await;
    let spent_s = seconds(cpu_ticks(operator.pid())?.saturating_sub(ticks))?;
    let share = spent_s / started.elapsed().as_secs_f64() * 100.0;
    let after = versions(kubernetes).await?;
    let written = after.iter().filter(|(name, version)| before.get(*name) != Some(*version)).count();
    let (memory, peak) = (status_kb(operator.pid(), "VmRSS")?, status_kb(operator.pid(), "VmHWM")?);
    println!("| servers | clusters | share of a core | memory now (peak) MiB | objects written in {} s |", cli.seconds);
    println!("| --- | --- | --- | --- | --- |");
    let servers = names.len() * 4;
    let memory = format!("{} ({})", memory / 1024, peak / 1024);
    println!("| {servers} | {} | {share:.1} % | {memory} | {written} |", names.len());
    Ok(())
}

/// Version of every cluster object.
async fn versions(kubernetes: &Kubernetes) -> anyhow::Result<BTreeMap<String, String>> {
    let objects = kubernetes.list("MysqlCluster").await?;
    let version = |object: kube::core::DynamicObject| {
        (object.metadata.name.unwrap_or_default(), object.metadata.resource_version.unwrap_or_default())
    };
    Ok(objects.into_iter().map(version).collect())
}

/// User and system time of a process in clock ticks (proc(5), fields 14 and 15 of stat).
fn cpu_ticks(pid: u32) -> anyhow::Result<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).context("the operator is gone")?;
    let (_, fields) = stat.rsplit_once(") ").context("stat has no command")?;
    let field = |index: usize| fields.split(' ').nth(index).and_then(|text| text.parse::<u64>().ok());
    Ok(field(11).context("no user time")? + field(12).context("no system time")?)
}

fn seconds(ticks: u64) -> anyhow::Result<f64> {
    let output = std::process::Command::new("getconf").arg("CLK_TCK").output()?;
    let per_second: f64 = String::from_utf8_lossy(&output.stdout).trim().parse()?;
    Ok(f64::from(u32::try_from(ticks)?) / per_second)
}

/// A line of /proc/PID/status in KiB.
fn status_kb(pid: u32, name: &str) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).context("the process is gone")?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    Ok(line.and_then(|line| line.split_whitespace().next()).context("no such line")?.parse()?)
}
