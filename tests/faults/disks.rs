//! Disks that are full: file systems of their own on loop devices.

use std::{collections::BTreeMap, time::Duration};

use anyhow::ensure;
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::{
    judge::{Expect, Report},
    scenario::{Scenario, scenario},
    stage::{PATIENCE, Setup, Stage},
    stalls::detect_only,
};

/// Longest pause of writes when a disk stalls or is full, in milliseconds: goal of issue 4 (p99).
pub const STALL_MS: f64 = 10_000.0;
/// Size of a small disk in MiB: the template and a little.
const SMALL: u32 = 260;

pub fn scenarios() -> Vec<Scenario> {
    vec![
        scenario("F19", 120, "the primary's disk is full: a replica with space takes over", full_primary),
        scenario(
            "F19-hang",
            120,
            "the same, and MySQL waits for space with its commits while it reads: it is fenced and replaced within 10 s",
            full_and_hanging,
        ),
        scenario(
            "F19-hang-left",
            180,
            "the same with failover.stalledPrimary: DetectOnly: nothing is done, and it goes on once there is space",
            full_and_left,
        ),
        scenario(
            "F20",
            120,
            "W=2 of 4 ackers, one's disk runs full and its server ends, then the primary dies: another is promoted",
            full_acker,
        ),
        scenario(
            "F20-waits",
            240,
            "an acker's applier waits for space, its threads run, it acknowledges and is preferred; the primary dies: another wins",
            full_applier,
        ),
        scenario(
            "F20-only",
            240,
            "the only server that has everything waits for space: it is waited for and told, and promoted once there is space",
            full_and_only,
        ),
        scenario(
            "F21",
            120,
            "the disks of all replicas run full and they end: no failover, writes go on once they are back",
            |name| full_replicas(name, volumes(&[2, 3])),
        ),
        scenario("F21-saturated", 120, "the same, and commits that wait use up the primary's connections", |name| {
            full_replicas(name, Setup { more: vec!["--max-connections=100"], ..volumes(&[2, 3]) })
        }),
    ]
}

/// These servers, by their ids, have a small disk of their own.
pub fn volumes(ids: &[u32]) -> Setup {
    let volumes: BTreeMap<u32, u32> = ids.iter().map(|id| (*id, SMALL)).collect();
    Setup { volumes, ..Setup::default() }
}

/// Fills a server's disk to the last byte.
fn fill(stage: &Stage, index: usize) -> anyhow::Result<()> {
    stage.server(index).run_beside(&["sh", "-c", "cat /dev/zero >{data}/filler 2>/dev/null; true"])?;
    Ok(())
}

fn free(stage: &Stage, index: usize) -> anyhow::Result<()> {
    stage.server(index).run_beside(&["rm", "-f", "{data}/filler"])?;
    Ok(())
}

async fn full_primary(name: String) -> anyhow::Result<Report> {
    let mut stage = Stage::new(&name, volumes(&[1])).await?;
    stage.strike("full");
    fill(&stage, 0)?;
    stage.failed_over(0, PATIENCE).await?;
    free(&stage, 0)?;
    // InnoDB ends MySQL when it cannot make the next file of its redo log.
    stage.bring_back(0).await?;
    stage.judge(Expect { pause_ms: Some(STALL_MS), ..Expect::default() }).await
}

/// Fills a server's disk once every file of its redo log has its size: MySQL then only waits for space where it
/// writes its binary log, tries again once a minute, and answers all the while.
async fn fill_with_redo_left(stage: &mut Stage, index: usize) -> anyhow::Result<()> {
    let other = ["sh", "-c", "find '{data}/#innodb_redo' -type f ! -size 1024k | wc -l"];
    let settled = async |stage: &Stage| Ok(stage.server(index).run_beside(&other)?.trim() == "0");
    stage.until("every file of the redo log of its size", PATIENCE, settled).await?;
    stage.strike("full");
    fill(stage, index)
}

/// Who waits for space is interrupted by the fence, and MySQL ends itself then (`binlog_error_action=ABORT_SERVER`).
async fn full_and_hanging(name: String) -> anyhow::Result<Report> {
    let mut stage = Stage::new(&name, volumes(&[1])).await?;
    fill_with_redo_left(&mut stage, 0).await?;
    stage.failed_over(0, PATIENCE).await?;
    let record = stage.records().await?.pop().unwrap_or_default();
    let hangs = record["evidence"].to_string().contains("commits hang");
    ensure!(hangs, "it was replaced for another reason: {}", record["evidence"]);
    free(&stage, 0)?;
    stage.bring_back(0).await?;
    stage.judge(Expect { pause_ms: Some(STALL_MS), ..Expect::default() }).await
}

/// Nothing is done while a person decides: it answers, and commits once there is space again.
async fn full_and_left(name: String) -> anyhow::Result<Report> {
    let mut stage = Stage::new(&name, detect_only()).await?;
    fill_with_redo_left(&mut stage, 0).await?;
    let shown = async |stage: &Stage| stage.shows("StalledPrimary").await;
    stage.until("seen to hang", PATIENCE, shown).await?;
    let acknowledged = stage.acknowledged();
    let rows = stage.server(0).value("SELECT COUNT(*) FROM app.writes").await?;
    ensure!(rows.parse::<u64>()? >= acknowledged, "it shows {rows} rows and acknowledged {acknowledged}");
    stage.quiet(10).await?;
    ensure!(stage.shows("StalledPrimary").await?, "it hangs no more");
    ensure!(
        stage.acknowledged() == acknowledged,
        "{} rows more were acknowledged",
        stage.acknowledged() - acknowledged
    );
    free(&stage, 0)?;
    let goes_on = async |stage: &Stage| Ok(stage.acknowledged() > acknowledged);
    let healed_ms = stage.until("committing again", PATIENCE * 2, goes_on).await?;
    let report = stage.judge(Expect { failovers: (0, 0), ..Expect::default() }).await?;
    Ok(report.noting(format!("it went on {:.0} s after there was space", healed_ms as f64 / 1000.0)))
}

async fn full_acker(name: String) -> anyhow::Result<Report> {
    let mut stage = Stage::new(&name, Setup { replicas: 4, acks: Some(2), ..volumes(&[2]) }).await?;
    fill(&stage, 1)?;
    sleep(Duration::from_secs(3)).await;
    stage.writes_go_on().await?;
    stage.strike("kill");
    stage.server_mut(0).crash()?;
    stage.failed_over(0, PATIENCE).await?;
    ensure!(stage.primary().await? != 1, "the one without space was promoted");
    free(&stage, 1)?;
    stage.server_mut(1).restart().await?;
    stage.bring_back(0).await?;
    stage.judge(Expect::default()).await
}

/// What a server has executed and what it has received.
async fn sets(stage: &Stage, index: usize) -> anyhow::Result<(String, String)> {
    let received = "SELECT RECEIVED_TRANSACTION_SET FROM performance_schema.replication_connection_status";
    let server = stage.server(index);
    Ok((server.value("SELECT @@gtid_executed").await?, server.value(received).await?))
}

/// The relay log of server 1 has space, so it receives and acknowledges all the while; what it received it cannot
/// commit.
async fn applier_waits(name: &str, setup: Setup) -> anyhow::Result<Stage> {
    let more = vec!["--max-connections=500", "--relay-log=../relay"];
    // Few rows: what waits is to be applied before the end.
    let mut stage = Stage::new(name, Setup { more, writers: 4, rate: 25, ..setup }).await?;
    // A table that cannot grow is an error at once.
    stage.sql(0, &["ALTER TABLE app.writes AUTOEXTEND_SIZE = 16M"]).await?;
    fill_with_redo_left(&mut stage, 1).await?;
    sleep(Duration::from_secs(3)).await;
    let applier = "SELECT SERVICE_STATE FROM performance_schema.replication_applier_status";
    let before = sets(&stage, 1).await?;
    stage.writes_go_on().await?;
    let after = sets(&stage, 1).await?;
    ensure!(before.0 == after.0 && before.1 != after.1, "it does not hang, or receives nothing: {before:?} {after:?}");
    ensure!(stage.server(1).value(applier).await? == "ON", "its applier does not run");
    Ok(stage)
}

async fn full_applier(name: String) -> anyhow::Result<Report> {
    // The server with index 1, by the end of its address.
    let spec = json!({ "promotion": { "rules": [{ "match": { "host": "*.2" }, "rule": "Prefer" }] } });
    let mut stage = applier_waits(&name, Setup { replicas: 3, spec, ..volumes(&[2]) }).await?;
    stage.strike("kill");
    stage.server_mut(0).crash()?;
    stage.failed_over(0, PATIENCE * 2).await?;
    ensure!(stage.primary().await? != 1, "the one that cannot commit was promoted");
    let acknowledged = stage.acknowledged();
    free(&stage, 1)?;
    stage.bring_back(0).await?;
    let applied = async |stage: &Stage| {
        Ok(stage.server(1).value("SELECT COUNT(*) FROM app.writes").await?.parse::<u64>()? >= acknowledged)
    };
    let healed_ms = stage.until("applying again", PATIENCE * 2, applied).await?;
    let report = stage.judge(Expect { pause_ms: Some(15_000.0), ..Expect::default() }).await?;
    Ok(report.noting(format!("it had applied everything {:.0} s after there was space", healed_ms as f64 / 1000.0)))
}

/// The other replica answers, and lacks rows that were acknowledged.
async fn full_and_only(name: String) -> anyhow::Result<Report> {
    let mut stage = applier_waits(&name, volumes(&[2])).await?;
    stage.sql(2, &["STOP REPLICA IO_THREAD"]).await?;
    stage.writes_go_on().await?;
    stage.strike("kill");
    stage.server_mut(0).crash()?;
    let only = stage.server(1).addr().to_string();
    let told = async |stage: &Stage| {
        let record = stage.records().await?.pop().unwrap_or_default();
        let message = record["message"].as_str().unwrap_or_default();
        Ok(record["newPrimary"] == only.as_str() && message.contains(&only) && message.contains("no progress"))
    };
    let told_ms = stage.until("told what it waits for", PATIENCE, told).await?;
    let before = sets(&stage, 1).await?;
    ensure!(before.0 != before.1, "there is nothing to wait for: {before:?}");
    stage.unpromoted(15).await?;
    let after = sets(&stage, 1).await?;
    ensure!(before == after, "what it had was {before:?}, and is {after:?}");
    free(&stage, 1)?;
    let freed = Instant::now();
    stage.failed_over(0, PATIENCE * 2).await?;
    ensure!(stage.primary().await? == 1, "the one that lacks rows was promoted");
    let took_s = freed.elapsed().as_secs();
    stage.bring_back(0).await?;
    let report = stage.judge(Expect::default()).await?;
    Ok(report.noting(format!(
        "told after {told_ms} ms; promoted {took_s} s after there was space: MySQL tries again each minute"
    )))
}

async fn full_replicas(name: String, setup: Setup) -> anyhow::Result<Report> {
    let mut stage = Stage::new(&name, setup).await?;
    stage.strike("full");
    for index in [1, 2] {
        fill(&stage, index)?;
    }
    stage.quiet(10).await?;
    for index in [1, 2] {
        free(&stage, index)?;
        stage.server_mut(index).restart().await?;
    }
    stage.judge(Expect { failovers: (0, 0), ..Expect::default() }).await
}
