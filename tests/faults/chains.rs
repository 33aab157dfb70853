//! Replicas of replicas, and a primary that is one.

use std::time::Duration;

use anyhow::ensure;
use tokio::time::{Instant, sleep};

use super::{
    judge::{Expect, Report},
    scenario::{Scenario, scenario},
    stage::{PATIENCE, Setup, Stage},
};

const NONE: (usize, usize) = (0, 0);

pub fn scenarios() -> Vec<Scenario> {
    vec![
        scenario("F51", 90, "a replica that others follow dies: they are given another source", intermediate),
        scenario("F51-co-primary", 90, "the primary dies, which replicated from one of its replicas", co_primary),
        scenario(
            "F51-deeper",
            120,
            "0 <- 1 <- 2 <- 3, 0 <- 4: server 2 dies: the one below it is given another source",
            |name| deeper(name, 2),
        ),
        scenario("F51-deeper-top", 120, "the same, server 1 dies: only the one right below it is moved", |name| {
            deeper(name, 1)
        }),
        scenario(
            "F51-deeper-primary",
            120,
            "the same, the primary dies: one of its own replicas takes over, and the chain follows",
            deep_primary,
        ),
    ]
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
    stage.strike("kill");
    stage.server_mut(0).crash()?;
    stage.failed_over(0, PATIENCE).await?;
    stage.bring_back(0).await?;
    stage.judge(Expect::default()).await
}

/// Makes a replica follow another server.
async fn move_below(stage: &Stage, index: usize, source: usize) -> anyhow::Result<()> {
    let follow = format!("CHANGE REPLICATION SOURCE TO SOURCE_HOST='{}'", stage.server(source).addr().host());
    stage.sql(index, &["STOP REPLICA", &follow, "START REPLICA"]).await
}

/// Whom a replica receives from.
async fn source(stage: &Stage, index: usize) -> anyhow::Result<Option<usize>> {
    let status = stage.server(index).query("SHOW REPLICA STATUS").await?;
    let text = |name: &str| status.first().and_then(|row| row.get::<String, _>(name)).unwrap_or_default();
    let found = stage.topology.servers.iter().position(|server| server.addr().host() == text("Source_Host"));
    Ok(found.filter(|_| text("Replica_IO_Running") == "Yes"))
}

async fn intermediate(name: String) -> anyhow::Result<Report> {
    let mut stage = Stage::new(&name, Setup { replicas: 3, ..Setup::default() }).await?;
    move_below(&stage, 3, 1).await?;
    stage.ready().await?;
    stage.strike("kill");
    stage.server_mut(1).crash()?;
    let killed = Instant::now();
    let moved = async |stage: &Stage| Ok(![None, Some(1)].contains(&source(stage, 3).await?));
    stage.until("moved", PATIENCE, moved).await?;
    let moved_ms = killed.elapsed().as_millis();
    stage.server_mut(1).restart().await?;
    let report = stage.judge(Expect { failovers: NONE, pause_ms: Some(1000.0), ..Expect::default() }).await?;
    Ok(report.noting(format!("moved after {moved_ms} ms")))
}

/// 0 <- 1 <- 2 <- 3, and 0 <- 4.
async fn chain(name: &str) -> anyhow::Result<Stage> {
    let stage = Stage::new(name, Setup { replicas: 4, ..Setup::default() }).await?;
    move_below(&stage, 2, 1).await?;
    move_below(&stage, 3, 2).await?;
    let linked = async |stage: &Stage| Ok(source(stage, 2).await? == Some(1) && source(stage, 3).await? == Some(2));
    stage.until("linked", PATIENCE, linked).await?;
    // Baton is to know it, too.
    let seen = async |stage: &Stage| {
        let status = stage.status().await?;
        let source_of = |index: usize| {
            let addr = stage.server(index).addr().to_string();
            let mut servers = status["servers"].as_array().into_iter().flatten();
            servers.find(|server| server["address"] == addr.as_str()).map(|server| server["source"].clone())
        };
        let of = |index: usize| Some(stage.server(index).addr().to_string().into());
        Ok(source_of(2) == of(1) && source_of(3) == of(2))
    };
    stage.until("seen as a chain", PATIENCE, seen).await?;
    stage.ready().await?;
    Ok(stage)
}

async fn deeper(name: String, dies: usize) -> anyhow::Result<Report> {
    let mut stage = chain(&name).await?;
    let below = dies + 1;
    let others: Vec<_> = (1..=4).filter(|index| ![dies, below].contains(index)).collect();
    let sources = async |stage: &Stage| {
        let mut all = Vec::new();
        for index in &others {
            all.push(source(stage, *index).await?);
        }
        anyhow::Ok(all)
    };
    let before = sources(&stage).await?;
    stage.strike("kill");
    stage.server_mut(dies).crash()?;
    let killed = Instant::now();
    let moved = async |stage: &Stage| Ok(![None, Some(dies)].contains(&source(stage, below).await?));
    stage.until("moved", PATIENCE, moved).await?;
    let moved_ms = killed.elapsed().as_millis();
    sleep(Duration::from_secs(2)).await;
    let (after, to) = (sources(&stage).await?, source(&stage, below).await?.unwrap_or_default());
    ensure!(before == after, "servers {others:?} followed {before:?}, and follow {after:?}");
    stage.writes_go_on().await?;
    stage.server_mut(dies).restart().await?;
    let report = stage.judge(Expect { failovers: NONE, pause_ms: Some(1000.0), ..Expect::default() }).await?;
    Ok(report.noting(format!("server {below} follows {to} after {moved_ms} ms")))
}

async fn deep_primary(name: String) -> anyhow::Result<Report> {
    let mut stage = chain(&name).await?;
    stage.strike("kill");
    stage.server_mut(0).crash()?;
    stage.failed_over(0, PATIENCE).await?;
    let chosen = stage.primary().await?;
    ensure!([1, 4].contains(&chosen), "server {chosen} was promoted, which followed another replica");
    stage.writes_go_on().await?;
    let follows = async |stage: &Stage| {
        let (one, two) = (source(stage, 2).await?, source(stage, 3).await?);
        Ok(one.is_some_and(|of| of != 0) && two.is_some_and(|of| of != 0))
    };
    stage.until("following, the chain", PATIENCE, follows).await?;
    let chain = [source(&stage, 2).await?, source(&stage, 3).await?].map(Option::unwrap_or_default);
    stage.bring_back(0).await?;
    let report = stage.judge(Expect::default()).await?;
    Ok(report.noting(format!("promoted {chosen}; 2 follows {}, 3 follows {}", chain[0], chain[1])))
}
