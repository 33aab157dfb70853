//! Semi-sync on real servers: loading, switching on in the one safe order, mending, strays.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use baton::{
    core::{
        id::ServerAddr,
        membership::Membership,
        observation::SemiSyncSource,
        policy::{Policy, SemiSync},
        semi_sync::{Plan, durable, plan},
        snapshot::Snapshot,
        step::{Action, ActionError},
        time::Mono,
    },
    testing::{
        series::Series,
        snapshot::policy,
        topology::{Options, Topology},
    },
};
use tokio::time::sleep;

use super::setup::{Acts, options};

/// The servers, looked at and acted upon as the engine does, one thing after the other.
struct Keeper {
    topology: Topology,
    acts: Acts,
    snapshot: Snapshot,
    policy: Policy,
    done: Vec<String>,
}

impl Keeper {
    async fn new(series: Series, replicas: u32, acks: u32) -> Self {
        let topology = Topology::start(&Options::new(series, replicas)).await.unwrap();
        let addrs = topology.addresses();
        let mut policy = Policy { semi_sync: Some(SemiSync { acks, zones: 1 }), ..policy() };
        policy.servers = addrs.iter().map(|addr| (addr.clone(), Default::default())).collect();
        let mut snapshot = Snapshot { primary: addrs.first().cloned(), ..Snapshot::default() };
        snapshot.adopt(policy.servers.keys());
        let mut keeper = Self { topology, acts: Acts::new(options()), snapshot, policy, done: Vec::new() };
        keeper.look().await;
        keeper
    }

    fn addr(&self, index: usize) -> ServerAddr {
        self.topology.servers[index].addr().clone()
    }

    async fn look(&mut self) {
        for index in (0..self.topology.servers.len()).rev() {
            let addr = self.addr(index);
            let seen = self.acts.act(&addr, Action::Look).await;
            self.snapshot.at = seen.at;
            self.snapshot.apply(&addr, Ok(seen));
        }
    }

    /// Does what is due until nothing is, or the same thing is refused twice.
    async fn settle(&mut self) -> Option<ActionError> {
        let mut refused = None;
        for _ in 0..60 {
            self.look().await;
            let Plan { record, duties } = plan(&self.snapshot, &self.policy);
            if let Some(record) = record {
                self.done.push(format!("record {}", record.ackers.len()));
                self.snapshot.ledger.written = Some(record);
                continue;
            }
            let duty = duties.into_iter().next()?;
            let started = Instant::now();
            let result = self.acts.try_act(&duty.server, duty.action.clone()).await;
            let index = self.topology.servers.iter().position(|server| *server.addr() == duty.server).unwrap();
            self.done.push(format!("{} {index}", duty.action.name()));
            println!("  {} on server {index}: {:?} {:?}", duty.action.name(), started.elapsed(), result.as_ref().err());
            match result {
                Ok(seen) => self.snapshot.apply(&duty.server, Ok(seen)),
                Err(error) if refused.is_some() => return Some(error),
                Err(error) => refused = Some(error),
            }
            // A source counts its replicas a little later.
            sleep(Duration::from_millis(30)).await;
        }
        panic!("never at rest: {:?}", self.done);
    }

    fn state(&self) -> (Option<bool>, &'static str) {
        let answer = durable(&self.snapshot, &self.policy).unwrap();
        (answer.value, answer.reason)
    }

    fn source(&self) -> SemiSyncSource {
        self.snapshot.last(&self.addr(0)).unwrap().semi_sync.source.clone().unwrap()
    }

    async fn say(&self, index: usize, text: &str) {
        self.topology.servers[index].query(text).await.unwrap();
    }

    async fn writes(&self, row: u32) {
        self.say(0, "CREATE TABLE IF NOT EXISTS app.acks (id INT PRIMARY KEY)").await;
        self.say(0, &format!("INSERT INTO app.acks VALUES ({row})")).await;
    }
}

const KEPT: (Option<bool>, &str) = (Some(true), "SemiSync");

/// Switched on from nothing, mended after each thing that somebody may do, and a stray is turned away.
async fn semi_sync_is_set_and_kept(series: Series, source: &str, replica: &str) {
    let mut keeper = Keeper::new(series, 3, 1).await;
    assert_eq!(keeper.state().0, Some(false));
    assert_eq!(keeper.settle().await, None);
    assert_eq!(keeper.state(), KEPT, "{:?}", keeper.done);
    let first = |what: &str| keeper.done.iter().position(|done| done.starts_with(what)).unwrap();
    assert!(first("record") < first("Acknowledge") && first("Acknowledge") < first("LosslessSemiSync"));
    assert!(keeper.source().lossless(), "{:?}", keeper.source());
    keeper.writes(1).await;
    keeper.done.clear();
    assert_eq!(keeper.settle().await, None);
    assert_eq!(keeper.done, Vec::<String>::new(), "at rest");
    for (change, reason) in [
        (format!("SET GLOBAL {source}_timeout = 1000"), "Timeout"),
        (format!("SET GLOBAL {source}_wait_point = 'AFTER_COMMIT'"), "WaitPoint"),
        (format!("SET GLOBAL {source}_enabled = OFF"), "SwitchedOff"),
    ] {
        keeper.say(0, &change).await;
        keeper.look().await;
        assert_eq!(keeper.state(), (Some(false), reason));
        let started = Instant::now();
        assert_eq!(keeper.settle().await, None);
        println!("{series:?}: {change}: mended in {:?}", started.elapsed());
        assert_eq!(keeper.state(), KEPT, "{change}");
    }
    keeper.writes(2).await;
    // Server 3 is not among the two that acknowledge.
    let stop = if series == Series::Mysql97 { "REPLICA" } else { "SLAVE" };
    keeper.say(3, &format!("SET GLOBAL {replica}_enabled = ON")).await;
    keeper.say(3, &format!("STOP {stop} IO_THREAD")).await;
    keeper.say(3, &format!("START {stop} IO_THREAD")).await;
    sleep(Duration::from_millis(300)).await;
    keeper.look().await;
    assert_eq!(keeper.state(), (Some(false), "StrayAcker"));
    keeper.done.clear();
    assert_eq!(keeper.settle().await, None);
    assert_eq!(keeper.done, ["Acknowledge 3"]);
    keeper.writes(3).await;
    // Both ackers stop: one is started again because commits would wait.
    for index in [1, 2] {
        keeper.say(index, &format!("STOP {stop} IO_THREAD")).await;
    }
    sleep(Duration::from_millis(300)).await;
    assert_eq!(keeper.settle().await, None);
    keeper.writes(4).await;
    assert_eq!(keeper.settle().await, None);
    assert_eq!(keeper.state(), KEPT, "{:?}", keeper.done);
    // The other one was stopped by somebody and is not missed.
    let [primary, acker, ..] = keeper.topology.servers.as_slice() else { unreachable!() };
    keeper.topology.caught_up(acker, primary).await.unwrap();
}

#[tokio::test]
async fn semi_sync_is_set_and_kept_on_mysql_97() {
    semi_sync_is_set_and_kept(Series::Mysql97, "rpl_semi_sync_source", "rpl_semi_sync_replica").await;
}

#[tokio::test]
async fn semi_sync_is_set_and_kept_on_mariadb_1011() {
    semi_sync_is_set_and_kept(Series::MariaDb1011, "rpl_semi_sync_master", "rpl_semi_sync_slave").await;
}

/// The server here has no such plugin: nothing is done, and it is said what is missing.
#[tokio::test]
async fn a_missing_plugin_is_reported_on_mysql_56() {
    let mut keeper = Keeper::new(Series::Mysql56, 1, 1).await;
    let refused = keeper.settle().await;
    assert!(matches!(refused, Some(ActionError::Refused { .. })), "{refused:?}");
    assert_eq!(keeper.state(), (Some(false), "PluginMissing"));
    assert!(keeper.done.iter().all(|done| done.starts_with("LoadSemiSync") || done.starts_with("record")));
    keeper.writes(1).await;
}

#[tokio::test]
async fn a_server_that_refuses_all_writes_loads_plugins_and_refuses_them_again() {
    let topology = Topology::start(&Options::new(Series::Mysql97, 1)).await.unwrap();
    let (acts, replica) = (Acts::new(options()), topology.servers[1].addr().clone());
    let before = acts.act(&replica, Action::Look).await;
    assert!(before.settings.super_read_only && before.semi_sync.source.is_none());
    let after = acts.act(&replica, Action::LoadSemiSync).await;
    assert!(after.settings.super_read_only && after.settings.read_only);
    assert_eq!(after.semi_sync.replica_enabled, Some(false));
    assert!(after.semi_sync.source.is_some_and(|source| !source.enabled));
    assert_eq!(after.executed, before.executed, "nothing of it is logged");
    acts.act(&replica, Action::LoadSemiSync).await;
}

/// A primary is not made to wait for an acker that is not there.
#[tokio::test]
async fn a_primary_is_not_switched_to_wait_for_too_few() {
    let mut keeper = Keeper::new(Series::Mysql97, 1, 2).await;
    assert_eq!(keeper.settle().await, None);
    assert_eq!(keeper.state(), (Some(false), "TooFewAckers"));
    assert!(!keeper.source().enabled);
    keeper.writes(1).await;
    keeper.policy.semi_sync = Some(SemiSync { acks: 1, zones: 1 });
    assert_eq!(keeper.settle().await, None);
    assert_eq!(keeper.state(), KEPT);
    let written = Membership { source: keeper.addr(0), acks: 1, ackers: BTreeSet::from([keeper.addr(1)]) };
    assert_eq!(keeper.snapshot.ledger.written, Some(written));
    assert!(keeper.snapshot.at > Mono(0));
    keeper.writes(2).await;
}
