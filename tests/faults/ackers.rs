//! Semi-synchronous replication that is disturbed: ackers that die, hang or come uninvited, a timeout that is
//! changed, a primary that is asked to stop.

use std::time::Duration;

use anyhow::ensure;
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::{
    chains::follow,
    judge::{Expect, Report, quarantined},
    scenario::{Scenario, scenario},
    stage::{PATIENCE, Setup, Stage},
};

const NONE: (usize, usize) = (0, 0);

pub fn scenarios() -> Vec<Scenario> {
    vec![
        scenario(
            "F11",
            120,
            "primary and most advanced acker die together: nobody is promoted until the acker is back",
            together,
        ),
        scenario("F12", 90, "an acker boots with relay_log_recovery=ON: told beforehand", forgetful),
        scenario(
            "F12-killed",
            120,
            "primary and most advanced acker die together, and that boots with relay_log_recovery=ON: nobody is promoted",
            forgotten,
        ),
        scenario("F13", 90, "one acker hangs, then all: commits wait, no failover, no asynchronous commit", hanging),
        scenario(
            "F14",
            90,
            "somebody sets the semi-sync timeout to 1 s: told, and the failover declared possibly lossy",
            timeout,
        ),
        scenario(
            "F15",
            90,
            "an acker that Baton does not know: nobody is promoted, since it may have acknowledged",
            rogue,
        ),
        scenario(
            "F15-again",
            90,
            "the ackers have just reconnected when the primary dies: nobody else is counted",
            again,
        ),
        scenario("F16", 90, "semi-sync is switched off on one acker: the other alone is proof enough", switched_off),
        scenario(
            "F16-bare",
            120,
            "an acker is started again without the semi-sync plugins: the other alone is proof enough",
            bare,
        ),
        scenario(
            "F17",
            90,
            "SIGTERM of a primary whose commits wait: MySQL acknowledges them; they stay quarantined",
            terminated,
        ),
        scenario(
            "F17-fenced",
            90,
            "a failover is asked for before the SIGTERM: nothing is acknowledged that is lost",
            fenced_first,
        ),
    ]
}

/// The primary and the acker that has most are dead; the other one lacks rows.
async fn dead_with_its_acker(name: &str) -> anyhow::Result<Stage> {
    let mut stage = Stage::new(name, Setup::default()).await?;
    stage.sql(2, &["STOP REPLICA IO_THREAD"]).await?;
    stage.writes_go_on().await?;
    stage.strike("kill both");
    stage.server_mut(0).crash()?;
    stage.server_mut(1).crash()?;
    Ok(stage)
}

async fn together(name: String) -> anyhow::Result<Report> {
    let mut stage = dead_with_its_acker(&name).await?;
    let waits = async |stage: &Stage| {
        let (ready, failover) = (stage.condition("Ready").await?.0, stage.condition("FailoverReady").await?.0);
        Ok(ready != "True" && failover != "True")
    };
    let told_ms = stage.until("told why", PATIENCE, waits).await?;
    stage.unpromoted(5).await?;
    let (_, reason, _) = stage.condition("FailoverReady").await?;
    stage.server_mut(1).restart().await?;
    let back = Instant::now();
    stage.failed_over(0, PATIENCE).await?;
    let took_ms = back.elapsed().as_millis();
    ensure!(stage.primary().await? == 1, "the one that lacks rows was promoted");
    stage.bring_back(0).await?;
    let report = stage.judge(Expect::default()).await?;
    Ok(report.noting(format!("{reason} after {told_ms} ms; promoted {took_ms} ms after the acker was back")))
}

async fn forgetful(name: String) -> anyhow::Result<Report> {
    let mut stage = Stage::new(&name, Setup::default()).await?;
    stage.strike("restart");
    stage.server_mut(2).add_options(["--relay-log-recovery=ON".to_owned()]);
    stage.server_mut(2).crash()?;
    stage.server_mut(2).restart().await?;
    let told = async |stage: &Stage| Ok(stage.shows("RelayLogRecoveryOnAcker").await?);
    stage.until("told", PATIENCE, told).await?;
    stage.judge(Expect { failovers: NONE, ..Expect::default() }).await
}

async fn forgotten(name: String) -> anyhow::Result<Report> {
    let mut stage = dead_with_its_acker(&name).await?;
    stage.server_mut(1).add_options(["--relay-log-recovery=ON".to_owned()]);
    stage.server_mut(1).restart().await?;
    stage.unpromoted(8).await?;
    let (_, reason, message) = stage.condition("FailoverReady").await?;
    ensure!(reason == "CannotFence", "{reason}: {message}");
    stage.bring_back(0).await?;
    stage.sql(2, &["START REPLICA IO_THREAD"]).await?;
    open_by_hand(&stage, 0).await?;
    let report = stage.judge(Expect { failovers: NONE, ..Expect::default() }).await?;
    Ok(report.noting("the primary came back after 8 s, and a person opened it"))
}

/// It boots read-only, as it should, and nobody was promoted: somebody has to say that it is the primary.
pub async fn open_by_hand(stage: &Stage, index: usize) -> anyhow::Result<()> {
    stage.sql(index, &["SET GLOBAL rpl_semi_sync_source_enabled = ON", "SET GLOBAL read_only = OFF"]).await
}

async fn hanging(name: String) -> anyhow::Result<Report> {
    let mut stage = Stage::new(&name, Setup::default()).await?;
    stage.strike("freeze");
    stage.server_mut(1).freeze()?;
    stage.quiet(3).await?;
    stage.writes_go_on().await?;
    stage.server_mut(2).freeze()?;
    sleep(Duration::from_millis(500)).await;
    let before = stage.acknowledged();
    stage.quiet(5).await?;
    let after = stage.acknowledged();
    ensure!(before == after, "{} rows acknowledged without an acker", after - before);
    for index in [1, 2] {
        stage.server_mut(index).thaw()?;
    }
    let report = stage.judge(Expect { failovers: NONE, ..Expect::default() }).await?;
    Ok(report.noting("5.5 s without any acker are the pause"))
}

async fn timeout(name: String) -> anyhow::Result<Report> {
    let spec = json!({ "failover": { "dataLoss": "Accept" } });
    let mut stage = Stage::new(&name, Setup { spec, ..Setup::default() }).await?;
    stage.sql(0, &["SET GLOBAL rpl_semi_sync_source_timeout = 1000"]).await?;
    let told = async |stage: &Stage| Ok(stage.condition("Durable").await?.0 != "True");
    let told_ms = stage.until("told", PATIENCE, told).await?;
    ensure!(told_ms <= 1500, "told after {told_ms} ms only");
    stage.strike("kill");
    stage.server_mut(0).crash()?;
    stage.failed_over(0, PATIENCE).await?;
    let records = stage.records().await?;
    let lost = records.last().map(|record| record["lost"]["known"].to_string()).unwrap_or_default();
    ensure!(lost != "\"None\"", "declared lossless although commits may not have waited");
    stage.bring_back(0).await?;
    let report = stage.judge(Expect { lossy: true, ..Expect::default() }).await?;
    Ok(report.noting(format!("told after {told_ms} ms; the record says lost {lost}")))
}

async fn rogue(name: String) -> anyhow::Result<Report> {
    let spec = json!({ "discovery": { "follow": false } });
    let mut stage = Stage::new(&name, Setup { spec, ..Setup::default() }).await?;
    stage.topology.add_server().await?;
    follow(&stage, 3, 0).await?;
    let told = async |stage: &Stage| Ok(stage.condition("FailoverReady").await?.1 == "CannotFence");
    let told_ms = stage.until("told", PATIENCE, told).await?;
    stage.strike("kill");
    stage.server_mut(0).crash()?;
    stage.unpromoted(5).await?;
    stage.bring_back(0).await?;
    open_by_hand(&stage, 0).await?;
    let report = stage.judge(Expect { failovers: NONE, down: vec![3], ..Expect::default() }).await?;
    Ok(report.noting(format!("CannotFence after {told_ms} ms; the primary came back after 5 s")))
}

async fn again(name: String) -> anyhow::Result<Report> {
    let mut stage = Stage::new(&name, Setup::default()).await?;
    for index in [1, 2] {
        stage.sql(index, &["STOP REPLICA IO_THREAD", "START REPLICA IO_THREAD"]).await?;
    }
    let replicating = async |stage: &Stage| Ok(stage.condition("Replicating").await?.0 == "True");
    stage.until("replicating again", PATIENCE, replicating).await?;
    stage.strike("kill");
    stage.server_mut(0).crash()?;
    stage.failed_over(0, PATIENCE).await?;
    stage.bring_back(0).await?;
    stage.judge(Expect::default()).await
}

async fn switched_off(name: String) -> anyhow::Result<Report> {
    let mut stage = Stage::new(&name, Setup { replicas: 3, ..Setup::default() }).await?;
    let off = ["SET GLOBAL rpl_semi_sync_replica_enabled = OFF", "STOP REPLICA IO_THREAD", "START REPLICA IO_THREAD"];
    stage.sql(2, &off).await?;
    sleep(Duration::from_secs(3)).await;
    stage.strike("part and kill");
    // The one that does not acknowledge is away: it proves nothing, and is not needed.
    stage.part(&[2], &[0, 1, 3], true)?;
    stage.server_mut(0).crash()?;
    stage.failed_over(0, PATIENCE).await?;
    stage.heal()?;
    stage.bring_back(0).await?;
    stage.judge(Expect::default()).await
}

/// Its configuration no longer loads what it acknowledged with.
async fn bare(name: String) -> anyhow::Result<Report> {
    let mut stage = Stage::new(&name, Setup { replicas: 3, ..Setup::default() }).await?;
    stage.server_mut(2).drop_options("semi");
    stage.server_mut(2).crash()?;
    stage.server_mut(2).restart().await?;
    let plugins = "SELECT COUNT(*) FROM information_schema.plugins WHERE plugin_name LIKE 'rpl_semi_sync%'";
    ensure!(stage.server(2).value(plugins).await? == "0", "it has the plugins");
    stage.ready().await?;
    let (_, _, ready) = stage.condition("FailoverReady").await?;
    let (_, _, durable) = stage.condition("Durable").await?;
    stage.strike("part and kill");
    stage.part(&[2], &[0, 1, 3], true)?;
    stage.server_mut(0).crash()?;
    stage.failed_over(0, PATIENCE).await?;
    let record = stage.records().await?.pop().unwrap_or_default();
    let counted = record["ackers"].to_string();
    ensure!(!counted.contains(stage.server(2).addr().host()), "it was counted: {counted}");
    stage.heal()?;
    stage.bring_back(0).await?;
    let report = stage.judge(Expect::default()).await?;
    Ok(report.noting(format!("before: {ready}; {durable}")))
}

/// Nobody acknowledges, and commits wait.
async fn waiting(name: &str) -> anyhow::Result<Stage> {
    let mut stage = Stage::new(name, Setup::default()).await?;
    stage.strike("stop the receivers");
    for index in [1, 2] {
        stage.sql(index, &["STOP REPLICA IO_THREAD"]).await?;
    }
    sleep(Duration::from_millis(500)).await;
    Ok(stage)
}

async fn terminated(name: String) -> anyhow::Result<Report> {
    let mut stage = waiting(&name).await?;
    stage.server_mut(0).terminate()?;
    sleep(Duration::from_secs(2)).await;
    for index in [1, 2] {
        stage.sql(index, &["START REPLICA IO_THREAD"]).await?;
    }
    stage.failed_over(0, PATIENCE).await?;
    stage.bring_back(0).await?;
    let old = stage.server(0).addr().clone();
    let kept = async |stage: &Stage| Ok(quarantined(&stage.status().await?, &old));
    let has_more = stage.until("quarantined", Duration::from_secs(10), kept).await.is_ok();
    let report = stage.judge(Expect { lossy: true, ..Expect::default() }).await?;
    ensure!(report.lost == 0 || has_more, "{} rows lost, and the server that has them is not quarantined", report.lost);
    Ok(report.noting("docs/failure-modes.md, asked to stop"))
}

async fn fenced_first(name: String) -> anyhow::Result<Report> {
    let mut stage = waiting(&name).await?;
    stage.force("drain", None).await?;
    stage.failed_over(0, PATIENCE).await?;
    stage.server_mut(0).terminate()?;
    sleep(Duration::from_secs(3)).await;
    stage.bring_back(0).await?;
    stage.judge(Expect::default()).await
}
