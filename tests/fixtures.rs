//! The fixtures themselves, on real servers: what other tests and the benchmarks build upon.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::{Duration, Instant};

use baton::testing::{
    history::{Summary, Verdict},
    network::{Cut, enter_own_namespace},
    process::Process,
    series::Series,
    servers::{Account, Server},
    topology::{Options, Place, Topology, channel, eventually},
    trial::{Fault, Trial},
    writers::{Config, Writers, check},
};
use tokio::{net::TcpStream, time::timeout};

const SECOND: Duration = Duration::from_secs(1);

async fn rows_reach_all_replicas(series: Series) {
    let topology = Topology::start(&Options::new(series, 3)).await.unwrap();
    let config = Config::new(topology.addresses());
    let writers = Writers::start(config.clone()).await.unwrap();
    assert!(writers.acknowledged(300, 20 * SECOND).await, "{:?}", writers.history().counts());
    let history = writers.stop().await;
    // A busy machine may send writers round, but only the primary acknowledges.
    let took: Vec<_> = history.reigns().iter().map(|reign| &history.servers[usize::from(reign.server)]).collect();
    assert_eq!(took, [&topology.servers[0].addr().to_string()]);
    for server in &topology.servers {
        topology.caught_up(server, &topology.servers[0]).await.unwrap();
        let verdict = check(&config, server.addr(), &history).await.unwrap();
        assert!(verdict.acknowledged >= 300, "{verdict:?}");
        assert!(verdict.lost.is_empty() && verdict.unexpected.is_empty(), "{verdict:?}");
    }
    let app = topology.servers[1].connect(Account::App).await.unwrap();
    let refused = mysql_async::prelude::Queryable::query_drop(&mut { app }, "DELETE FROM app.writes").await;
    assert!(refused.unwrap_err().to_string().contains("read-only"), "replicas take no writes");
}

#[tokio::test]
async fn rows_reach_all_replicas_of_mysql_56() {
    rows_reach_all_replicas(Series::Mysql56).await;
}

#[tokio::test]
async fn rows_reach_all_replicas_of_mysql_97() {
    rows_reach_all_replicas(Series::Mysql97).await;
}

#[tokio::test]
async fn rows_reach_all_replicas_of_mariadb_1011() {
    rows_reach_all_replicas(Series::MariaDb1011).await;
}

/// How a connect with login ends within half a second.
async fn reached(server: &Server) -> &'static str {
    let addr = server.addr();
    let half = Duration::from_millis(500);
    match timeout(half, TcpStream::connect((addr.host(), addr.port()))).await {
        Err(_) => "silent",
        Ok(Err(_)) => "refused",
        Ok(Ok(_)) if timeout(half, server.connect(Account::App)).await.is_ok_and(|login| login.is_ok()) => "answers",
        Ok(Ok(_)) => "hangs",
    }
}

#[tokio::test]
async fn killed_servers_refuse_and_frozen_ones_hang() {
    let mut topology = Topology::start(&Options::new(Series::Mysql56, 1)).await.unwrap();
    let server = &mut topology.servers[1];
    assert_eq!(reached(server).await, "answers");
    server.freeze().unwrap();
    assert_eq!(reached(server).await, "hangs");
    server.thaw().unwrap();
    assert_eq!(reached(server).await, "answers");
    server.crash().unwrap();
    let server = &topology.servers[1];
    eventually("the port is closed", 5 * SECOND, async || Ok(reached(server).await == "refused")).await.unwrap();
    topology.servers[1].restart().await.unwrap();
    topology.replicating(&topology.servers[1]).await.unwrap();
}

#[tokio::test]
async fn a_cut_link_is_silent_in_the_cut_direction() {
    if !enter_own_namespace("a_cut_link_is_silent_in_the_cut_direction").unwrap() {
        return;
    }
    let options = Options { place: Place::Network, net_timeout_s: Some(2), ..Options::new(Series::Mysql56, 1) };
    let mut topology = Topology::start(&options).await.unwrap();
    assert!(topology.servers.iter().all(|server| server.addr().host().starts_with("198.18.")));
    let replica = &topology.servers[1];
    let host = replica.host().unwrap();
    for cut in [Cut::Both, Cut::Inbound, Cut::Outbound] {
        host.cut(cut).unwrap();
        assert_eq!(reached(replica).await, "silent", "{cut:?}");
        host.heal().unwrap();
        assert_eq!(reached(replica).await, "answers", "{cut:?}");
    }
    topology.servers[1].crash().unwrap();
    let replica = &topology.servers[1];
    eventually("the port is closed", 5 * SECOND, async || Ok(reached(replica).await == "refused")).await.unwrap();
}

/// Makes the most advanced replica the primary: the few lines that need no thought when nothing else fails.
async fn promote(topology: &Topology, options: &Options) {
    let mysql97 = options.series == Series::Mysql97;
    let replicas = &topology.servers[1..];
    let (stop, reset) = if mysql97 {
        ("STOP REPLICA IO_THREAD", ["STOP REPLICA", "RESET REPLICA ALL"])
    } else {
        ("STOP SLAVE IO_THREAD", ["STOP SLAVE", "RESET SLAVE ALL"])
    };
    let mut counts = Vec::new();
    for replica in replicas {
        replica.query(stop).await.unwrap();
        let show = if mysql97 { "SHOW REPLICA STATUS" } else { "SHOW SLAVE STATUS" };
        let status = replica.query(show).await.unwrap().remove(0);
        let received: String = status.get("Retrieved_Gtid_Set").unwrap();
        counts.push(received.rsplit('-').next().unwrap_or_default().parse::<u64>().unwrap_or_default());
        let wait = if received.is_empty() {
            "SELECT 1".to_owned()
        } else if mysql97 {
            format!("SELECT WAIT_FOR_EXECUTED_GTID_SET('{received}', 10)")
        } else {
            format!("SELECT WAIT_UNTIL_SQL_THREAD_AFTER_GTIDS('{received}', 10)")
        };
        replica.query(&wait.replace('\n', "")).await.unwrap();
    }
    let best = (0..counts.len()).max_by_key(|index| counts[*index]).unwrap();
    for statement in reset {
        replicas[best].query(statement).await.unwrap();
    }
    if options.semi_sync_acks.is_some() {
        replicas[best].query("SET GLOBAL rpl_semi_sync_source_enabled = ON").await.unwrap();
    }
    replicas[best].query("SET GLOBAL read_only = OFF").await.unwrap();
    for (index, replica) in replicas.iter().enumerate().filter(|(index, _)| *index != best) {
        replica.query(reset[0]).await.unwrap();
        for statement in channel(options, replicas[best].addr()) {
            replica.query(&statement).await.unwrap_or_else(|error| panic!("replica {index}: {error:?}"));
        }
    }
}

async fn writers_survive(fault: Fault, options: &Options) {
    let mut trial = Trial::start(options).await.unwrap();
    trial.strike(fault).unwrap();
    let struck = Instant::now();
    promote(&trial.topology, options).await;
    let (report, _topology) = trial.finish(20 * SECOND).await.unwrap();
    assert_eq!(report.changes, 1, "{report:?}");
    assert!(report.gap.gap_ms > 5.0 && report.gap.gap_ms < struck.elapsed().as_secs_f64() * 1000.0, "{report:?}");
    assert!(report.verdict.acknowledged > 200 && report.verdict.unexpected.is_empty(), "{report:?}");
    // Asynchronous replicas may miss what was acknowledged last.
    assert!(options.semi_sync_acks.is_none() || report.verdict.lost.is_empty(), "{report:?}");
}

#[tokio::test]
async fn writers_move_to_a_promoted_replica_of_mysql_97() {
    let options = Options { semi_sync_acks: Some(1), heartbeat_ms: Some(100), ..Options::new(Series::Mysql97, 3) };
    writers_survive(Fault::Kill, &options).await;
}

#[tokio::test]
async fn writers_move_away_from_a_hanging_mysql_56() {
    let options = Options { heartbeat_ms: Some(1000), net_timeout_s: Some(4), ..Options::new(Series::Mysql56, 3) };
    writers_survive(Fault::Stop, &options).await;
}

#[tokio::test]
async fn writers_move_away_from_a_mysql_97_that_was_cut_off() {
    if !enter_own_namespace("writers_move_away_from_a_mysql_97_that_was_cut_off").unwrap() {
        return;
    }
    let options = Options { semi_sync_acks: Some(1), place: Place::Network, ..Options::new(Series::Mysql97, 2) };
    writers_survive(Fault::Cut, &options).await;
}

/// Runs `baton-writers` with `args`; whether it succeeded, and what it printed.
fn writers_program(args: &[&str]) -> (bool, serde_json::Value) {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_baton-writers")).args(args).output().unwrap();
    (output.status.success(), serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}")))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_writers_program_finds_a_lost_row() {
    let topology = Topology::start(&Options::new(Series::Mysql56, 0)).await.unwrap();
    let server = &topology.servers[0];
    let folder = baton::testing::folder::Folder::new().unwrap();
    let file = folder.path().join("history").to_string_lossy().into_owned();
    let address = server.addr().to_string();
    let (fine, summary) = writers_program(&["run", "--addresses", &address, "--seconds", "1", "--out", &file]);
    assert!(fine && summary["acknowledged"].as_u64() > Some(50), "{summary}");
    let (fine, verdict) = writers_program(&["check", "--addresses", &address, "--history", &file]);
    assert!(fine && verdict["lost"].as_array().unwrap().is_empty(), "{verdict}");
    server.query("DELETE FROM app.writes WHERE writer = 3 AND seq = 2").await.unwrap();
    let (fine, verdict) = writers_program(&["check", "--addresses", &address, "--history", &file]);
    assert!(!fine, "a lost row fails the check");
    assert_eq!(verdict["lost"], serde_json::json!([{"writer": 3, "seq": 2}]));
}

/// Sends one request and gives status line and body.
async fn http(port: u16, method: &str, path: &str, body: &str) -> (String, String) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let head =
        format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n", body.len());
    stream.write_all(format!("{head}\r\n{body}").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().to_owned(), body.to_owned())
}

#[tokio::test]
async fn served_writers_answer_while_they_write() {
    let topology = Topology::start(&Options::new(Series::Mysql56, 0)).await.unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let address = topology.servers[0].addr().to_string();
    let args = ["serve", "--addresses", &address, "--listen", &format!("127.0.0.1:{port}")].map(str::to_owned);
    let null = std::path::Path::new("/dev/null");
    let _writers = Process::start(env!("CARGO_BIN_EXE_baton-writers"), &args, null).unwrap();
    let listens = async || Ok(TcpStream::connect(("127.0.0.1", port)).await.is_ok());
    eventually("the writers listen", 20 * SECOND, listens).await.unwrap();
    tokio::time::sleep(SECOND).await;
    let (status, body) = http(port, "POST", "/mark", "something").await;
    assert!(status.contains("200") && body.contains("at_us"), "{status} {body}");
    let summary: Summary = serde_json::from_str(&http(port, "GET", "/history", "").await.1).unwrap();
    assert!(summary.acknowledged > 50 && summary.gaps.is_empty(), "{summary:?}");
    assert_eq!((summary.servers, summary.marks[0].what.as_str()), (vec![address.clone()], "something"));
    for named in ["", &address] {
        let verdict: Verdict = serde_json::from_str(&http(port, "POST", "/check", named).await.1).unwrap();
        assert!(verdict.acknowledged > 50 && verdict.lost.is_empty() && verdict.unexpected.is_empty(), "{verdict:?}");
    }
    assert!(http(port, "POST", "/check", "no address").await.0.contains("400"));
    assert!(http(port, "POST", "/check", "127.0.0.1:1").await.0.contains("502"));
}
