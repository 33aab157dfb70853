//! Replicas that are not what they seem: broken relay logs, backlogs, transactions of their own, purged logs.

use std::time::Duration;

use anyhow::{Context, ensure};
use baton::testing::network::Cut;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{
    ackers::open_by_hand,
    judge::{Expect, Report, quarantined},
    primary::HANG_MS,
    scenario::{Scenario, scenario},
    stage::{PATIENCE, SHOP, Setup, Stage},
};

const NONE: (usize, usize) = (0, 0);

pub fn scenarios() -> Vec<Scenario> {
    vec![
        scenario("F22", 90, "the relay log of one acker is broken: the other, which has as much, is promoted", corrupt),
        scenario(
            "F22-none",
            120,
            "the relay logs of all that have everything are broken: nobody is promoted, and the transactions are named",
            all_corrupt,
        ),
        scenario(
            "F22-accepted",
            150,
            "the same, and the owner accepts the loss then: the sound one is promoted, and what is lost is named",
            accepted,
        ),
        scenario("F23", 120, "every applier has a backlog of 10 s: it is applied before anybody writes", backlog),
        scenario("F24", 90, "a replica that is behind and stuck cannot win: nobody waits for it", laggard),
        scenario(
            "F25",
            90,
            "one executed more, the other received more: the one that received more wins",
            received_more,
        ),
        scenario("F26", 90, "each replica has a transaction of its own: nobody is promoted", incomparable),
        scenario("F27", 90, "one replica has a transaction of its own: told before, the other is promoted", errant),
        scenario(
            "F28",
            90,
            "a replica needs binary logs that are purged: the failover goes on, the replica is listed",
            purged,
        ),
        scenario("F29", 90, "a replica was reset: it is not behind, it is no candidate", reset),
        scenario("F29-wiped", 120, "a replica comes back with an empty data directory: told, and no candidate", wiped),
        scenario(
            "F29-wiped-dead",
            120,
            "an acker loses its data directory while the primary dies: nobody is promoted until the primary is back",
            wiped_with_primary,
        ),
    ]
}

async fn die(stage: &mut Stage) -> anyhow::Result<()> {
    stage.strike("kill");
    stage.server_mut(0).crash()?;
    Ok(())
}

/// Overwrites what a stopped applier would read next.
async fn break_relay_log(stage: &Stage, index: usize) -> anyhow::Result<()> {
    let status = stage.server(index).query("SHOW REPLICA STATUS").await?;
    let file: String = status.first().and_then(|row| row.get("Relay_Log_File")).context("no relay log")?;
    let position: u64 = status.first().and_then(|row| row.get("Relay_Log_Pos")).context("no position")?;
    let broken = format!("dd if=/dev/urandom of={{data}}/{file} bs=1 seek={} count=200 conv=notrunc", position + 30);
    stage.server(index).run_beside(&["sh", "-c", &broken])?;
    Ok(())
}

async fn corrupt(name: String) -> anyhow::Result<Report> {
    let mut stage = Stage::new(&name, Setup { writers: 2, replicas: 3, ..Setup::default() }).await?;
    stage.sql(1, &["STOP REPLICA SQL_THREAD"]).await?;
    stage.writes_go_on().await?;
    // Same sets: both have received all there is.
    stage.host(0).part(&[stage.outside], Cut::Inbound)?;
    sleep(Duration::from_millis(700)).await;
    break_relay_log(&stage, 1).await?;
    die(&mut stage).await?;
    stage.failed_over(0, PATIENCE).await?;
    ensure!(stage.primary().await? != 1, "the one with the broken relay log was promoted");
    stage.host(0).heal()?;
    stage.bring_back(0).await?;
    stage.judge(Expect { down: vec![1], ..Expect::default() }).await
}

/// The relay logs of two replicas are broken; a third one is sound, and lacks rows that were acknowledged. Gives what
/// it lacks once the failover was refused.
async fn refused(name: &str) -> anyhow::Result<(Stage, String, u128)> {
    let mut stage = Stage::new(name, Setup { writers: 2, replicas: 3, ..Setup::default() }).await?;
    stage.sql(3, &["STOP REPLICA IO_THREAD"]).await?;
    for index in [1, 2] {
        stage.sql(index, &["STOP REPLICA SQL_THREAD"]).await?;
    }
    stage.writes_go_on().await?;
    stage.host(0).part(&[stage.outside], Cut::Inbound)?;
    sleep(Duration::from_millis(700)).await;
    for index in [1, 2] {
        break_relay_log(&stage, index).await?;
    }
    die(&mut stage).await?;
    let refused = async |stage: &Stage| Ok(stage.records().await?.last().is_some_and(|one| one["phase"] == "Refused"));
    let told_ms = stage.until("refused", PATIENCE, refused).await?;
    stage.unpromoted(5).await?;
    // The sound one may have got meanwhile what another one had applied before its relay log was broken.
    let received = "SELECT RECEIVED_TRANSACTION_SET FROM performance_schema.replication_connection_status";
    let (all, sound) = (stage.server(1).value(received).await?, stage.server(3).value(received).await?);
    let missing = format!("SELECT GTID_SUBTRACT(GTID_SUBTRACT('{all}', '{sound}'), @@gtid_executed)");
    let missing = stage.server(3).value(&missing).await?;
    ensure!(!missing.is_empty(), "the sound one lacks nothing");
    Ok((stage, missing, told_ms))
}

/// The primary is back with all there is; broken relay logs are fetched from it anew.
async fn all_corrupt(name: String) -> anyhow::Result<Report> {
    let (mut stage, missing, told_ms) = refused(&name).await?;
    let record = stage.records().await?.pop().unwrap_or_default();
    let (message, candidates) = (record["message"].to_string(), record["candidates"].to_string());
    ensure!(message.contains(&format!(": {missing}\"")), "{missing} are not named: {message}");
    ensure!(candidates.matches("applier stopped with error").count() == 2, "not told which are broken: {candidates}");
    let (status, reason, _) = stage.condition("FailoverReady").await?;
    ensure!(status == "False", "FailoverReady is {status}: {reason}");
    stage.heal()?;
    stage.bring_back(0).await?;
    open_by_hand(&stage, 0).await?;
    for index in [1, 2] {
        stage.sql(index, &["STOP REPLICA", "RESET REPLICA", "START REPLICA"]).await?;
    }
    stage.sql(3, &["START REPLICA IO_THREAD"]).await?;
    let report = stage.judge(Expect { failovers: NONE, ..Expect::default() }).await?;
    Ok(report.noting(format!("{reason}; refused after {told_ms} ms: {message}")))
}

/// The owner would rather lose them than wait. Broken relay logs are thrown away.
async fn accepted(name: String) -> anyhow::Result<Report> {
    let (mut stage, missing, _) = refused(&name).await?;
    let cluster = stage.kubernetes.get("MysqlCluster", SHOP).await?.context("there is no MysqlCluster")?;
    let mut spec = cluster.data["spec"].clone();
    spec["failover"]["dataLoss"] = json!("Accept");
    let object = json!({ "apiVersion": "mysql.baton.dev/v1alpha1", "kind": "MysqlCluster",
        "metadata": { "name": SHOP }, "spec": spec });
    stage.kubernetes.apply("MysqlCluster", object).await?;
    stage.failed_over(0, PATIENCE).await?;
    ensure!(stage.primary().await? == 3, "a server with a broken relay log was promoted");
    let lost = stage.records().await?.pop().unwrap_or_default()["lost"].to_string();
    ensure!(lost.contains(&missing), "{missing} are lost, and the record says {lost}");
    stage.heal()?;
    stage.bring_back(0).await?;
    let old = stage.server(0).addr().clone();
    let kept = async |stage: &Stage| Ok(quarantined(&stage.status().await?, &old));
    stage.until("quarantined with what was lost", PATIENCE, kept).await?;
    let report = stage.judge(Expect { down: vec![1, 2], lossy: true, ..Expect::default() }).await?;
    ensure!(report.lost > 0, "nothing was lost");
    Ok(report.noting(format!("the record says lost {lost}; the old primary has it, and is quarantined")))
}

async fn backlog(name: String) -> anyhow::Result<Report> {
    let mut stage = Stage::new(&name, Setup::default()).await?;
    for index in [1, 2] {
        stage.sql(index, &["STOP REPLICA SQL_THREAD"]).await?;
    }
    sleep(Duration::from_secs(10)).await;
    die(&mut stage).await?;
    stage.failed_over(0, PATIENCE).await?;
    stage.bring_back(0).await?;
    stage.judge(Expect::default()).await
}

async fn laggard(name: String) -> anyhow::Result<Report> {
    let mut stage = Stage::new(&name, Setup { replicas: 3, ..Setup::default() }).await?;
    // Its applier waits for the lock, and it receives nothing more.
    let mut session = stage.server(3).connect(baton::testing::servers::Account::Baton).await?;
    mysql_async::prelude::Queryable::query_drop(&mut session, "FLUSH TABLES WITH READ LOCK").await?;
    sleep(Duration::from_secs(1)).await;
    stage.sql(3, &["STOP REPLICA IO_THREAD"]).await?;
    stage.writes_go_on().await?;
    die(&mut stage).await?;
    stage.until("writing again", PATIENCE, async |stage| Ok(stage.primary().await? != 0)).await?;
    stage.writes_go_on().await?;
    drop(session);
    stage.failed_over(0, PATIENCE).await?;
    stage.bring_back(0).await?;
    stage.judge(Expect { pause_ms: Some(HANG_MS), ..Expect::default() }).await
}

async fn received_more(name: String) -> anyhow::Result<Report> {
    let mut stage = Stage::new(&name, Setup::default()).await?;
    stage.sql(1, &["STOP REPLICA SQL_THREAD"]).await?;
    stage.writes_go_on().await?;
    stage.sql(2, &["STOP REPLICA IO_THREAD"]).await?;
    stage.writes_go_on().await?;
    die(&mut stage).await?;
    stage.failed_over(0, PATIENCE).await?;
    ensure!(stage.primary().await? == 1, "the one that received less was promoted");
    stage.bring_back(0).await?;
    stage.judge(Expect::default()).await
}

/// A transaction that only this replica has.
pub async fn stray(stage: &Stage, index: usize) -> anyhow::Result<()> {
    let create = format!("CREATE DATABASE stray{index}");
    stage.sql(index, &["SET GLOBAL super_read_only = OFF", &create, "SET GLOBAL super_read_only = ON"]).await
}

async fn incomparable(name: String) -> anyhow::Result<Report> {
    let mut stage = Stage::new(&name, Setup::default()).await?;
    for index in [1, 2] {
        stray(&stage, index).await?;
    }
    let told = async |stage: &Stage| Ok(stage.condition("FailoverReady").await?.0 != "True");
    stage.until("told", PATIENCE, told).await?;
    let (_, reason, message) = stage.condition("FailoverReady").await?;
    die(&mut stage).await?;
    stage.unpromoted(5).await?;
    stage.bring_back(0).await?;
    stage.sql(0, &["SET GLOBAL rpl_semi_sync_source_enabled = ON", "SET GLOBAL read_only = OFF"]).await?;
    let report = stage.judge(Expect { failovers: NONE, down: vec![1, 2], ..Expect::default() }).await?;
    Ok(report.noting(format!("before: {reason}, {}", message.replace('|', "/"))))
}

async fn errant(name: String) -> anyhow::Result<Report> {
    let mut stage = Stage::new(&name, Setup { replicas: 3, ..Setup::default() }).await?;
    stray(&stage, 1).await?;
    let told = async |stage: &Stage| Ok(stage.shows("ErrantTransactions").await?);
    let told_ms = stage.until("told", PATIENCE, told).await?;
    die(&mut stage).await?;
    stage.failed_over(0, PATIENCE).await?;
    ensure!(stage.primary().await? != 1, "the one with a transaction of its own was promoted");
    stage.bring_back(0).await?;
    let report = stage.judge(Expect { down: vec![1], ..Expect::default() }).await?;
    Ok(report.noting(format!("ErrantTransactions after {told_ms} ms")))
}

async fn purged(name: String) -> anyhow::Result<Report> {
    let mut stage = Stage::new(&name, Setup { replicas: 3, ..Setup::default() }).await?;
    stage.sql(3, &["STOP REPLICA IO_THREAD"]).await?;
    stage.writes_go_on().await?;
    sleep(Duration::from_millis(500)).await;
    for index in [1, 2] {
        stage.sql(index, &["FLUSH BINARY LOGS", "PURGE BINARY LOGS BEFORE NOW() + INTERVAL 1 DAY"]).await?;
    }
    die(&mut stage).await?;
    let killed = Instant::now();
    stage.failed_over(0, PATIENCE).await?;
    let took_ms = killed.elapsed().as_millis();
    let records = stage.records().await?;
    let lost = records.last().map(|record| record["lostReplicas"].to_string()).unwrap_or_default();
    ensure!(lost.contains(stage.server(3).addr().host()), "lost replicas are {lost}: {records:?}");
    stage.bring_back(0).await?;
    let report = stage.judge(Expect { down: vec![3], ..Expect::default() }).await?;
    Ok(report.noting(format!("listed as lost; done after {took_ms} ms")))
}

async fn reset(name: String) -> anyhow::Result<Report> {
    let mut stage = Stage::new(&name, Setup { replicas: 3, ..Setup::default() }).await?;
    stage.sql(1, &["STOP REPLICA", "RESET BINARY LOGS AND GTIDS"]).await?;
    sleep(Duration::from_secs(2)).await;
    die(&mut stage).await?;
    stage.failed_over(0, PATIENCE).await?;
    ensure!(stage.primary().await? != 1, "an empty server was promoted");
    stage.bring_back(0).await?;
    stage.judge(Expect { down: vec![1], ..Expect::default() }).await
}

/// A new disk: the server as it was when it was installed, with another UUID and without a source.
async fn wipe(stage: &mut Stage, index: usize) -> anyhow::Result<()> {
    sleep(Duration::from_millis(500)).await;
    let template = stage.server(index).series().folder()?.join("template");
    let anew = format!("rm -rf {{data}} && cp -a --sparse=always {} {{data}}", template.display());
    stage.server(index).run_beside(&["sh", "-c", &anew])?;
    stage.server_mut(index).restart().await?;
    let has = stage.server(index).value("SELECT @@gtid_executed").await?;
    ensure!(has.is_empty(), "it is not new: {has}");
    Ok(())
}

/// Whether the cluster's status says that the server has nothing.
async fn shown_empty(stage: &Stage, index: usize) -> anyhow::Result<bool> {
    let (status, addr) = (stage.status().await?, stage.server(index).addr().to_string());
    let mut servers = status["servers"].as_array().into_iter().flatten();
    let empty = |server: &Value| server["problems"].to_string().contains("it has no transactions");
    Ok(servers.any(|server| server["address"] == addr.as_str() && empty(server)))
}

async fn wiped(name: String) -> anyhow::Result<Report> {
    let mut stage = Stage::new(&name, Setup { replicas: 3, ..Setup::default() }).await?;
    let uuid = stage.server(1).value("SELECT @@server_uuid").await?;
    stage.server_mut(1).crash()?;
    wipe(&mut stage, 1).await?;
    ensure!(stage.server(1).value("SELECT @@server_uuid").await? != uuid, "it has the UUID that it had");
    let told = async |stage: &Stage| shown_empty(stage, 1).await;
    let told_ms = stage.until("told", PATIENCE, told).await?;
    let (_, reason, message) = stage.condition("Replicating").await?;
    let addr = stage.server(1).addr().to_string();
    ensure!(reason == "NotReplicating" && message.contains(&addr), "{reason}: {message}");
    // Ready without it: the others have all that it may have acknowledged.
    stage.ready().await?;
    stage.writes_go_on().await?;
    die(&mut stage).await?;
    stage.failed_over(0, PATIENCE).await?;
    ensure!(stage.primary().await? != 1, "an empty server was promoted");
    stage.bring_back(0).await?;
    let report = stage.judge(Expect { down: vec![1], ..Expect::default() }).await?;
    Ok(report.noting(format!("told {told_ms} ms after it answered")))
}

/// What it acknowledged since it was last looked at may have been on it alone, and on the primary that is gone.
async fn wiped_with_primary(name: String) -> anyhow::Result<Report> {
    let mut stage = Stage::new(&name, Setup::default()).await?;
    stage.strike("kill both");
    stage.server_mut(0).crash()?;
    stage.server_mut(1).crash()?;
    wipe(&mut stage, 1).await?;
    let told = async |stage: &Stage| shown_empty(stage, 1).await;
    let told_ms = stage.until("told", PATIENCE, told).await?;
    stage.unpromoted(8).await?;
    let (_, reason, message) = stage.condition("FailoverReady").await?;
    ensure!(reason == "CannotFence", "{reason}: {message}");
    stage.bring_back(0).await?;
    open_by_hand(&stage, 0).await?;
    let report = stage.judge(Expect { failovers: NONE, down: vec![1], ..Expect::default() }).await?;
    Ok(report.noting(format!("told {told_ms} ms after it answered: {}", message.replace('|', "/"))))
}
