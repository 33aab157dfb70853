//! What must hold in the end (docs/safety.md): nothing acknowledged is lost (I1), what was not answered is everywhere
//! or nowhere, and stays so (I2), no two servers acknowledged in turns (I3), the servers have the same transactions
//! or are quarantined (I5), clients can write again or are told why not (I6), epochs grow (I8), the Service leads to
//! the one writable server (I9), what was decided explains itself (I11).

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context, bail, ensure};
use baton::{
    core::id::ServerAddr,
    testing::{history::History, series::Series, servers::Server, writers::rows},
};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::{
    points::unlisted,
    stage::{PATIENCE, Stage},
    writes::Writes,
};

/// Rows that must be acknowledged in the end.
const ALIVE_ROWS: u64 = 40;
/// How soon it is said why clients cannot write, in seconds (I6).
const TOLD_S: u64 = 5;
/// Longest pause of writes when the leader is lost with the primary, in milliseconds: goal of issue 4 (p99).
pub const LEADER_MS: f64 = 5000.0;

/// What a scenario expects beyond what always holds.
pub struct Expect {
    /// Fewest and most failovers that succeed.
    pub failovers: (usize, usize),
    /// Longest pause of writes after the fault, in milliseconds. A longer one is reported and nothing more, unless
    /// `BATON_STRICT` is set: this machine's speed is no subject of the scenarios.
    pub pause_ms: Option<f64>,
    /// How soon it is said why clients cannot write, in seconds. `None`: there is no API server to write that to, or it
    /// is the clients' own doing.
    pub told_s: Option<u64>,
    /// Servers that are not there in the end.
    pub down: Vec<usize>,
    /// Rows may be lost, because commits waited for nobody or no longer.
    pub lossy: bool,
}

impl Expect {
    /// The leader is lost as well: another one has to lead first.
    pub fn of_another_leader() -> Self {
        Self { pause_ms: Some(LEADER_MS), told_s: Some(2 * TOLD_S), ..Self::default() }
    }
}

impl Default for Expect {
    fn default() -> Self {
        Self { failovers: (1, 1), pause_ms: None, told_s: Some(TOLD_S), down: Vec::new(), lossy: false }
    }
}

/// What was seen.
pub struct Report {
    pub pause_ms: f64,
    pub acknowledged: u64,
    pub lost: usize,
    pub failovers: usize,
    /// To the API server since the fault.
    pub writes: Writes,
    /// Slower than expected.
    pub slow: bool,
    pub note: String,
}

impl Report {
    #[must_use]
    pub fn noting(self, note: impl Into<String>) -> Self {
        Self { note: note.into(), ..self }
    }
}

impl Stage {
    /// Ends the writers and judges.
    pub async fn judge(mut self, expect: Expect) -> anyhow::Result<Report> {
        let judged = self.judged(&expect).await;
        let logs = self.logs();
        judged.with_context(|| logs)
    }

    async fn judged(&mut self, expect: &Expect) -> anyhow::Result<Report> {
        let writers = self.writers.take();
        if let Some(writers) = &writers {
            ensure!(
                writers.acknowledged(ALIVE_ROWS, PATIENCE).await,
                "nobody can write in the end: {}",
                self.state().await
            );
        }
        let history = match writers {
            Some(writers) => writers.stop().await,
            None => History::default(),
        };
        let failovers = self.epochs().await?;
        let (fewest, most) = expect.failovers;
        ensure!((fewest..=most).contains(&failovers), "{failovers} failovers, expected {fewest} to {most}");
        let changes = history.gaps().len();
        ensure!(
            changes <= failovers,
            "two servers acknowledged in turns: {changes} changes, {failovers} failovers: {:?}",
            history.gaps()
        );
        let primary = self.one_writable(&expect.down).await?;
        let (mut acknowledged, mut lost, mut present) = (0, 0, BTreeSet::new());
        if self.setup.writers > 0 {
            present = rows(&self.config, &primary, history.run).await?;
            let verdict = history.check(&present);
            ensure!(verdict.unexpected.is_empty(), "rows that were refused are there: {:?}", verdict.unexpected);
            ensure!(expect.lossy || verdict.lost.is_empty(), "LOST {:?}", verdict.lost);
            (acknowledged, lost) = (verdict.acknowledged, verdict.lost.len());
        }
        let same = self.converged(&primary, &expect.down).await?;
        self.settled().await;
        if self.setup.writers > 0 {
            for addr in same.iter().chain([&primary]) {
                let differ: Vec<_> =
                    rows(&self.config, addr, history.run).await?.symmetric_difference(&present).copied().collect();
                ensure!(differ.is_empty(), "of the rows of {primary} {addr} has others: {differ:?}");
            }
        }
        self.explained(&history, expect.told_s).await?;
        let writes = self.counted();
        let pause_ms = history.longest_pause_ms(self.since.0).unwrap_or_default();
        let slow = expect.pause_ms.is_some_and(|bound| pause_ms > bound);
        let strict = std::env::var_os("BATON_STRICT").is_some_and(|strict| strict == "1");
        ensure!(!(strict && slow), "writes paused for {pause_ms:.0} ms, expected {:?} at most", expect.pause_ms);
        Ok(Report { pause_ms, acknowledged, lost, failovers, writes, slow, note: String::new() })
    }

    async fn state(&self) -> String {
        self.kubernetes.state_of(super::stage::SHOP).await
    }

    /// How many failovers succeeded; every record has an epoch of its own, and the newest counts.
    async fn epochs(&self) -> anyhow::Result<usize> {
        let done = async |stage: &Self| {
            let records = stage.records().await?;
            Ok(records.iter().all(|record| {
                ["Succeeded", "Failed", "Refused"].contains(&record["phase"].as_str().unwrap_or_default())
            }))
        };
        self.until("finished, every record", PATIENCE, done).await?;
        let records = self.records().await?;
        let unlisted: Vec<_> = records.iter().flat_map(unlisted).collect();
        ensure!(unlisted.is_empty(), "no scenario kills the leader at {unlisted:?}");
        let epochs: Vec<_> = records.iter().filter_map(|record| record["epoch"].as_i64()).collect();
        ensure!(epochs.windows(2).all(|pair| pair[0] < pair[1]), "epochs do not grow: {epochs:?}");
        let now = self.status().await?["epoch"].as_i64().unwrap_or_default();
        ensure!(epochs.iter().all(|epoch| *epoch <= now), "epoch {now} and records {epochs:?}");
        Ok(records.iter().filter(|record| record["phase"] == "Succeeded").count())
    }

    /// The one server that takes writes, which the Service leads to.
    async fn one_writable(&self, down: &[usize]) -> anyhow::Result<ServerAddr> {
        let started = Instant::now();
        loop {
            let mut writable = Vec::new();
            // Who is being fenced ends connections, the judge's too.
            let mut unknown = None;
            for (index, server) in self.topology.servers.iter().enumerate().filter(|(index, _)| !down.contains(index)) {
                match is_writable(server).await {
                    Ok(true) => writable.push(server.addr().clone()),
                    Ok(false) => {}
                    Err(error) => unknown = Some((index, error)),
                }
            }
            let routed = self.routed().await?;
            match (writable.as_slice(), unknown) {
                ([one], None) if routed == [one.host()] => return Ok(one.clone()),
                (_, Some((index, error))) if started.elapsed() > PATIENCE => {
                    return Err(error.context(format!("server {index} does not answer")));
                }
                _ if started.elapsed() < PATIENCE => sleep(Duration::from_millis(200)).await,
                _ => bail!("writable are {writable:?}, the Service leads to {routed:?}; {}", self.state().await),
            }
        }
    }

    /// Waits until every server has what the primary has, or is quarantined and takes no writes. Gives the former.
    async fn converged(&self, primary: &ServerAddr, down: &[usize]) -> anyhow::Result<Vec<ServerAddr>> {
        let mut all_the_same = Vec::new();
        let primary = self.index_of(&primary.to_string()).context("an unknown primary")?;
        for (index, server) in self.topology.servers.iter().enumerate() {
            if index == primary || down.contains(&index) {
                continue;
            }
            let same = async |stage: &Self| {
                if executed(server).await? == executed(stage.server(primary)).await? {
                    return Ok(true);
                }
                Ok(quarantined(&stage.status().await?, server.addr()) && !is_writable(server).await?)
            };
            let converged = self.until(&format!("converged, {}", server.addr()), PATIENCE, same).await;
            if let Err(error) = converged {
                return Err(error.context(replication(server).await));
            }
            if executed(server).await? == executed(self.server(primary)).await? {
                all_the_same.push(server.addr().clone());
            }
        }
        Ok(all_the_same)
    }
}

/// Whether the cluster's status says that the server is quarantined, or has transactions of its own.
pub fn quarantined(status: &Value, addr: &ServerAddr) -> bool {
    let analyses = status["analyses"].as_array().cloned().unwrap_or_default();
    let errant = |one: &Value| one["code"] == "ErrantTransactions" && one["server"] == addr.to_string();
    if analyses.iter().any(errant) {
        return true;
    }
    let servers = status["servers"].as_array().cloned().unwrap_or_default();
    let server = servers.iter().find(|server| server["address"] == addr.to_string());
    server.is_some_and(|server| server["problems"].to_string().contains("quarantined"))
}

/// Whether ordinary clients can write.
pub async fn is_writable(server: &Server) -> anyhow::Result<bool> {
    let question = match server.series() {
        Series::Mysql97 => {
            "SELECT NOT @@global.super_read_only AND NOT @@global.read_only AND NOT @@global.offline_mode"
        }
        Series::Mysql56 | Series::MariaDb1011 => "SELECT NOT @@global.read_only",
    };
    Ok(server.value(question).await? == "1")
}

/// What a replica says of its threads.
async fn replication(server: &Server) -> String {
    let words = if server.series() == Series::Mysql97 { "REPLICA" } else { "SLAVE" };
    let rows = server.query(&format!("SHOW {words} STATUS")).await.unwrap_or_default();
    let told = ["Running", "Error", "_State", "_Set", "Host"];
    let told = |name: &str| told.iter().any(|part| name.ends_with(part));
    let row = rows.into_iter().next();
    let columns = row.iter().flat_map(|row| row.columns_ref().iter().enumerate());
    let shown = columns.filter(|(_, column)| told(&column.name_str())).map(|(place, column)| {
        let value = row.as_ref().and_then(|row| row.get_opt::<String, _>(place)).and_then(Result::ok);
        format!("{}={:?}", column.name_str(), value.unwrap_or_default())
    });
    shown.collect::<Vec<_>>().join(" ")
}

async fn executed(server: &Server) -> anyhow::Result<String> {
    let question = match server.series() {
        Series::MariaDb1011 => "SELECT CONCAT(@@gtid_current_pos, ' ', (SELECT COUNT(*) FROM app.writes))",
        Series::Mysql56 | Series::Mysql97 => "SELECT @@global.gtid_executed",
    };
    Ok(server.value(question).await?)
}
