//! A whole promotion by hand, action by action, on each series.

use std::time::Duration;

use baton::{
    core::{
        id::Epoch,
        observation::{Observation, Receiver},
        step::{Action, ActionError},
        version::Flavor,
    },
    testing::{
        series::Series,
        servers::Account,
        topology::{Options, Topology},
    },
};
use mysql_async::prelude::Queryable;

use super::setup::{Acts, options};

async fn topology(series: Series, acks: Option<u32>) -> Topology {
    let options = Options { semi_sync_acks: acks, heartbeat_ms: Some(500), ..Options::new(series, 2) };
    let topology = Topology::start(&options).await.unwrap();
    let table = "CREATE TABLE app.writes (writer INT, sequence INT, PRIMARY KEY (writer, sequence)) ENGINE = InnoDB";
    topology.servers[0].query(table).await.unwrap();
    topology
}

/// A look shows who replicates from whom, and heartbeats that count.
async fn looks(series: Series) {
    let topology = topology(series, None).await;
    let acts = Acts::new(options());
    let (primary, replica) = (topology.servers[0].addr(), topology.servers[1].addr());
    let seen = acts.act(primary, Action::Look).await;
    assert!(
        seen.settings.writable() && seen.settings.log_bin && seen.settings.log_replica_updates,
        "{:?}",
        seen.settings
    );
    assert!(seen.channels.is_empty());
    assert_eq!(
        seen.downstream.iter().filter(|replica| replica.host == "127.0.0.1" && replica.port.is_none()).count(),
        // Two replicas of one host differ where a connection tells its UUID.
        if series == Series::Mysql97 { 2 } else { 1 },
    );
    assert!(!seen.executed.is_empty());

    let first = acts.act(replica, Action::Look).await;
    let channel = &first.channels[0];
    assert_eq!((channel.receiver, channel.applier_running), (Receiver::Running, true), "{channel:?}");
    assert_eq!(channel.source.as_ref(), Some(primary));
    assert!(channel.auto_position && channel.receiver_error.is_none());
    assert_eq!(channel.heartbeat_interval_ms, Some(500));
    assert!(first.settings.read_only);
    if first.identity.version.flavor == Flavor::MySql {
        assert_eq!(channel.source_uuid, Some(seen.identity.uuid.clone()));
    }
    tokio::time::sleep(Duration::from_millis(1300)).await;
    let second = acts.act(replica, Action::Look).await;
    assert!(
        second.channels[0].heartbeats > channel.heartbeats,
        "{} {}",
        second.channels[0].heartbeats,
        channel.heartbeats
    );
    assert!(second.channels[0].heard_since(channel));
}

#[tokio::test]
async fn looks_at_mysql_56() {
    looks(Series::Mysql56).await;
}

#[tokio::test]
async fn looks_at_mysql_97() {
    looks(Series::Mysql97).await;
}

#[tokio::test]
async fn looks_at_mariadb_1011() {
    looks(Series::MariaDb1011).await;
}

async fn drained(acts: &Acts, topology: &Topology, index: usize) -> Box<Observation> {
    let addr = topology.servers[index].addr();
    let stopped = acts.act(addr, Action::StopReceiver).await;
    assert_ne!(stopped.channels[0].receiver, Receiver::Running);
    let set = stopped.channels[0].received.clone();
    acts.act(addr, Action::WaitApplied { set, wait_ms: 3000 }).await
}

/// From a dead primary to a writable replica that the other one follows.
async fn promotes(series: Series, semi_sync: bool) {
    let mut topology = topology(series, semi_sync.then_some(1)).await;
    let acts = Acts::new(options());
    let addrs = topology.addresses();
    topology.servers[0].query("INSERT INTO app.writes (writer, sequence) VALUES (7, 1)").await.unwrap();
    topology.caught_up(&topology.servers[1], &topology.servers[0]).await.unwrap();
    topology.caught_up(&topology.servers[2], &topology.servers[0]).await.unwrap();
    topology.servers[0].crash().unwrap();
    let winner = drained(&acts, &topology, 1).await;
    let sibling = drained(&acts, &topology, 2).await;
    assert!(winner.executed.contains(&sibling.total()));

    acts.act(&addrs[1], Action::Claim { epoch: Epoch(5), valid_ms: 4000 }).await;
    if semi_sync {
        acts.act(&addrs[1], Action::SemiSyncSource { on: true, wait_count: 1 }).await;
    }
    let repoint = Action::Repoint { source: addrs[1].clone(), semi_sync: semi_sync.then_some(true) };
    acts.act(&addrs[2], repoint).await;
    let old_primary = Some(addrs[0].clone());
    let fenced = acts.act(&addrs[1], Action::WriteEpoch { epoch: Epoch(5), old_primary, wait_ms: 4000 }).await;
    assert!(!fenced.settings.writable(), "the epoch is written before clients can write");
    let open = acts.act(&addrs[1], Action::Unfence).await;
    assert!(open.settings.writable());
    acts.act(&addrs[1], Action::ForgetSource).await;

    topology.servers[1].query("INSERT INTO app.writes (writer, sequence) VALUES (7, 2)").await.unwrap();
    topology.caught_up(&topology.servers[2], &topology.servers[1]).await.unwrap();
    let rows = topology.servers[2].value("SELECT COUNT(*) FROM app.writes WHERE writer = 7").await.unwrap();
    assert_eq!(rows, "2");
    let epochs = topology.servers[2].value("SELECT MAX(epoch) FROM baton.epoch").await.unwrap();
    assert_eq!(epochs, "5");

    let late = acts.try_act(&addrs[1], Action::Claim { epoch: Epoch(4), valid_ms: 1000 }).await;
    assert!(matches!(late, Err(ActionError::Precondition { .. })), "{late:?}");
}

#[tokio::test]
async fn promotes_mysql_56() {
    promotes(Series::Mysql56, false).await;
}

#[tokio::test]
async fn promotes_mysql_97() {
    promotes(Series::Mysql97, false).await;
}

#[tokio::test]
async fn promotes_mysql_97_under_semi_sync() {
    promotes(Series::Mysql97, true).await;
}

#[tokio::test]
async fn promotes_mariadb_1011() {
    promotes(Series::MariaDb1011, false).await;
}

/// M8: the server refuses to unfence after its own deadline, and without a claim.
async fn unfences_only_in_time(series: Series) {
    let topology = topology(series, None).await;
    let acts = Acts::new(options());
    let addr = topology.servers[1].addr();
    acts.act(addr, Action::StopReceiver).await;
    // Long enough for the claim itself on a busy machine.
    acts.act(addr, Action::Claim { epoch: Epoch(1), valid_ms: 2000 }).await;
    tokio::time::sleep(Duration::from_millis(2200)).await;
    let late = acts.try_act(addr, Action::Unfence).await;
    assert!(matches!(late, Err(ActionError::Precondition { .. })), "{late:?}");
    let other = Acts::new(options());
    let unclaimed = other.try_act(addr, Action::Unfence).await;
    assert!(matches!(unclaimed, Err(ActionError::Precondition { .. })), "{unclaimed:?}");
    assert!(!other.act(addr, Action::Look).await.settings.writable());
}

#[tokio::test]
async fn mysql_56_unfences_only_in_time() {
    unfences_only_in_time(Series::Mysql56).await;
}

#[tokio::test]
async fn mysql_97_unfences_only_in_time() {
    unfences_only_in_time(Series::Mysql97).await;
}

#[tokio::test]
async fn mariadb_1011_unfences_only_in_time() {
    unfences_only_in_time(Series::MariaDb1011).await;
}

/// M3: a commit that waits for an ack is ended, not acknowledged, and the server takes no more writes.
#[tokio::test]
async fn a_fence_acknowledges_nothing() {
    let topology = topology(Series::Mysql97, Some(1)).await;
    let acts = Acts::new(options());
    let addrs = topology.addresses();
    for replica in &addrs[1..] {
        acts.act(replica, Action::StopReceiver).await;
    }
    let mut client = topology.servers[0].connect(Account::App).await.unwrap();
    let stuck =
        tokio::spawn(async move { client.query_drop("INSERT INTO app.writes (writer, sequence) VALUES (8, 1)").await });
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!stuck.is_finished(), "the commit waits for an acknowledgement");
    let fenced = acts.act(&addrs[0], Action::Fence).await;
    assert!(fenced.settings.offline_mode && fenced.settings.super_read_only);
    let outcome = tokio::time::timeout(Duration::from_secs(3), stuck).await.unwrap().unwrap();
    assert!(outcome.is_err(), "nobody is told that the write is safe");
    let back = acts.act(&addrs[0], Action::SetReadOnly).await;
    assert!(!back.settings.offline_mode && !back.settings.writable());
}

#[tokio::test]
async fn settings_that_hide_silence_are_replaced() {
    for series in [Series::Mysql56, Series::Mysql97, Series::MariaDb1011] {
        let topology = topology(series, None).await;
        let acts = Acts::new(options());
        let addr = topology.servers[1].addr();
        let enforce = Action::EnforceReplicationSettings { heartbeat_ms: 250, net_timeout_s: 2 };
        acts.act(addr, enforce).await;
        topology.replicating(&topology.servers[1]).await.unwrap();
        let seen = acts.act(addr, Action::Look).await;
        assert_eq!(seen.settings.net_timeout_s, 2, "{series:?}");
        assert_eq!(seen.channels[0].heartbeat_interval_ms, Some(250), "{series:?}");
    }
}

/// Who is refused by a full server may get in then.
#[tokio::test]
async fn more_connections_are_allowed() {
    for series in [Series::Mysql56, Series::Mysql97, Series::MariaDb1011] {
        let topology = topology(series, None).await;
        let (acts, server) = (Acts::new(options()), &topology.servers[0]);
        let allowed = async || server.value("SELECT @@GLOBAL.max_connections").await.unwrap().parse::<u32>().unwrap();
        let before = allowed().await;
        acts.act(server.addr(), Action::AllowConnections { more: 10 }).await;
        assert_eq!(allowed().await, before + 10, "{series:?}");
    }
}
