//! The operator freezes at some points of a failover, or believes that it leads.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use baton::testing::{api_proxy::Trouble, network::Cut, process::Signal, process::run};
use tokio::time::sleep;

use super::{
    ackers::open_by_hand,
    judge::{Expect, Report, is_writable},
    scenario::{Scenario, scenario},
    stage::{PATIENCE, Setup, Stage},
};

pub fn scenarios() -> Vec<Scenario> {
    vec![
        scenario(
            "F33",
            90,
            "the standby sees a Lease that stands still, and believes that it leads too: one promotion",
            forged,
        ),
        scenario(
            "F39",
            90,
            "the leader loses the API server and keeps the servers, then the primary dies: one promotion",
            deaf,
        ),
        scenario("F40-choice", 120, "the chosen server dies before its relay log is applied", |name| {
            candidate(name, "before:Save:Promoting")
        }),
        scenario("F40-applied", 120, "the chosen server dies before it is made writable", |name| {
            candidate(name, "before:WriteEpoch")
        }),
        scenario(
            "F40-writable",
            120,
            "the chosen server dies right after it was made writable: with one replica left it stays the primary, and a person opens it",
            |name| candidate(name, "after:Unfence"),
        ),
        scenario("F41-fencing", 90, "the old primary is back while the replicas are fenced", |name| {
            back(name, "before:StopReceiver")
        }),
        scenario("F41-promoting", 90, "the old primary is back before the new one is claimed", |name| {
            back(name, "before:Claim")
        }),
        scenario("F41-writable", 90, "the old primary is back right after the new one was made writable", |name| {
            back(name, "after:Unfence")
        }),
        scenario("F53", 90, "leader and primary die together", |name| both(name, Signal::Kill)),
        scenario(
            "F53-cut",
            120,
            "leader and primary are cut off together, without a FIN or RST, and are back after the failover: fenced",
            |name| cut_off(name, false),
        ),
        scenario(
            "F53-gone",
            120,
            "the same, and neither of them runs any more: the machine is gone, and the primary boots later",
            |name| cut_off(name, true),
        ),
        scenario("F53-freeze", 90, "leader and primary freeze together", |name| both(name, Signal::Stop)),
    ]
}

/// The leader is to freeze at `point`.
async fn set(name: &str, point: &str) -> anyhow::Result<Stage> {
    let mut stage = Stage::new(name, Setup::default()).await?;
    ensure!(stage.leader().await?.number == 0, "another operator leads");
    stage.pods[0].arm(&[format!("STOP {point}")])?;
    stage.strike("kill");
    Ok(stage)
}

/// Waits until the leader has frozen.
pub async fn frozen(stage: &Stage, leader: usize, point: &str) -> anyhow::Result<()> {
    let struck = async |stage: &Stage| Ok(stage.pods[leader].is_frozen());
    stage.until(&format!("frozen {point}"), Duration::from_secs(10), struck).await?;
    Ok(())
}

async fn forged(name: String) -> anyhow::Result<Report> {
    let mut stage = Stage::new(&name, Setup::default()).await?;
    let standby = &stage.pods[1];
    ensure!(stage.leader().await?.number == 0, "the second operator leads");
    standby.api.trouble(|call| (call.resource == "leases").then_some(Trouble::Forged));
    standby.api.cut_watches();
    let url = format!("http://{}:9090/metrics", standby.host.address());
    let leads = async |_: &Stage| Ok(run("curl", &["-s", &url])?.contains("baton_leader 1"));
    stage.until("led by two", PATIENCE, leads).await?;
    stage.strike("kill");
    stage.server_mut(0).crash()?;
    stage.failed_over(0, PATIENCE).await?;
    stage.writes_go_on().await?;
    stage.pods[1].api.calm();
    stage.bring_back(0).await?;
    stage.judge(Expect::of_another_leader()).await
}

async fn deaf(name: String) -> anyhow::Result<Report> {
    let mut stage = Stage::new(&name, Setup::default()).await?;
    let leader = stage.leader().await?;
    leader.host.part(&[stage.outside], Cut::Both)?;
    sleep(Duration::from_millis(500)).await;
    stage.strike("kill");
    stage.server_mut(0).crash()?;
    stage.failed_over(0, PATIENCE).await?;
    stage.heal()?;
    stage.bring_back(0).await?;
    stage.judge(Expect::of_another_leader()).await
}

/// The candidate dies while the leader stands still at `point`.
async fn candidate(name: String, point: &'static str) -> anyhow::Result<Report> {
    let mut stage = set(&name, point).await?;
    stage.server_mut(0).crash()?;
    frozen(&stage, 0, point).await?;
    let addresses = [1, 2].map(|index| stage.server(index).addr().to_string());
    // Who was chosen is in the record, or not written down yet: then the first of equals.
    let record = stage.records().await?.pop().context("no record")?;
    let chosen = record["newPrimary"].as_str().unwrap_or(&addresses[0]);
    let chosen = stage.index_of(chosen).context("a stranger was chosen")?;
    stage.server_mut(chosen).crash()?;
    sleep(Duration::from_millis(300)).await;
    stage.pods[0].signal(Signal::Continue)?;
    sleep(Duration::from_secs(4)).await;
    stage.server_mut(chosen).restart().await?;
    if point == "after:Unfence" {
        // It boots read-only, as it should, and only one replica is left: nobody can be promoted but that one.
        let named = async |stage: &Stage| {
            let records = stage.records().await?;
            Ok(records.iter().any(|record| record["message"].as_str().is_some_and(|told| told.contains("open it"))))
        };
        stage.until("told to open it", PATIENCE, named).await?;
        open_by_hand(&stage, chosen).await?;
    }
    let settled = async |stage: &Stage| {
        let records = stage.records().await?;
        Ok(records.iter().any(|record| record["phase"] == "Succeeded") && stage.primary().await? != 0)
    };
    stage.until("failed over", PATIENCE, settled).await?;
    stage.bring_back(0).await?;
    let report = stage.judge(Expect { failovers: (1, 2), ..Expect::default() }).await?;
    Ok(report.noting("the chosen server was away for 4 s"))
}

/// The old primary is reachable again while the leader stands still at `point`.
async fn back(name: String, point: &'static str) -> anyhow::Result<Report> {
    let stage = set(&name, point).await?;
    stage.host(0).cut(Cut::Both)?;
    frozen(&stage, 0, point).await?;
    stage.host(0).heal()?;
    sleep(Duration::from_millis(300)).await;
    stage.pods[0].signal(Signal::Continue)?;
    let settled = async |stage: &Stage| {
        let records = stage.records().await?;
        Ok(records
            .iter()
            .all(|record| ["Succeeded", "Failed", "Refused"].iter().any(|phase| record["phase"] == *phase)))
    };
    stage.until("settled", PATIENCE, settled).await?;
    stage.judge(Expect { failovers: (0, 1), ..Expect::of_another_leader() }).await
}

async fn both(name: String, signal: Signal) -> anyhow::Result<Report> {
    let mut stage = Stage::new(&name, Setup::default()).await?;
    let leader = stage.leader().await?;
    stage.strike("both");
    if signal == Signal::Kill {
        leader.kill()?;
        stage.server_mut(0).crash()?;
    } else {
        leader.signal(signal)?;
        stage.server_mut(0).freeze()?;
    }
    stage.failed_over(0, PATIENCE).await?;
    if signal == Signal::Kill {
        stage.bring_back(0).await?;
    } else {
        leader.signal(Signal::Continue)?;
        stage.server_mut(0).thaw()?;
    }
    stage.judge(Expect::of_another_leader()).await
}

/// All that is on one machine is out of reach at once; nobody is told.
async fn cut_off(name: String, gone: bool) -> anyhow::Result<Report> {
    let mut stage = Stage::new(&name, Setup::default()).await?;
    let leader = stage.leader().await?;
    let starts = leader.starts();
    stage.strike("cut both");
    leader.host.cut(Cut::Both)?;
    stage.host(0).cut(Cut::Both)?;
    if gone {
        leader.kill()?;
        stage.server_mut(0).crash()?;
    }
    stage.failed_over(0, PATIENCE).await?;
    ensure!(stage.leader().await?.number != leader.number, "who is cut off still leads");
    let expect = Expect::of_another_leader();
    if gone {
        stage.heal()?;
        stage.bring_back(0).await?;
        return stage.judge(expect).await;
    }
    let ended = async |_: &Stage| Ok(leader.starts() > starts);
    stage.until("ended, the old leader", PATIENCE, ended).await?;
    stage.heal()?;
    let healed = Instant::now();
    let fenced = async |stage: &Stage| Ok(!is_writable(stage.server(0)).await?);
    stage.until("fenced", PATIENCE, fenced).await?;
    let fenced_ms = healed.elapsed().as_millis();
    let report = stage.judge(expect).await?;
    Ok(report.noting(format!("fenced {fenced_ms} ms after it was back")))
}
