//! A disk of the primary that stalls: it answers, and nothing on it ends.

use std::time::Duration;

use anyhow::{Context, ensure};
use baton::testing::{
    process::{Signal, run},
    servers::Account,
};
use mysql_async::prelude::Queryable;
use serde_json::{Value, json};
use tokio::{
    task::JoinHandle,
    time::{sleep, timeout},
};

use super::{
    disks::{STALL_MS, volumes},
    judge::{Expect, Report, is_writable, quarantined},
    scenario::{Scenario, scenario},
    stage::{PATIENCE, Setup, Stage},
};

/// Longest time until clients can write after a person forced it, in milliseconds.
const FORCED_MS: u64 = 3000;
/// Commits that wait for the disk and are not given up.
const PATIENT: usize = 4;

pub fn scenarios() -> Vec<Scenario> {
    vec![
        scenario(
            "F18",
            120,
            "the primary's disk stalls (fsfreeze): replaced within 10 s, no commit under way acknowledged",
            stalled,
        ),
        scenario(
            "F18-forced",
            120,
            "the same with failover.stalledPrimary: DetectOnly: nothing is done until a person forces it; then clients can write within 3 s",
            |name| forced(name, detect_only()),
        ),
        scenario("F18-forced-async", 120, "the same, asynchronous", |name| {
            forced(name, Setup { acks: None, ..detect_only() })
        }),
        scenario(
            "F18-healed",
            120,
            "the stalled disk is well again before the receivers of the replicas are stopped: no waiting commit is acknowledged that the new primary lacks",
            |name| healed(name, "before:StopReceiver"),
        ),
        scenario("F18-healed-chosen", 120, "the same right after the new primary was chosen", |name| {
            healed(name, "after:Save:Promoting")
        }),
        scenario("F18-healed-claimed", 120, "the same right before clients are let into the new primary", |name| {
            healed(name, "before:Unfence")
        }),
    ]
}

/// The primary has a disk of its own, and a person decides what is done when it stalls.
pub fn detect_only() -> Setup {
    Setup { spec: json!({ "failover": { "stalledPrimary": "DetectOnly" } }), ..volumes(&[1]) }
}

/// A file system that is frozen; it is thawed when dropped, or nothing on it could ever end.
struct Frozen {
    mount: String,
    folder: String,
}

impl Frozen {
    async fn now(stage: &Stage, index: usize) -> anyhow::Result<Self> {
        let server = stage.server(index);
        let mount = format!("--mount=/proc/{}/ns/mnt", server.pid().unwrap_or_default());
        let folder = server.value("SELECT @@datadir").await?;
        run("nsenter", &[&mount, "--", "fsfreeze", "-f", &folder])?;
        Ok(Self { mount, folder })
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        drop(run("nsenter", &[&self.mount, "--", "fsfreeze", "-u", &self.folder]));
    }
}

async fn stalled(name: String) -> anyhow::Result<Report> {
    let mut stage = Stage::new(&name, volumes(&[1])).await?;
    stage.strike("stall");
    let frozen = Frozen::now(&stage, 0).await?;
    stage.failed_over(0, PATIENCE).await?;
    drop(frozen);
    stage.judge(Expect { pause_ms: Some(STALL_MS), ..Expect::default() }).await
}

/// A commit that is waited for as long as it takes, unlike those of the writers: whether it was acknowledged.
struct Patient {
    row: usize,
    answer: JoinHandle<bool>,
}

impl Patient {
    async fn all(stage: &Stage) -> anyhow::Result<Vec<Self>> {
        let mut all = Vec::new();
        for row in 0..PATIENT {
            let mut session = stage.server(0).connect(Account::App).await?;
            let insert = format!("INSERT INTO app.writes (run, writer, seq) VALUES (0, {row}, 1)");
            let answer = tokio::spawn(async move { session.query_drop(insert).await.is_ok() });
            all.push(Self { row, answer });
        }
        Ok(all)
    }

    /// Sees that what was acknowledged is on the primary; how many were.
    async fn kept(all: Vec<Self>, stage: &Stage) -> anyhow::Result<usize> {
        let mut acknowledged = 0;
        for Self { row, answer } in all {
            let told = timeout(PATIENCE, answer).await.context("a commit got no answer")??;
            acknowledged += usize::from(told);
            let found = format!("SELECT COUNT(*) FROM app.writes WHERE run = 0 AND writer = {row}");
            let found = stage.server(stage.primary().await?).value(&found).await?;
            ensure!(!told || found == "1", "a commit that waited was acknowledged, and the new primary lacks it");
        }
        Ok(acknowledged)
    }
}

/// The disk is well again while the leader stands still at `point` of the failover.
async fn healed(name: String, point: &'static str) -> anyhow::Result<Report> {
    let mut stage = Stage::new(&name, volumes(&[1])).await?;
    let leader = stage.leader().await?.number;
    stage.pods[leader].arm(&[format!("STOP {point}")])?;
    stage.strike("stall");
    let frozen = Frozen::now(&stage, 0).await?;
    let patient = Patient::all(&stage).await?;
    let struck = async |stage: &Stage| Ok(stage.pods[leader].is_frozen());
    stage.until(&format!("frozen {point}"), PATIENCE, struck).await?;
    let record = stage.records().await?.pop().context("no record")?;
    ensure!(record["timings"]["writable"].is_null(), "clients could write already: {record}");
    let hangs = record["evidence"].to_string().contains("commits hang");
    ensure!(hangs, "it was replaced for another reason: {}", record["evidence"]);
    drop(frozen);
    sleep(Duration::from_millis(300)).await;
    stage.pods[leader].signal(Signal::Continue)?;
    stage.failed_over(0, PATIENCE).await?;
    let fenced = async |stage: &Stage| Ok(!is_writable(stage.server(0)).await?);
    stage.until("fenced", Duration::from_secs(5), fenced).await?;
    let acknowledged = Patient::kept(patient, &stage).await?;
    let left = quarantined(&stage.status().await?, stage.server(0).addr());
    let report = stage.judge(Expect { pause_ms: Some(STALL_MS), ..Expect::default() }).await?;
    let left = if left { "quarantined" } else { "not quarantined" };
    let phase = record["phase"].as_str().unwrap_or_default();
    Ok(report.noting(format!(
        "well again in phase {phase}; of {PATIENT} commits that waited {acknowledged} were acknowledged; the old primary is {left}"
    )))
}

/// Nobody waits for what hangs: it is fenced at once, and clients write again right after that.
async fn forced(name: String, setup: Setup) -> anyhow::Result<Report> {
    let mut stage = Stage::new(&name, setup).await?;
    let frozen = Frozen::now(&stage, 0).await?;
    let shown = async |stage: &Stage| stage.shows("StalledPrimary").await;
    stage.until("seen to stall", PATIENCE, shown).await?;
    stage.quiet(8).await?;
    stage.strike("force");
    stage.force("stalls", None).await?;
    stage.failed_over(0, PATIENCE).await?;
    drop(frozen);
    let record = stage.records().await?.pop().unwrap_or_default();
    let asked = |step: &Value| step["step"] == "SetReadOnly" && step["server"] == record["oldPrimary"];
    let steps = record["steps"].as_array().cloned().unwrap_or_default();
    ensure!(!steps.iter().any(asked), "the old primary was asked to refuse writes: {steps:?}");
    let reached = |what: &str| record["timings"][what].as_u64().unwrap_or(u64::MAX);
    let (fenced_ms, writable_ms) = (reached("fenced"), reached("writable"));
    ensure!(
        fenced_ms < 1000 && writable_ms < FORCED_MS,
        "fenced after {fenced_ms} ms, writable after {writable_ms} ms"
    );
    let report = stage.judge(Expect::default()).await?;
    Ok(report.noting(format!("fenced after {fenced_ms} ms, writable after {writable_ms} ms; the stall is the pause")))
}
