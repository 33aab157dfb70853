//! The account that docs/mysql.md asks for can do everything that a failover does, and no more is asked for.

use baton::{
    core::{
        gtid::GtidSet,
        id::{Epoch, ServerAddr},
        observation::{Channel, Receiver},
        step::Action,
    },
    mysql::options::Options as Reach,
    testing::{
        series::Series,
        topology::{Options, Topology, eventually},
    },
};
use std::time::Duration;

use super::setup::{Acts, account, options};

/// The statements that the documentation gives for a series.
pub(super) fn statements(series: Series) -> Vec<String> {
    let mark = match series {
        Series::Mysql56 => "-- mysql-5.6",
        Series::Mysql97 => "-- mysql-8.0",
        Series::MariaDb1011 => "-- mariadb-10.11",
    };
    block(mark)
}

/// The statements of the block that begins with `mark`.
pub(super) fn block(mark: &str) -> Vec<String> {
    let page = include_str!("../../docs/mysql.md");
    let block = page.split("```sql\n").find(|block| block.starts_with(mark)).expect("a block for the series");
    let text = block.split("```").next().unwrap();
    let statements =
        text.split(";\n").map(|statement| statement.replace(mark, "").trim().replace("'baton'@", "'least'@"));
    statements.filter(|statement| !statement.is_empty()).map(|text| text.replace("change-me", "least")).collect()
}

/// Everything that a failover from the first server to the second does, with the least account.
async fn a_failover(series: Series) {
    let semi_sync_acks = (series == Series::Mysql97).then_some(1);
    let topology = Topology::start(&Options { semi_sync_acks, ..Options::new(series, 2) }).await.unwrap();
    for statement in statements(series) {
        topology.servers[0].query(&statement).await.unwrap_or_else(|error| panic!("{series:?}: {statement}: {error}"));
    }
    for replica in &topology.servers[1..] {
        topology.caught_up(replica, &topology.servers[0]).await.unwrap();
    }
    let acts = Acts::new(Reach { operator: account("least"), ..options() });
    let [old, new, other] = topology.addresses().try_into().unwrap();
    let heartbeats = Action::EnforceReplicationSettings { heartbeat_ms: 500, net_timeout_s: 2 };
    acts.act(&other, heartbeats).await;
    acts.act(&other, Action::RestartReceiver).await;
    for replica in [&new, &other] {
        acts.act(replica, Action::StopReceiver).await;
    }
    acts.act(&old, Action::Fence).await;
    acts.act(&new, Action::StartApplier).await;
    acts.act(&new, Action::WaitApplied { set: GtidSet::default(), wait_ms: 100 }).await;
    acts.act(&new, Action::Claim { epoch: Epoch(1), valid_ms: 5000 }).await;
    if semi_sync_acks.is_some() {
        acts.act(&new, Action::SemiSyncSource { on: true, wait_count: 1 }).await;
    }
    acts.act(&other, Action::Repoint { source: new.clone(), semi_sync: semi_sync_acks.map(|_| true) }).await;
    acts.act(&new, Action::WriteEpoch { epoch: Epoch(1), old_primary: Some(old.clone()), wait_ms: 2000 }).await;
    assert!(acts.act(&new, Action::Unfence).await.settings.writable(), "{series:?}");
    acts.act(&new, Action::ForgetSource).await;
    acts.act(&old, Action::Repoint { source: new.clone(), semi_sync: None }).await;
    acts.act(&old, Action::SetReadOnly).await;
    for replica in [&old, &other] {
        follows(&acts, replica, &new).await;
    }
    let rows = topology.servers[1].value("SELECT COUNT(*) FROM baton.epoch").await.unwrap();
    assert_eq!(rows, "1", "{series:?}");
}

async fn follows(acts: &Acts, replica: &ServerAddr, source: &ServerAddr) {
    let running = |channel: &Channel| {
        channel.source.as_ref() == Some(source) && channel.receiver == Receiver::Running && channel.applier_running
    };
    let follows = async || Ok(acts.act(replica, Action::Look).await.channels.iter().any(running));
    eventually("the replica follows the new primary", Duration::from_secs(10), follows).await.unwrap();
}

#[tokio::test]
async fn the_documented_account_fails_over_mysql_56() {
    a_failover(Series::Mysql56).await;
}

#[tokio::test]
async fn the_documented_account_fails_over_mysql_97() {
    a_failover(Series::Mysql97).await;
}

#[tokio::test]
async fn the_documented_account_fails_over_mariadb_1011() {
    a_failover(Series::MariaDb1011).await;
}
