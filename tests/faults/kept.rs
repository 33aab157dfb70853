//! Semi-synchronous replication that Baton keeps as its owner wants it.

use std::time::Duration;

use anyhow::ensure;
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::{
    judge::{Expect, Report},
    scenario::{Scenario, scenario},
    stage::{PATIENCE, Setup, Stage},
};

const NONE: (usize, usize) = (0, 0);

pub fn scenarios() -> Vec<Scenario> {
    vec![
        scenario(
            "F13-kept",
            120,
            "both ackers hang where Baton keeps semi-sync: a third replica acknowledges in their place",
            deputy,
        ),
        scenario(
            "F14-kept",
            90,
            "the same where Baton keeps semi-sync: repaired, and the failover loses nothing",
            mended,
        ),
        scenario(
            "F15-kept",
            120,
            "somebody lets another replica acknowledge where Baton keeps semi-sync: it is switched off again",
            stray,
        ),
    ]
}

/// Baton keeps lossless semi-sync with one acknowledgement.
fn kept(replicas: u32) -> Setup {
    let spec = json!({ "durability": { "mode": "SemiSync", "acks": 1 } });
    Setup { spec, replicas, ..Setup::default() }
}

async fn mended(name: String) -> anyhow::Result<Report> {
    let mut stage = Stage::new(&name, kept(2)).await?;
    let variable = "SELECT @@GLOBAL.rpl_semi_sync_source_timeout";
    let lossless = stage.server(0).value(variable).await?;
    stage.sql(0, &["SET GLOBAL rpl_semi_sync_source_timeout = 1000"]).await?;
    let repaired = async |stage: &Stage| Ok(stage.server(0).value(variable).await? == lossless);
    let repaired_ms = stage.until("repaired", PATIENCE, repaired).await?;
    // What is seldom looked at is looked at again by then.
    sleep(Duration::from_secs(3)).await;
    ensure!(stage.condition("Durable").await?.0 == "True", "not durable");
    stage.strike("kill");
    stage.server_mut(0).crash()?;
    stage.failed_over(0, PATIENCE).await?;
    let records = stage.records().await?;
    let lost = records.last().map(|record| record["lost"]["known"].to_string()).unwrap_or_default();
    ensure!(lost == "\"None\"", "declared lossy: {lost}");
    stage.bring_back(0).await?;
    let report = stage.judge(Expect::default()).await?;
    Ok(report.noting(format!("repaired after {repaired_ms} ms")))
}

/// Which replicas acknowledge, of three.
async fn acking(stage: &Stage) -> anyhow::Result<Vec<usize>> {
    let active = "SELECT VARIABLE_VALUE FROM performance_schema.global_status \
                  WHERE VARIABLE_NAME = 'Rpl_semi_sync_replica_status'";
    let mut all = Vec::new();
    for index in 1..=3 {
        if stage.server(index).value(active).await? == "ON" {
            all.push(index);
        }
    }
    Ok(all)
}

/// One more replica than acknowledges; gives the two that do, and the other.
async fn two_of_three(name: &str) -> anyhow::Result<(Stage, Vec<usize>, usize)> {
    let stage = Stage::new(name, kept(3)).await?;
    let settled = async |stage: &Stage| Ok(acking(stage).await?.len() == 2);
    stage.until("acknowledged by two", PATIENCE, settled).await?;
    stage.ready().await?;
    let ackers = acking(&stage).await?;
    let other = (1..=3).find(|index| !ackers.contains(index)).unwrap_or_default();
    Ok((stage, ackers, other))
}

async fn stray(name: String) -> anyhow::Result<Report> {
    let (mut stage, ackers, other) = two_of_three(&name).await?;
    let on = ["SET GLOBAL rpl_semi_sync_replica_enabled = ON", "STOP REPLICA IO_THREAD", "START REPLICA IO_THREAD"];
    stage.sql(other, &on).await?;
    let since = Instant::now();
    let clients = "SELECT VARIABLE_VALUE FROM performance_schema.global_status \
                   WHERE VARIABLE_NAME = 'Rpl_semi_sync_source_clients'";
    let off = async |stage: &Stage| Ok(acking(stage).await? == ackers && stage.server(0).value(clients).await? == "2");
    stage.until("switched off", PATIENCE, off).await?;
    let off_ms = since.elapsed().as_millis();
    let enabled = stage.server(other).value("SELECT @@GLOBAL.rpl_semi_sync_replica_enabled").await?;
    ensure!(enabled == "0", "it acknowledges again after its next restart");
    stage.ready().await?;
    stage.strike("part and kill");
    // It proves nothing, and is not needed.
    let others: Vec<_> = (0..4).filter(|index| *index != other).collect();
    stage.part(&[other], &others, true)?;
    stage.server_mut(0).crash()?;
    stage.failed_over(0, PATIENCE).await?;
    stage.heal()?;
    stage.bring_back(0).await?;
    let report = stage.judge(Expect::default()).await?;
    Ok(report.noting(format!("switched off after {off_ms} ms")))
}

async fn deputy(name: String) -> anyhow::Result<Report> {
    let (mut stage, ackers, other) = two_of_three(&name).await?;
    stage.strike("freeze");
    stage.server_mut(ackers[0]).freeze()?;
    stage.quiet(3).await?;
    stage.writes_go_on().await?;
    stage.server_mut(ackers[1]).freeze()?;
    let since = Instant::now();
    let before = stage.acknowledged();
    let goes_on = async |stage: &Stage| Ok(stage.acknowledged() > before + 20);
    stage.until("acknowledged by another", PATIENCE, goes_on).await?;
    let pause_ms = since.elapsed().as_millis();
    let times = "SELECT VARIABLE_VALUE FROM performance_schema.global_status \
                 WHERE VARIABLE_NAME = 'Rpl_semi_sync_source_no_times'";
    let alone = stage.server(0).value(times).await?;
    ensure!(alone == "0", "commits waited for nobody, {alone} times");
    let active = stage.server(other).value("SELECT @@GLOBAL.rpl_semi_sync_replica_enabled").await?;
    ensure!(active == "1", "server {other} does not acknowledge");
    ensure!(stage.records().await?.is_empty(), "a needless failover");
    for index in ackers {
        stage.server_mut(index).thaw()?;
    }
    sleep(Duration::from_secs(3)).await;
    let report = stage.judge(Expect { failovers: NONE, ..Expect::default() }).await?;
    Ok(report.noting(format!("server {other} acknowledged after {pause_ms} ms")))
}
