//! Chains of real servers whose middle dies: the replicas below follow another source within seconds and
//! lose nothing.
#![allow(clippy::print_stdout, reason = "how long it took is printed")]

use std::time::{Duration, Instant};

use baton::{
    core::{id::ServerAddr, policy::Policy, recovery::Phase, status::ClusterView},
    testing::{
        series::Series,
        topology::{Options, Topology, channel, eventually},
    },
};

use super::whole::Whole;

/// `p <- m <- {a, b}`, and more replicas of `p` if there are more servers.
async fn chain(series: Series, replicas: u32) -> (Options, Topology) {
    let options = Options {
        heartbeat_ms: Some(500),
        connect_retry_s: Some(1),
        durable: false,
        more: vec!["--log-bin=binlog".to_owned()],
        ..Options::new(series, replicas)
    };
    let topology = Topology::start(&options).await.unwrap();
    let middle = topology.servers[1].addr().clone();
    topology.servers[0].query("CREATE TABLE app.t (id INT PRIMARY KEY) ENGINE = InnoDB").await.unwrap();
    for replica in &topology.servers[2..4] {
        let stop = if series == Series::Mysql97 { "STOP REPLICA" } else { "STOP SLAVE" };
        topology.caught_up(replica, &topology.servers[0]).await.unwrap();
        replica.query(stop).await.unwrap();
        for statement in channel(&options, &middle) {
            replica.query(&statement).await.unwrap();
        }
        topology.replicating(replica).await.unwrap();
    }
    (options, topology)
}

pub(super) fn policy(topology: &Topology) -> Policy {
    let mut policy = baton::testing::snapshot::policy();
    policy.discovery.follow = false;
    policy.servers = topology.addresses().into_iter().map(|addr| (addr, Default::default())).collect();
    policy
}

fn follow(view: &ClusterView, replicas: &[ServerAddr], source: &ServerAddr) -> bool {
    let follows = |addr: &ServerAddr| {
        view.servers.iter().any(|server| server.addr == *addr && server.source.as_ref() == Some(source))
    };
    replicas.iter().all(follows)
}

async fn middle_dies(series: Series) {
    let (_, mut topology) = chain(series, 3).await;
    let addrs = topology.addresses();
    let whole = Whole::start(policy(&topology), &addrs[0], 7);
    whole.until("well", |view| follow(view, &addrs[2..], &addrs[1]) && view.replicating.value == Some(true)).await;
    topology.servers[0].query("INSERT INTO app.t VALUES (1)").await.unwrap();
    topology.servers[1].crash().unwrap();
    let died = Instant::now();
    topology.servers[0].query("INSERT INTO app.t VALUES (2)").await.unwrap();
    for replica in &topology.servers[2..] {
        eventually("what was written meanwhile is there", Duration::from_secs(60), async || {
            Ok(replica.value("SELECT COUNT(*) FROM app.t").await? == "2")
        })
        .await
        .unwrap_or_else(|error| panic!("{error}: {:#?}", whole.view.borrow()));
        println!("{series:?}: {} has it {} ms after the death", replica.addr(), died.elapsed().as_millis());
    }
    // Near each other and nobody else near them: one of them follows the primary, the other follows it.
    whole
        .until("regrouped", |view| {
            follow(view, &addrs[2..3], &addrs[0]) && follow(view, &addrs[3..], &addrs[2])
                || follow(view, &addrs[3..], &addrs[0]) && follow(view, &addrs[2..3], &addrs[3])
        })
        .await;
    eventually("the record is closed", Duration::from_secs(30), async || {
        Ok(whole.world.records.lock().unwrap().iter().all(|record| record.phase.finished()))
    })
    .await
    .unwrap();
    let records = whole.world.records.lock().unwrap().clone();
    assert_eq!(records.len(), 1, "{records:?}");
    let record = &records[0];
    assert_eq!((record.record.as_str(), record.phase, record.epoch.0), ("shop-relocation-1", Phase::Succeeded, 7));
    assert_eq!((&record.old_primary, record.message.as_str()), (&addrs[1], ""));
    println!("{series:?}: {:?}", record.timings);
    // The dead one is back: it stays below the primary, and nobody moves again.
    topology.servers[1].restart().await.unwrap();
    whole.until("back", |view| view.replicating.value == Some(true)).await;
    assert_eq!(whole.world.records.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn the_middle_of_a_chain_of_mysql_97_dies() {
    middle_dies(Series::Mysql97).await;
}

#[tokio::test]
async fn the_middle_of_a_chain_of_mysql_56_dies() {
    middle_dies(Series::Mysql56).await;
}

#[tokio::test]
async fn the_middle_of_a_chain_of_mariadb_1011_dies() {
    middle_dies(Series::MariaDb1011).await;
}
