//! Claims, epochs, fences: who may make a server writable, and how a server stops being so.

use std::time::Duration;

use baton::{
    core::{
        id::Epoch,
        observation::FailureKind,
        step::{Action, ActionError},
    },
    testing::{
        series::Series,
        servers::Account,
        topology::{Options, Topology, eventually},
    },
};
use mysql_async::prelude::Queryable;
use tokio::time::{Instant, sleep, timeout};

use super::setup::{Acts, options};

const SECOND: Duration = Duration::from_secs(1);

fn claim(epoch: u64) -> Action {
    Action::Claim { epoch: Epoch(epoch), valid_ms: 10_000 }
}

fn epoch(epoch: u64, wait_ms: u64) -> Action {
    Action::WriteEpoch { epoch: Epoch(epoch), old_primary: None, wait_ms }
}

/// A later reign ends the session of an earlier one; an earlier one cannot come back.
async fn later_reigns_win(series: Series) {
    let topology = Topology::start(&Options::new(series, 1)).await.unwrap();
    let addr = topology.servers[1].addr();
    let (old, new) = (Acts::new(options()), Acts::new(options()));
    old.act(addr, Action::StopReceiver).await;
    old.act(addr, claim(4)).await;
    new.act(addr, claim(5)).await;
    for action in [epoch(4, 1000), Action::Unfence] {
        let late = old.try_act(addr, action).await;
        assert!(
            matches!(late, Err(ActionError::Contact { .. } | ActionError::Precondition { .. })),
            "{series:?}: {late:?}"
        );
    }
    assert!(!new.act(addr, Action::Look).await.settings.writable(), "{series:?}");
    new.act(addr, epoch(5, 2000)).await;
    assert!(new.act(addr, Action::Unfence).await.settings.writable(), "{series:?}");
    let uuid = topology.servers[1].value("SELECT server_uuid FROM baton.epoch WHERE epoch = 5").await.unwrap();
    assert_eq!(uuid, new.act(addr, Action::Look).await.identity.uuid, "{series:?}");

    let stale = old.try_act(addr, claim(4)).await;
    assert!(matches!(stale, Err(ActionError::Precondition { .. })), "{series:?}: {stale:?}");
    // The same reign again, for instance by whoever took over its record, finds its own epoch.
    let heir = Acts::new(options());
    heir.act(addr, claim(5)).await;
    heir.act(addr, epoch(5, 2000)).await;
    assert!(heir.act(addr, Action::Unfence).await.settings.writable(), "{series:?}");
    let rows = topology.servers[1].value("SELECT COUNT(*) FROM baton.epoch").await.unwrap();
    assert_eq!(rows, "1", "{series:?}");
}

#[tokio::test]
async fn later_reigns_win_on_mysql_56() {
    later_reigns_win(Series::Mysql56).await;
}

#[tokio::test]
async fn later_reigns_win_on_mysql_97() {
    later_reigns_win(Series::Mysql97).await;
}

#[tokio::test]
async fn later_reigns_win_on_mariadb_1011() {
    later_reigns_win(Series::MariaDb1011).await;
}

/// Where an acker is missing the epoch waits, nobody can write, and the claim is still there when the
/// acker comes.
#[tokio::test]
async fn an_epoch_waits_for_an_acker() {
    let topology =
        Topology::start(&Options { semi_sync_acks: Some(1), ..Options::new(Series::Mysql97, 2) }).await.unwrap();
    let addrs = topology.addresses();
    let acts = Acts::new(options());
    for replica in &addrs[1..] {
        acts.act(replica, Action::StopReceiver).await;
    }
    acts.act(&addrs[1], claim(3)).await;
    acts.act(&addrs[1], Action::SemiSyncSource { on: true, wait_count: 1 }).await;
    for _ in 0..2 {
        let started = Instant::now();
        let waits = acts.try_act(&addrs[1], epoch(3, 400)).await;
        let Err(ActionError::Contact { failure, .. }) = &waits else { panic!("{waits:?}") };
        assert_eq!(failure.kind, FailureKind::Silent, "{failure:?}");
        assert!(started.elapsed() < 2 * SECOND, "{:?}", started.elapsed());
    }
    assert!(!acts.act(&addrs[1], Action::Look).await.settings.writable());
    // As a recovery does: begin again with the claim.
    acts.act(&addrs[1], claim(3)).await;
    acts.act(&addrs[2], Action::Repoint { source: addrs[1].clone(), semi_sync: Some(true) }).await;
    let written = acts.act(&addrs[1], epoch(3, 4000)).await;
    assert_eq!(written.semi_sync.source.as_ref().map(|source| source.clients), Some(1));
    assert!(acts.act(&addrs[1], Action::Unfence).await.settings.writable());
    topology.caught_up(&topology.servers[2], &topology.servers[1]).await.unwrap();
    assert_eq!(topology.servers[2].value("SELECT COUNT(*) FROM baton.epoch").await.unwrap(), "1");
}

/// A server that hangs while it is claimed does not give the claim more time.
#[tokio::test]
async fn a_hung_server_does_not_lengthen_a_claim() {
    let mut topology = Topology::start(&Options::new(Series::Mysql97, 1)).await.unwrap();
    let acts = Acts::new(options());
    let addr = topology.servers[1].addr().clone();
    acts.act(&addr, Action::StopReceiver).await;
    topology.servers[1].freeze().unwrap();
    let claiming = acts.try_act(&addr, Action::Claim { epoch: Epoch(1), valid_ms: 1500 });
    let (claimed, ()) = tokio::join!(claiming, async {
        sleep(SECOND).await;
        topology.servers[1].thaw().unwrap();
    });
    if claimed.is_ok() {
        sleep(Duration::from_millis(600)).await;
    }
    let late = acts.try_act(&addr, Action::Unfence).await;
    assert!(matches!(late, Err(ActionError::Precondition { .. })), "{claimed:?} {late:?}");
    assert!(!acts.act(&addr, Action::Look).await.settings.writable());
}

/// A fence ends ordinary clients wherever it cannot shut them out, and takes no write afterwards.
async fn a_fence_ends_clients(series: Series) {
    let topology = Topology::start(&Options::new(series, 1)).await.unwrap();
    let acts = Acts::new(options());
    let server = &topology.servers[0];
    let mut client = server.connect(Account::App).await.unwrap();
    client.query_drop("SELECT 1").await.unwrap();
    let fenced = acts.act(server.addr(), Action::Fence).await;
    assert!(!fenced.settings.writable(), "{series:?}");
    let ended = timeout(3 * SECOND, client.query_drop("SELECT 1")).await.unwrap();
    assert!(ended.is_err(), "{series:?}: the session is gone");
    // Again is fine, and replication goes on where the server allows it.
    acts.act(server.addr(), Action::Fence).await;
    let open = acts.act(server.addr(), Action::SetReadOnly).await;
    assert!(open.settings.read_only && !open.settings.offline_mode, "{series:?}");
    eventually("clients read again", 5 * SECOND, async || Ok(server.connect(Account::App).await.is_ok()))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_fence_ends_clients_of_mysql_56() {
    a_fence_ends_clients(Series::Mysql56).await;
}

#[tokio::test]
async fn a_fence_ends_clients_of_mysql_97() {
    a_fence_ends_clients(Series::Mysql97).await;
}

#[tokio::test]
async fn a_fence_ends_clients_of_mariadb_1011() {
    a_fence_ends_clients(Series::MariaDb1011).await;
}

/// Without offline mode a client whose commit waits is cut off before semi-sync is switched off: it is
/// never told that its write is safe.
#[tokio::test]
async fn a_fence_without_offline_mode_acknowledges_nothing() {
    let more =
        ["--rpl-semi-sync-slave-enabled=ON", "--rpl-semi-sync-master-timeout=1000000000"].map(str::to_owned).to_vec();
    let topology = Topology::start(&Options { more, ..Options::new(Series::MariaDb1011, 1) }).await.unwrap();
    let addrs = topology.addresses();
    topology.servers[0].query("CREATE TABLE app.t (id INT PRIMARY KEY) ENGINE = InnoDB").await.unwrap();
    let acts = Acts::new(options());
    acts.act(&addrs[0], Action::SemiSyncSource { on: true, wait_count: 1 }).await;
    acts.act(&addrs[1], Action::RestartReceiver).await;
    eventually("the replica acknowledges", 10 * SECOND, async || {
        Ok(acts.act(&addrs[0], Action::Look).await.semi_sync.source.is_some_and(|source| source.clients == 1))
    })
    .await
    .unwrap();
    acts.act(&addrs[1], Action::StopReceiver).await;
    let mut client = topology.servers[0].connect(Account::App).await.unwrap();
    let stuck = tokio::spawn(async move { client.query_drop("INSERT INTO app.t VALUES (1)").await });
    eventually("a commit waits", 5 * SECOND, async || {
        Ok(acts.act(&addrs[0], Action::Look).await.semi_sync.source.is_some_and(|source| source.waiting == 1))
    })
    .await
    .unwrap();
    let fenced = acts.act(&addrs[0], Action::Fence).await;
    assert!(!fenced.settings.writable());
    let outcome = timeout(3 * SECOND, stuck).await.unwrap().unwrap();
    assert!(outcome.is_err(), "nobody is told that the write is safe");
}

/// A winner that was offline is opened with the same statement.
#[tokio::test]
async fn unfencing_ends_offline_mode() {
    let topology = Topology::start(&Options::new(Series::Mysql97, 1)).await.unwrap();
    let acts = Acts::new(options());
    let addr = topology.servers[1].addr();
    acts.act(addr, Action::Fence).await;
    acts.act(addr, claim(1)).await;
    acts.act(addr, epoch(1, 2000)).await;
    let open = acts.act(addr, Action::Unfence).await;
    assert!(open.settings.writable() && !open.settings.offline_mode);
}

/// The source side on a replica stalls its applier (M10); switching it off releases it.
#[tokio::test]
async fn a_stalled_applier_goes_on_without_the_source_side() {
    let topology =
        Topology::start(&Options { semi_sync_acks: Some(1), ..Options::new(Series::Mysql97, 2) }).await.unwrap();
    let addrs = topology.addresses();
    let acts = Acts::new(options());
    let on = acts.act(&addrs[1], Action::SemiSyncSource { on: true, wait_count: 2 }).await;
    let source = on.semi_sync.source.unwrap();
    assert!(source.enabled && source.after_sync && source.wait_no_replica && source.wait_count == 2, "{source:?}");
    topology.servers[0].query("CREATE TABLE app.t (id INT PRIMARY KEY)").await.unwrap();
    let executed = acts.act(&addrs[0], Action::Look).await.executed;
    let wait = Action::WaitApplied { set: executed.clone(), wait_ms: 700 };
    assert!(!acts.act(&addrs[1], wait.clone()).await.executed.contains(&executed), "the applier waits for acks");
    acts.act(&addrs[1], Action::SemiSyncSource { on: false, wait_count: 0 }).await;
    assert!(acts.act(&addrs[1], wait).await.executed.contains(&executed));
    let off = acts.act(&addrs[1], Action::SemiSyncReplica { on: false }).await;
    assert_eq!(off.semi_sync.replica_enabled, Some(false));
    assert!(off.semi_sync.replica_active, "until the receiver starts anew");
    acts.act(&addrs[1], Action::RestartReceiver).await;
    topology.replicating(&topology.servers[1]).await.unwrap();
    assert!(!acts.act(&addrs[1], Action::Look).await.semi_sync.replica_active);
}

/// MariaDB has semi-sync built in, for one acknowledgement; 5.6 here has none.
#[tokio::test]
async fn semi_sync_where_it_is_different() {
    let topology = Topology::start(&Options::new(Series::MariaDb1011, 1)).await.unwrap();
    let acts = Acts::new(options());
    let addr = topology.servers[0].addr();
    let two = acts.try_act(addr, Action::SemiSyncSource { on: true, wait_count: 2 }).await;
    assert!(matches!(two, Err(ActionError::Precondition { .. })), "{two:?}");
    let one = acts.act(addr, Action::SemiSyncSource { on: true, wait_count: 1 }).await;
    let source = one.semi_sync.source.unwrap();
    assert!(source.enabled && source.wait_count == 1 && !source.lossless(), "{source:?}");
    acts.act(addr, Action::SemiSyncSource { on: false, wait_count: 0 }).await;

    let topology = Topology::start(&Options::new(Series::Mysql56, 0)).await.unwrap();
    let addr = topology.servers[0].addr();
    for (action, fits) in [
        (Action::SemiSyncSource { on: true, wait_count: 1 }, false),
        (Action::SemiSyncSource { on: false, wait_count: 0 }, true),
        (Action::SemiSyncReplica { on: true }, false),
        (Action::SemiSyncReplica { on: false }, true),
    ] {
        assert_eq!(acts.try_act(addr, action.clone()).await.is_ok(), fits, "{action:?}");
    }
}

/// Nobody has written an epoch yet: the sessions alone tell that a higher reign is at work here.
async fn a_claim_of_a_higher_reign_stands(series: Series) {
    let topology = Topology::start(&Options::new(series, 1)).await.unwrap();
    let addr = topology.servers[1].addr();
    let (old, new) = (Acts::new(options()), Acts::new(options()));
    new.act(addr, Action::StopReceiver).await;
    new.act(addr, claim(5)).await;
    let late = old.try_act(addr, claim(4)).await;
    assert!(matches!(late, Err(ActionError::Precondition { .. })), "{series:?}: {late:?}");
    new.act(addr, epoch(5, 2000)).await;
    assert!(new.act(addr, Action::Unfence).await.settings.writable(), "{series:?}");
}

#[tokio::test]
async fn a_claim_of_a_higher_reign_stands_on_mysql_97() {
    a_claim_of_a_higher_reign_stands(Series::Mysql97).await;
}
