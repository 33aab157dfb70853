//! A person replaces a primary that lives.

use std::time::Duration;

use anyhow::{Context, ensure};
use baton::testing::servers::{Account, Server};
use mysql_async::prelude::Queryable;
use serde_json::json;
use tokio::time::{Instant, sleep, timeout};

use super::{
    judge::{Expect, Report},
    scenario::{Scenario, scenario},
    stage::{PATIENCE, SHOP, Setup, Stage},
};

/// How long clients stay with the old primary after that.
const STUCK: Duration = Duration::from_secs(5);

pub fn scenarios() -> Vec<Scenario> {
    let asynchronous = || Setup { acks: None, ..Setup::default() };
    vec![
        scenario(
            "F46",
            90,
            "a person replaces a living primary, and a proxy goes on with the old one: it acknowledges nothing any more",
            |name| stuck(name, Setup::default()),
        ),
        scenario("F46-async", 90, "the same, asynchronous: it hands over what it has", move |name| {
            stuck(name, asynchronous())
        }),
    ]
}

impl Stage {
    /// Asks for a failover as a person does, to a certain server or to any.
    pub async fn force(&self, name: &str, to: Option<usize>) -> anyhow::Result<()> {
        let mut spec = json!({ "clusterName": SHOP, "cause": { "analysis": "Forced", "reason": name } });
        if let Some(to) = to {
            spec["candidate"] = json!(self.server(to).addr().to_string());
        }
        let request = json!({ "apiVersion": "mysql.baton.dev/v1alpha1", "kind": "MysqlFailover",
            "metadata": { "name": name }, "spec": spec });
        Ok(self.kubernetes.apply("MysqlFailover", request).await?)
    }

    /// How many transactions a server has committed of its own.
    async fn own(&self, index: usize) -> anyhow::Result<String> {
        let uuid = self.server(index).value("SELECT @@server_uuid").await?;
        let question = format!(
            "SELECT GTID_SUBTRACT(@@global.gtid_executed, GTID_SUBTRACT(@@global.gtid_executed, '{uuid}:1-999999999'))"
        );
        Ok(self.server(index).value(&question).await?)
    }
}

/// Whether an ordinary client can write, as the writers do.
async fn takes_a_row(server: &Server) -> bool {
    let row = "INSERT INTO app.writes (run, writer, seq) VALUES (0, 0, 0)";
    let insert = async {
        let mut session = server.connect(Account::App).await?;
        anyhow::Ok(session.query_drop(row).await?)
    };
    timeout(Duration::from_secs(1), insert).await.is_ok_and(|inserted| inserted.is_ok())
}

async fn stuck(name: String, setup: Setup) -> anyhow::Result<Report> {
    let mut stage = Stage::new(&name, setup).await?;
    stage.writers.as_ref().context("nobody writes")?.stick(Some(0));
    stage.strike("force");
    stage.force("move", Some(2)).await?;
    stage.failed_over(0, PATIENCE).await?;
    ensure!(stage.primary().await? == 2, "another server than the one that was asked for was promoted");
    let (own, acknowledged, moved) = (stage.own(0).await?, stage.acknowledged(), Instant::now());
    let mut refused = 0;
    while moved.elapsed() < STUCK {
        ensure!(!takes_a_row(stage.server(0)).await, "it took a row after it was replaced");
        refused += 1;
        sleep(Duration::from_millis(100)).await;
    }
    let (own_now, acknowledged_now) = (stage.own(0).await?, stage.acknowledged());
    ensure!(own == own_now, "the old primary had {own} when it was replaced, and committed on: {own_now}");
    ensure!(acknowledged == acknowledged_now, "it acknowledged {} rows more", acknowledged_now - acknowledged);
    let writers = stage.writers.as_ref().context("nobody writes")?;
    writers.stick(None);
    let report = stage.judge(Expect { told_s: None, ..Expect::default() }).await?;
    Ok(report.noting(format!("refused {refused} times; {} s of it are the pause", STUCK.as_secs())))
}
