//! A primary whose disk stalls: it answers, it reads, and its commits hang.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use baton::{
    core::{
        id::ServerAddr,
        observation::{Commits, Look},
        step::Action,
    },
    engine::ports::Servers,
    mysql::{canary::Canary, execute::MysqlServers},
    testing::{
        disk::Disk,
        series::Series,
        servers::{Account, Server},
        topology::eventually,
    },
};
use mysql_async::prelude::Queryable;
use tokio::{sync::watch, task::JoinHandle, time::Instant};

use super::{
    looks::{Watched, pace},
    setup::{clock, free_port, options},
};

/// A writable server on a disk of its own.
async fn server(series: Series, disk: &Disk, port: u16) -> Server {
    let addr = ServerAddr::new("127.0.0.1", port).unwrap();
    let mut server = Server::prepare(series, 1, addr, disk.path(), None).unwrap();
    server.start().unwrap();
    server.ready().await.unwrap();
    server.query("CREATE TABLE app.t (id INT AUTO_INCREMENT PRIMARY KEY) ENGINE = InnoDB").await.unwrap();
    server
}

/// Inserts until an error; how many were acknowledged.
async fn writer(server: &Server) -> (Arc<AtomicU64>, JoinHandle<()>) {
    let acknowledged = Arc::new(AtomicU64::new(0));
    let mut session = server.connect(Account::App).await.unwrap();
    let count = Arc::clone(&acknowledged);
    let task = tokio::spawn(async move {
        while session.query_drop("INSERT INTO app.t VALUES ()").await.is_ok() {
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    (acknowledged, task)
}

fn commits(look: &Look) -> Option<Commits> {
    look.as_ref().ok()?.commits
}

fn hang(look: &Look) -> bool {
    commits(look).is_some_and(|commits| commits.waiting > 0)
}

/// Looks show that commits hang and nothing is written; the fence takes hold at once, and what hung is told to
/// nobody, also when the disk goes on.
async fn stalls(series: Series) {
    let disk = Disk::new(400).unwrap();
    let server = server(series, &disk, free_port()).await;
    let (acknowledged, writing) = writer(&server).await;
    let mut watched = Watched::start(server.addr(), options(), pace(100));
    eventually("writes", Duration::from_secs(10), async || Ok(acknowledged.load(Ordering::SeqCst) > 20)).await.unwrap();
    assert!(watched.until(|look| commits(look).is_some()).await.0.is_ok_and(|seen| seen.settings.writable()));

    let frozen = disk.freeze().unwrap();
    let (first, took, gap) = watched.until(hang).await;
    assert!(took < Duration::from_secs(4) && gap < Duration::from_secs(1), "{series:?}: {took:?} {gap:?}");
    let (next, ..) =
        watched.until(|look| look.as_ref().is_ok_and(|seen| seen.at.0 > first.as_ref().unwrap().at.0)).await;
    assert_eq!(commits(&next).unwrap().binlog_writes, commits(&first).unwrap().binlog_writes, "{series:?}");
    assert_eq!(commits(&next).unwrap().binlog_writes.is_some(), series == Series::Mysql97, "{series:?}");

    let (_sender, receiver) = watch::channel(Arc::new(options()));
    let acts = MysqlServers::new(receiver, clock());
    let began = Instant::now();
    let fenced = acts.act(server.addr(), Action::Fence, 1000).await;
    if series == Series::Mysql97 {
        let seen = fenced.unwrap();
        assert!(seen.settings.offline_mode && !seen.settings.writable(), "{:?}", seen.settings);
        assert!(began.elapsed() < Duration::from_secs(1));
        eventually("the client is cut off", Duration::from_secs(1), async || Ok(writing.is_finished())).await.unwrap();
    } else {
        assert!(fenced.is_err(), "{series:?}: without offline mode nothing is proven");
    }
    let told = acknowledged.load(Ordering::SeqCst);
    drop(frozen);
    let count = async || server.value("SELECT COUNT(*) FROM app.t").await.unwrap().parse::<u64>().unwrap();
    if series == Series::Mysql97 {
        eventually("the commit that hung", Duration::from_secs(10), async || Ok(count().await == told + 1))
            .await
            .unwrap();
        assert_eq!(acknowledged.load(Ordering::SeqCst), told, "nobody was told");
    } else {
        let (healed, ..) = watched.until(|look| !hang(look)).await;
        assert!(healed.is_ok(), "{series:?}");
    }
    writing.abort();
}

#[tokio::test]
async fn a_disk_stalls_under_mysql_56() {
    stalls(Series::Mysql56).await;
}

#[tokio::test]
async fn a_disk_stalls_under_mysql_97() {
    stalls(Series::Mysql97).await;
}

#[tokio::test]
async fn a_disk_stalls_under_mariadb_1011() {
    stalls(Series::MariaDb1011).await;
}

/// Nobody writes, and the canary still shows it. A second canary does not write beside one that hangs.
#[tokio::test]
async fn a_canary_shows_a_stall_without_clients() {
    let disk = Disk::new(400).unwrap();
    let server = server(Series::Mysql97, &disk, free_port()).await;
    let (_sender, options_of) = watch::channel(Arc::new(options()));
    let sing = || tokio::spawn(Canary { addr: server.addr().clone(), options: options_of.clone() }.run());
    let first = sing();
    let beats = async || {
        let beat = server.value("SELECT beat FROM baton.canary").await.unwrap_or_default();
        beat.parse::<u64>().unwrap_or_default()
    };
    eventually("it sings", Duration::from_secs(10), async || Ok(beats().await > 1)).await.unwrap();
    let frozen = disk.freeze().unwrap();
    let mut watched = Watched::start(server.addr(), options(), pace(100));
    drop(watched.until(hang).await);
    // Its process is gone, its commit still hangs.
    first.abort();
    let second = sing();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let writing =
        "SELECT COUNT(*) FROM performance_schema.threads WHERE PROCESSLIST_INFO LIKE 'INSERT INTO baton.canary%'";
    assert_eq!(server.value(writing).await.unwrap(), "1");
    drop(frozen);
    let before = beats().await;
    eventually("it sings again", Duration::from_secs(10), async || Ok(beats().await > before)).await.unwrap();
    second.abort();
    // Where nobody may write, it does not either.
    server.query("SET GLOBAL read_only = ON").await.unwrap();
    let third = sing();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let silent = beats().await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(beats().await, silent);
    third.abort();
}
