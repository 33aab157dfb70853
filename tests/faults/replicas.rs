//! Replicas that are not what they seem: broken relay logs, backlogs, transactions of their own, purged logs.

use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::time::{Instant, sleep};

use super::{
    judge::{Expect, Report},
    primary::HANG_MS,
    scenario::{Scenario, scenario},
    stage::{PATIENCE, Setup, Stage},
};

const NONE: (usize, usize) = (0, 0);

pub fn scenarios() -> Vec<Scenario> {
    vec![
        scenario("F22", 90, "the relay log of one acker is broken: the other, which has as much, is promoted", corrupt),
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
        scenario("F51", 90, "a replica that others follow dies: they are given another source", intermediate),
        scenario("F51-co-primary", 90, "the primary dies, which replicated from one of its replicas", co_primary),
        scenario("F29", 90, "a replica was reset: it is not behind, it is no candidate", reset),
    ]
}

async fn die(stage: &mut Stage) -> anyhow::Result<()> {
    stage.strike("kill");
    stage.server_mut(0).crash()?;
    Ok(())
}

async fn corrupt(name: String) -> anyhow::Result<Report> {
    let mut stage = Stage::new(&name, Setup { writers: 2, replicas: 3, ..Setup::default() }).await?;
    stage.sql(1, &["STOP REPLICA SQL_THREAD"]).await?;
    stage.writes_go_on().await?;
    // Same sets: both have received all there is.
    stage.host(0).part(&[stage.outside], baton::testing::network::Cut::Inbound)?;
    sleep(Duration::from_millis(700)).await;
    let status = stage.server(1).query("SHOW REPLICA STATUS").await?;
    let file: String = status.first().and_then(|row| row.get("Relay_Log_File")).context("no relay log")?;
    let position: u64 = status.first().and_then(|row| row.get("Relay_Log_Pos")).context("no position")?;
    let broken = format!("dd if=/dev/urandom of={{data}}/{file} bs=1 seek={} count=200 conv=notrunc", position + 30);
    stage.server(1).run_beside(&["sh", "-c", &broken])?;
    die(&mut stage).await?;
    stage.failed_over(0, PATIENCE).await?;
    ensure!(stage.primary().await? != 1, "the one with the broken relay log was promoted");
    stage.host(0).heal()?;
    stage.bring_back(0).await?;
    stage.judge(Expect { down: vec![1], ..Expect::default() }).await
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

/// Makes a server that has no source replicate from another.
pub async fn follow(stage: &Stage, index: usize, source: usize) -> anyhow::Result<()> {
    let source = stage.server(source).addr();
    let follow = format!(
        "CHANGE REPLICATION SOURCE TO SOURCE_HOST='{}', SOURCE_PORT={}, SOURCE_USER='repl', SOURCE_PASSWORD='repl', \
         SOURCE_AUTO_POSITION=1, GET_SOURCE_PUBLIC_KEY=1, SOURCE_CONNECT_RETRY=1",
        source.host(),
        source.port()
    );
    stage.sql(index, &[&follow, "START REPLICA"]).await
}

/// The primary replicates from one of its replicas, too.
async fn co_primary(name: String) -> anyhow::Result<Report> {
    let mut stage = Stage::new(&name, Setup::default()).await?;
    follow(&stage, 0, 1).await?;
    let of = stage.server(1).addr().to_string();
    let known = async |stage: &Stage| {
        let status = stage.status().await?;
        let mut servers = status["servers"].as_array().into_iter().flatten();
        Ok(servers.any(|server| server["address"] == of.as_str() && server["role"] == "CoPrimary"))
    };
    stage.until("seen as a co-primary", PATIENCE, known).await?;
    die(&mut stage).await?;
    stage.failed_over(0, PATIENCE).await?;
    stage.bring_back(0).await?;
    stage.judge(Expect::default()).await
}

async fn intermediate(name: String) -> anyhow::Result<Report> {
    let mut stage = Stage::new(&name, Setup { replicas: 3, ..Setup::default() }).await?;
    let follow = format!("CHANGE REPLICATION SOURCE TO SOURCE_HOST='{}'", stage.server(1).addr().host());
    stage.sql(3, &["STOP REPLICA", &follow, "START REPLICA"]).await?;
    stage.ready().await?;
    stage.strike("kill");
    stage.server_mut(1).crash()?;
    let killed = Instant::now();
    let gone = stage.server(1).addr().host().to_owned();
    let moved = async |stage: &Stage| {
        let status = stage.server(3).query("SHOW REPLICA STATUS").await?;
        let text = |name: &str| status.first().and_then(|row| row.get::<String, _>(name)).unwrap_or_default();
        Ok(text("Source_Host") != gone && text("Replica_IO_Running") == "Yes")
    };
    stage.until("moved", PATIENCE, moved).await?;
    let moved_ms = killed.elapsed().as_millis();
    stage.server_mut(1).restart().await?;
    let report = stage.judge(Expect { failovers: NONE, pause_ms: Some(1000.0), ..Expect::default() }).await?;
    Ok(report.noting(format!("moved after {moved_ms} ms")))
}
