//! Statements that take seconds and transactions of many rows, under way when the primary dies.

use std::time::Duration;

use anyhow::{Context, ensure};
use baton::testing::servers::Account;
use mysql_async::prelude::Queryable;
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};

use super::{
    judge::{Expect, Report, quarantined},
    scenario::{Scenario, scenario},
    stage::{PATIENCE, Setup, Stage},
};

/// Rows of the large table: 2 to the power of this, 200 bytes each.
const DOUBLINGS: u32 = 18;
/// How much of a large transaction a replica has received when the primary dies, in bytes.
const PART: u64 = 5_000_000;
/// Packets of the primary that are lost meanwhile, in percent: else all of it is there within moments.
const LOSS: u32 = 10;
const DDL: &str = "ALTER TABLE app.big ADD COLUMN more INT NOT NULL DEFAULT 7, ALGORITHM=COPY";
const BIG: &str = "INSERT INTO app.big (pad) SELECT pad FROM app.big";
const COLUMNS: &str =
    "SELECT COUNT(*) FROM information_schema.columns WHERE table_schema = 'app' AND table_name = 'big'";
const ROWS: &str = "SELECT COUNT(*) FROM app.big";

pub fn scenarios() -> Vec<Scenario> {
    vec![
        scenario(
            "F44-ddl",
            180,
            "an ALTER TABLE of seconds: no failover; the primary dies in the middle of it: nobody has any of it",
            altering,
        ),
        scenario(
            "F44-ddl-applied",
            180,
            "the primary dies right after an ALTER TABLE, which the replicas take seconds for: it is waited for",
            |name| applied(name, DDL, COLUMNS),
        ),
        scenario(
            "F44-big",
            180,
            "the primary dies while a replica has received half of a large transaction: nobody waits for the rest",
            halfway,
        ),
        scenario(
            "F44-big-applied",
            180,
            "the primary dies right after a large transaction, which the replicas take seconds for: it is waited for",
            |name| applied(name, BIG, ROWS),
        ),
    ]
}

/// A table whose change takes seconds, on all servers.
async fn large(name: &str) -> anyhow::Result<Stage> {
    let stage = Stage::new(name, Setup { writers: 4, rate: 25, ..Setup::default() }).await?;
    let create = "CREATE TABLE app.big (id INT UNSIGNED AUTO_INCREMENT PRIMARY KEY, pad CHAR(200) NOT NULL)";
    stage.sql(0, &[create, "INSERT INTO app.big (pad) VALUES (REPEAT('x', 200))"]).await?;
    for _ in 0..DOUBLINGS {
        stage.sql(0, &[BIG]).await?;
    }
    let rows = (1_u32 << DOUBLINGS).to_string();
    for index in [1, 2] {
        let there = async |stage: &Stage| Ok(stage.server(index).value(ROWS).await? == rows);
        stage.until("filled", PATIENCE, there).await?;
    }
    stage.ready().await?;
    Ok(stage)
}

/// A statement on the primary; gives whether its client was told that it is done.
async fn begin(stage: &Stage, statement: &'static str) -> anyhow::Result<JoinHandle<bool>> {
    let mut session = stage.server(0).connect(Account::Baton).await?;
    Ok(tokio::spawn(async move { session.query_drop(statement).await.is_ok() }))
}

async fn altering(name: String) -> anyhow::Result<Report> {
    let mut stage = large(&name).await?;
    let before = stage.server(0).value(COLUMNS).await?;
    let told = begin(&stage, DDL).await?;
    stage.quiet(1).await?;
    stage.writes_go_on().await?;
    let runs = "SELECT COUNT(*) FROM performance_schema.processlist WHERE info LIKE 'ALTER TABLE app.big%'";
    ensure!(stage.server(0).value(runs).await? == "1" && !told.is_finished(), "it was done too soon");
    stage.strike("kill");
    stage.server_mut(0).crash()?;
    ensure!(!told.await?, "it was acknowledged");
    stage.failed_over(0, PATIENCE).await?;
    stage.bring_back(0).await?;
    for index in 0..3 {
        let now = stage.server(index).value(COLUMNS).await?;
        ensure!(now == before, "server {index} has {now} columns, {before} before");
    }
    stage.judge(Expect::default()).await
}

/// The client was told that it is done, so it is there in the end, however long that takes.
async fn applied(name: String, statement: &'static str, shows: &'static str) -> anyhow::Result<Report> {
    let mut stage = large(&name).await?;
    let before = stage.server(0).value(shows).await?;
    let began = Instant::now();
    ensure!(begin(&stage, statement).await?.await?, "it failed");
    let took_ms = began.elapsed().as_millis();
    stage.strike("kill");
    stage.server_mut(0).crash()?;
    for index in [1, 2] {
        ensure!(stage.server(index).value(shows).await? == before, "server {index} has applied it already");
    }
    stage.failed_over(0, PATIENCE).await?;
    let primary = stage.primary().await?;
    let after = stage.server(primary).value(shows).await?;
    ensure!(after != before, "the new primary lacks what was acknowledged: {after}");
    let record = stage.records().await?.pop().context("no record")?;
    stage.bring_back(0).await?;
    let report = stage.judge(Expect::default()).await?;
    Ok(report.noting(format!(
        "it took the primary {took_ms} ms; chosen after {} ms, writable after {} ms",
        record["timings"]["chosen"], record["timings"]["writable"]
    )))
}

async fn halfway(name: String) -> anyhow::Result<Report> {
    let mut stage = large(&name).await?;
    let before = stage.server(0).value(ROWS).await?;
    let mut replica = stage.server(1).connect(Account::Baton).await?;
    let mut received = async || -> anyhow::Result<u64> {
        let row: Option<mysql_async::Row> = replica.query_first("SHOW REPLICA STATUS").await?;
        row.and_then(|row| row.get("Relay_Log_Space")).context("no relay log")
    };
    stage.host(0).lose(LOSS)?;
    let base = received().await?;
    let told = begin(&stage, BIG).await?;
    let began = Instant::now();
    while received().await? < base + PART {
        ensure!(began.elapsed() < PATIENCE, "nothing of it arrives");
        sleep(Duration::from_millis(2)).await;
    }
    stage.strike("kill");
    stage.server_mut(0).crash()?;
    ensure!(!told.await?, "it was acknowledged");
    let part = (received().await? - base) / 1_000_000;
    stage.failed_over(0, PATIENCE).await?;
    let after = stage.server(stage.primary().await?).value(ROWS).await?;
    ensure!(after == before, "the new primary has {after} rows, {before} before: it had all of it");
    stage.host(0).lose(0)?;
    stage.bring_back(0).await?;
    let old = stage.server(0).addr().clone();
    let kept = async |stage: &Stage| Ok(quarantined(&stage.status().await?, &old));
    stage.until("quarantined with what only it has", PATIENCE, kept).await?;
    let report = stage.judge(Expect::default()).await?;
    Ok(report
        .noting(format!("a replica had received {part} MB of it; the old primary has all of it, and is quarantined")))
}
