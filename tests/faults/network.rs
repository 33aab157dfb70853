//! Networks that part the servers, or the servers from the operators.

use std::time::Duration;

use anyhow::ensure;
use baton::testing::network::Cut;
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::{
    judge::{Expect, Report},
    primary::{HANG_MS, cut_off},
    scenario::{Scenario, scenario},
    stage::{PATIENCE, Setup, Stage},
};

const NONE: (usize, usize) = (0, 0);

pub fn scenarios() -> Vec<Scenario> {
    let one_way = "the primary can send and not receive: its commits cannot be acknowledged";
    vec![
        scenario("F05", 90, "the primary's link is cut both ways", |name| cut_off(name, Setup::default(), Cut::Both)),
        scenario("F06", 90, one_way, |name| cut_off(name, Setup::default(), Cut::Inbound)),
        scenario("F06-out", 90, "the primary can receive and not send", |name| {
            cut_off(name, Setup::default(), Cut::Outbound)
        }),
        scenario("F07", 90, "no operator reaches the primary, the replicas do: no failover", unreachable),
        scenario(
            "F08",
            120,
            "leader and primary on one side, ackers and standby on the other: whoever leads promotes, and only who sees the ackers",
            sides,
        ),
        scenario("F09", 90, "primary and one of two ackers on an island: no failover, writes go on there", island),
        scenario("F10", 120, "W=2 of 4 ackers, the primary is left with one: failover", |name| split(name, &[0, 1])),
        scenario(
            "F10-refused",
            120,
            "W=2 of 4 ackers, the primary is left with two: no failover, writes go on",
            |name| split(name, &[0, 1, 2]),
        ),
        scenario("F42", 180, "the primary's link is 2 s up, 2 s down for a minute: at most one failover", flapping),
        scenario("F55-loss", 120, "5 % of the packets from and to the primary are lost, for 45 s: no failover", lossy),
    ]
}

async fn unreachable(name: String) -> anyhow::Result<Report> {
    let mut stage = Stage::new(&name, Setup::default()).await?;
    stage.strike("part");
    for pod in &stage.pods {
        pod.host.part(&stage.ips(&[0]), Cut::Both)?;
    }
    let told = async |stage: &Stage| Ok(stage.shows("UnreachablePrimary").await?);
    let told_ms = stage.until("told", PATIENCE, told).await?;
    stage.quiet(8).await?;
    stage.writes_go_on().await?;
    stage.heal()?;
    stage.ready().await?;
    let report = stage.judge(Expect { failovers: NONE, pause_ms: Some(500.0), ..Expect::default() }).await?;
    Ok(report.noting(format!("UnreachablePrimary after {told_ms} ms")))
}

async fn sides(name: String) -> anyhow::Result<Report> {
    let mut stage = Stage::new(&name, Setup::default()).await?;
    let leader = stage.leader().await?;
    let ackers = stage.ips(&[1, 2]);
    let standbys: Vec<_> = stage.pods.iter().filter(|pod| pod.number != leader.number).collect();
    let far: Vec<_> = ackers.iter().copied().chain(standbys.iter().map(|pod| pod.host.address())).collect();
    stage.host(0).part(&far, Cut::Both)?;
    leader.host.part(&ackers, Cut::Both)?;
    stage.strike("part");
    stage.unpromoted(6).await?;
    // Now the leader loses the API server too, and the other side leads.
    let far: Vec<_> = ackers.into_iter().chain([stage.outside]).collect();
    leader.host.part(&far, Cut::Both)?;
    let lost = Instant::now();
    stage.failed_over(0, PATIENCE).await?;
    let took_ms = lost.elapsed().as_millis();
    stage.writes_go_on().await?;
    stage.heal()?;
    let report = stage.judge(Expect::default()).await?;
    Ok(report.noting(format!(
        "6 s without a failover are part of the pause; done {took_ms} ms after the leader was cut off"
    )))
}

async fn island(name: String) -> anyhow::Result<Report> {
    let mut stage = Stage::new(&name, Setup::default()).await?;
    stage.strike("part");
    stage.part(&[0, 1], &[2], true)?;
    let told = async |stage: &Stage| Ok(stage.condition("FailoverReady").await?.0 != "True");
    let told_ms = stage.until("told", PATIENCE, told).await?;
    stage.unpromoted(8).await?;
    stage.writes_go_on().await?;
    let (_, reason, _) = stage.condition("FailoverReady").await?;
    ensure!(told_ms <= 5000, "FailoverReady False after {told_ms} ms only");
    stage.heal()?;
    stage.ready().await?;
    let report = stage.judge(Expect { failovers: NONE, pause_ms: Some(1000.0), ..Expect::default() }).await?;
    Ok(report.noting(format!("FailoverReady False, {reason}, after {told_ms} ms")))
}

async fn split(name: String, island: &[usize]) -> anyhow::Result<Report> {
    let setup = Setup { replicas: 4, acks: Some(2), ..Setup::default() };
    let mut stage = Stage::new(&name, setup).await?;
    let others: Vec<_> = (0..5).filter(|index| !island.contains(index)).collect();
    stage.strike("part");
    stage.part(island, &others, true)?;
    if island.len() == 2 {
        stage.failed_over(0, PATIENCE).await?;
        stage.heal()?;
        return stage.judge(Expect { pause_ms: Some(HANG_MS), ..Expect::default() }).await;
    }
    stage.unpromoted(8).await?;
    stage.writes_go_on().await?;
    stage.heal()?;
    stage.ready().await?;
    stage.judge(Expect { failovers: NONE, pause_ms: Some(1000.0), ..Expect::default() }).await
}

async fn flapping(name: String) -> anyhow::Result<Report> {
    let spec = json!({ "failover": { "blockPeriod": "1h" } });
    let mut stage = Stage::new(&name, Setup { spec, ..Setup::default() }).await?;
    stage.strike("flap");
    for _ in 0..15 {
        stage.host(0).cut(Cut::Both)?;
        sleep(Duration::from_secs(2)).await;
        stage.host(0).heal()?;
        sleep(Duration::from_secs(2)).await;
    }
    stage.judge(Expect { failovers: (0, 1), ..Expect::default() }).await
}

async fn lossy(name: String) -> anyhow::Result<Report> {
    let mut stage = Stage::new(&name, Setup::default()).await?;
    stage.strike("loss");
    stage.host(0).lose(5)?;
    stage.quiet(45).await?;
    stage.writes_go_on().await?;
    stage.host(0).lose(0)?;
    stage.ready().await?;
    stage.judge(Expect { failovers: NONE, pause_ms: Some(2000.0), ..Expect::default() }).await
}
