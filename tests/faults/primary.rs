//! The primary dies or hangs.

use std::time::Duration;

use anyhow::ensure;
use baton::testing::{network::Cut, series::Series};
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::{
    judge::{Expect, Report, is_writable},
    scenario::{Scenario, scenario},
    stage::{PATIENCE, Setup, Stage},
};

/// Longest pause of writes when a process dies, and when it hangs or is cut off, in milliseconds: goals of
/// which the time that clients wait for an answer is a part.
pub const CRASH_MS: f64 = 1200.0;
pub const HANG_MS: f64 = 2500.0;

pub fn scenarios() -> Vec<Scenario> {
    let old = |series| Setup { series, acks: None, ..Setup::default() };
    vec![
        scenario("F01", 90, "SIGKILL of the primary, 8 writers: the old one rejoins or is quarantined", |name| {
            killed(name, Setup::default())
        }),
        scenario("F01-idle", 90, "the same, nobody writes", |name| {
            killed(name, Setup { writers: 0, ..Setup::default() })
        }),
        scenario("F01-64", 90, "the same, 64 writers", |name| killed(name, Setup { writers: 64, ..Setup::default() })),
        scenario("F01-5.6", 90, "the same, MySQL 5.6.24, asynchronous", move |name| killed(name, old(Series::Mysql56))),
        scenario("F01-kept", 90, "the same, semi-sync is set and kept by Baton", |name| {
            let spec = json!({ "durability": { "mode": "SemiSync", "acks": 1 } });
            killed(name, Setup { spec, ..Setup::default() })
        }),
        scenario("F01-mariadb", 90, "the same, MariaDB 10.11, asynchronous", move |name| {
            killed(name, old(Series::MariaDb1011))
        }),
        scenario("F02", 120, "SIGKILL of the new primary right after the failover: a second one", twice),
        scenario("F03", 120, "the primary hangs and wakes up after the failover: fenced within 1 s", |name| {
            woken(name, Setup::default())
        }),
        scenario("F03-5.6", 120, "the same, MySQL 5.6.24, asynchronous", move |name| woken(name, old(Series::Mysql56))),
        scenario("F04", 90, "the primary hangs for 200 ms, five times: no failover", short),
        scenario("F04-long", 150, "the primary hangs for 1 s, then for 3 s: two failovers at most", long),
        scenario("F05-5.6", 90, "the primary's link is cut, MySQL 5.6.24, asynchronous", move |name| {
            cut_off(name, old(Series::Mysql56), Cut::Both)
        }),
    ]
}

async fn killed(name: String, setup: Setup) -> anyhow::Result<Report> {
    let lossy = setup.acks.is_none();
    let mut stage = Stage::new(&name, setup).await?;
    stage.strike("kill");
    stage.server_mut(0).crash()?;
    stage.failed_over(0, PATIENCE).await?;
    stage.settled().await;
    stage.bring_back(0).await?;
    stage.judge(Expect { pause_ms: Some(CRASH_MS), lossy, ..Expect::default() }).await
}

async fn twice(name: String) -> anyhow::Result<Report> {
    let mut stage = Stage::new(&name, Setup { replicas: 3, ..Setup::default() }).await?;
    stage.strike("kill");
    stage.server_mut(0).crash()?;
    stage.failed_over(0, PATIENCE).await?;
    let second = stage.primary().await?;
    stage.server_mut(second).crash()?;
    stage.failed_over(second, PATIENCE).await?;
    stage.bring_back(0).await?;
    stage.server_mut(second).restart().await?;
    stage.judge(Expect { failovers: (2, 2), pause_ms: Some(CRASH_MS), ..Expect::default() }).await
}

async fn woken(name: String, setup: Setup) -> anyhow::Result<Report> {
    let lossy = setup.acks.is_none();
    let mut stage = Stage::new(&name, setup).await?;
    stage.strike("freeze");
    stage.server_mut(0).freeze()?;
    stage.failed_over(0, PATIENCE).await?;
    sleep(Duration::from_secs(5)).await;
    stage.server_mut(0).thaw()?;
    let thawed = Instant::now();
    let fenced = async |stage: &Stage| Ok(!is_writable(stage.server(0)).await?);
    stage.until("fenced", PATIENCE, fenced).await?;
    let fenced_ms = thawed.elapsed().as_millis();
    ensure!(fenced_ms <= 1000, "fenced {fenced_ms} ms after it woke up");
    let report = stage.judge(Expect { pause_ms: Some(HANG_MS), lossy, ..Expect::default() }).await?;
    Ok(report.noting(format!("fenced {fenced_ms} ms after it woke up")))
}

async fn short(name: String) -> anyhow::Result<Report> {
    let mut stage = Stage::new(&name, Setup::default()).await?;
    stage.strike("freeze");
    for _ in 0..5 {
        stage.server_mut(0).freeze()?;
        sleep(Duration::from_millis(200)).await;
        stage.server_mut(0).thaw()?;
        sleep(Duration::from_secs(1)).await;
    }
    stage.judge(Expect { failovers: (0, 0), pause_ms: Some(500.0), ..Expect::default() }).await
}

async fn long(name: String) -> anyhow::Result<Report> {
    let mut stage = Stage::new(&name, Setup::default()).await?;
    stage.strike("freeze");
    for seconds in [1, 3] {
        let primary = stage.primary().await?;
        stage.server_mut(primary).freeze()?;
        sleep(Duration::from_secs(seconds)).await;
        stage.server_mut(primary).thaw()?;
        sleep(Duration::from_secs(5)).await;
    }
    stage.judge(Expect { failovers: (0, 2), ..Expect::default() }).await
}

pub async fn cut_off(name: String, setup: Setup, cut: Cut) -> anyhow::Result<Report> {
    let lossy = setup.acks.is_none();
    let mut stage = Stage::new(&name, setup).await?;
    stage.strike("cut");
    stage.host(0).cut(cut)?;
    stage.failed_over(0, PATIENCE).await?;
    stage.host(0).heal()?;
    stage.judge(Expect { pause_ms: Some(HANG_MS), lossy, ..Expect::default() }).await
}
