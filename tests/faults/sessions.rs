//! Servers that are alive and in trouble: no connection left, locked, another password.

use std::time::Duration;

use anyhow::ensure;
use baton::testing::{
    process::Signal,
    servers::{Account, options},
};
use mysql_async::{Conn, prelude::Queryable};
use serde_json::json;
use tokio::time::{sleep, timeout};

use super::{
    judge::{Expect, Report},
    scenario::{Scenario, scenario},
    stage::{PATIENCE, Setup, Stage},
};

const NONE: (usize, usize) = (0, 0);

pub fn scenarios() -> Vec<Scenario> {
    vec![
        scenario(
            "F43",
            90,
            "no connection of the primary is left, and the standby starts anew: no failover",
            saturated,
        ),
        scenario("F44", 90, "FLUSH TABLES WITH READ LOCK for 5 s: no failover", locked),
        scenario("F50", 90, "the operator's password is changed, then its Secret, then the primary dies", rotated),
    ]
}

async fn saturated(name: String) -> anyhow::Result<Report> {
    let mut stage = Stage::new(&name, Setup::default()).await?;
    stage.strike("full");
    let mut idle = Vec::new();
    let addr = stage.server(0).addr().clone();
    while let Ok(Ok(session)) = timeout(Duration::from_secs(2), Conn::new(options(&addr, Account::App))).await {
        idle.push(session);
    }
    ensure!(idle.len() > 50, "only {} connections were to be had", idle.len());
    stage.pods[1].signal(Signal::Kill)?;
    stage.quiet(8).await?;
    let count = idle.len();
    drop(idle);
    stage.ready().await?;
    let report = stage.judge(Expect { failovers: NONE, pause_ms: Some(1000.0), ..Expect::default() }).await?;
    Ok(report.noting(format!("{count} idle connections")))
}

async fn locked(name: String) -> anyhow::Result<Report> {
    let mut stage = Stage::new(&name, Setup::default()).await?;
    stage.strike("lock");
    let mut session = stage.server(0).connect(Account::Baton).await?;
    session.query_drop("FLUSH TABLES WITH READ LOCK").await?;
    stage.quiet(5).await?;
    session.query_drop("UNLOCK TABLES").await?;
    let report = stage.judge(Expect { failovers: NONE, ..Expect::default() }).await?;
    Ok(report.noting("5 s of lock are the pause"))
}

async fn rotated(name: String) -> anyhow::Result<Report> {
    let mut stage = Stage::new(&name, Setup::default()).await?;
    let secret = |password: &str| {
        let data = json!({ "username": "rota", "password": password,
            "replication-username": "repl", "replication-password": "repl" });
        json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "accounts" }, "stringData": data })
    };
    let make =
        ["CREATE USER 'rota'@'%' IDENTIFIED BY 'one'", "GRANT ALL PRIVILEGES ON *.* TO 'rota'@'%' WITH GRANT OPTION"];
    stage.sql(0, &make).await?;
    stage.kubernetes.apply("Secret", secret("one")).await?;
    sleep(Duration::from_secs(6)).await;
    stage.ready().await?;
    stage.sql(0, &["ALTER USER 'rota'@'%' IDENTIFIED BY 'two'"]).await?;
    sleep(Duration::from_secs(2)).await;
    stage.kubernetes.apply("Secret", secret("two")).await?;
    stage.strike("kill");
    stage.server_mut(0).crash()?;
    stage.failed_over(0, PATIENCE).await?;
    stage.bring_back(0).await?;
    stage.judge(Expect { pause_ms: Some(5000.0), ..Expect::default() }).await
}
