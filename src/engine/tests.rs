//! What looks show is thought about at the moment it comes, not with the next tick. Time is simulated:
//! it moves only while everything waits, so "at once" means that it did not move at all.

mod leader;

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep, timeout},
};

use super::{
    cluster::{Cluster, Inputs, Outputs},
    decide::Watching,
    facts::{Desired, History},
    ports::{ActionError, Clock, Journal, JournalError, Leadership, NoJobs, Servers, World},
};
use crate::{
    core::{
        id::{ClusterKey, Epoch, ServerAddr},
        membership::Membership,
        observation::{Downstream, Failure, FailureKind, Look, Observation},
        policy::{Policy, ServerFacts},
        recovery::{Hold, Recovery},
        status::ClusterView,
        step::Action,
        time::Mono,
    },
    testing::snapshot::{self, addr, policy},
};

/// Follows, and does nothing.
struct Standby(Instant);

impl Servers for Standby {
    async fn act(&self, addr: &ServerAddr, _: Action, _: u64) -> Result<Box<Observation>, ActionError> {
        Err(ActionError::Precondition { server: addr.clone(), reason: "a standby acts on nobody".to_owned() })
    }
}

impl Journal for Standby {
    async fn begin(&self, _: &Recovery) -> Result<(), JournalError> {
        Err(JournalError::Lost("a standby".to_owned()))
    }

    async fn save(&self, _: &Recovery) -> Result<(), JournalError> {
        Err(JournalError::Lost("a standby".to_owned()))
    }

    async fn claim(&self, _: &str, _: &str, _: Option<&Hold>) -> Result<Recovery, JournalError> {
        Err(JournalError::Lost("a standby".to_owned()))
    }

    async fn refuse(&self, _: &str, _: &str) -> Result<(), JournalError> {
        panic!("a standby refuses nothing")
    }

    async fn members(&self, _: Option<&Membership>, _: &Membership) -> Result<(), JournalError> {
        Err(JournalError::Lost("a standby".to_owned()))
    }

    async fn route(&self, _: Option<&ServerAddr>) -> Result<(), JournalError> {
        Err(JournalError::Lost("a standby".to_owned()))
    }
}

impl NoJobs for Standby {}

impl Leadership for Standby {
    fn leader_until(&self) -> Option<Mono> {
        None
    }
}

impl Clock for Standby {
    fn now(&self) -> Mono {
        // Not zero, so that "before" exists.
        Mono(100_000 + u64::try_from(self.0.elapsed().as_millis()).unwrap())
    }

    fn wall_ms(&self) -> u64 {
        0
    }

    async fn sleep_ms(&self, ms: u64) {
        sleep(Duration::from_millis(ms)).await;
    }
}

/// A running task, fed by hand.
struct Fed {
    seen: snapshot::Cluster,
    clock: Standby,
    looks: mpsc::Sender<(ServerAddr, Look)>,
    view: watch::Receiver<Option<ClusterView>>,
    watching: watch::Receiver<Watching>,
    wishes: (watch::Sender<Desired>, watch::Sender<History>),
}

impl Fed {
    /// A standby.
    async fn start() -> Self {
        let started = Instant::now();
        Self::of(Arc::new(Standby(started)), started, policy(), History::default()).await
    }

    /// A primary `p` with replicas `r1` and `r2`, of which the owner names all, looked at twice.
    async fn of(world: Arc<impl World>, started: Instant, mut policy: Policy, read: History) -> Self {
        policy.servers = ["p", "r1", "r2"].map(|name| (addr(name), ServerFacts::default())).into();
        let desired =
            watch::Sender::new(Desired { policy, primary: Some(addr("p")), epoch: Epoch(0), semi_sync: None });
        let history = watch::Sender::new(read);
        let (looks, receiver) = mpsc::channel(8);
        let inputs = Inputs { looks: receiver, desired: desired.subscribe(), history: history.subscribe() };
        let (views, view) = watch::channel(None);
        let (paces, watching) = watch::channel(Watching::default());
        let key = ClusterKey { namespace: "default".to_owned(), name: "shop".to_owned() };
        let outputs = Outputs { view: views, watching: paces };
        tokio::spawn(Cluster::new(key, "me", world, inputs, outputs).run());
        let seen = snapshot::Cluster::primary_and_replicas(2);
        let mut fed = Self { seen, clock: Standby(started), looks, view, watching, wishes: (desired, history) };
        fed.look().await;
        fed.look().await;
        fed
    }

    async fn look_at(&mut self, name: &str) {
        let at = self.clock.now();
        let server = self.seen.server(name);
        let look = match server.failure {
            Some(kind) => Err(Failure { at, kind, message: String::new() }),
            None => Ok(Box::new(Observation { at, took_ms: 0, ..server.observation.clone() })),
        };
        self.looks.send((addr(name), look)).await.unwrap();
    }

    async fn look(&mut self) {
        for name in ["r1", "r2", "p"] {
            self.look_at(name).await;
        }
    }

    /// All is well, for longer than a tick.
    async fn rest(&mut self) {
        for _ in 0..5 {
            sleep(Duration::from_millis(450)).await;
            self.look().await;
        }
        sleep(Duration::from_millis(100)).await;
    }

    /// Waits until the view is as wanted; answers how long that took, in milliseconds.
    async fn shown(&mut self, wanted: impl Fn(&ClusterView) -> bool) -> u64 {
        let before = self.clock.now();
        let found = self.view.wait_for(|view| view.as_ref().is_some_and(&wanted));
        timeout(Duration::from_secs(5), found).await.expect("it is shown").unwrap();
        self.clock.now().since_ms(before)
    }
}

fn says(view: &ClusterView, code: &str) -> bool {
    view.analyses.iter().any(|analysis| analysis.code == code)
}

#[tokio::test(start_paused = true)]
async fn a_closed_connection_is_thought_about_at_once() {
    let mut fed = Fed::start().await;
    fed.rest().await;
    assert_eq!(fed.watching.borrow().hurry_ms, None);
    fed.seen.fail("p", FailureKind::Refused);
    fed.look_at("p").await;
    assert_eq!(fed.shown(|view| says(view, "UnreachablePrimary")).await, 0);
    assert!(fed.watching.borrow().hurry_ms.is_some(), "everybody is looked at more often");
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_lost_its_source_is_thought_about_at_once() {
    let mut fed = Fed::start().await;
    fed.rest().await;
    fed.seen.lose_source("r1");
    fed.look_at("r1").await;
    assert_eq!(fed.shown(|view| says(view, "FirstTierReplicaFailingToConnectToPrimary")).await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_that_is_overdue_is_thought_about_with_the_look_that_shows_it() {
    let mut fed = Fed::start().await;
    fed.rest().await;
    fed.seen.fail("p", FailureKind::Silent);
    for name in ["r1", "r2"] {
        fed.seen.server(name).observation.channels[0].heartbeats += 1;
    }
    fed.look().await;
    // Overdue: 500 ms, half of it, and 200 ms of grace.
    for _ in 0..4 {
        sleep(Duration::from_millis(230)).await;
        fed.look().await;
    }
    sleep(Duration::from_millis(1)).await;
    assert!(!says(fed.view.borrow().as_ref().unwrap(), "DeadPrimary"));
    sleep(Duration::from_millis(39)).await;
    fed.look().await;
    assert_eq!(fed.shown(|view| says(view, "DeadPrimary")).await, 0);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_replica_is_looked_at_at_once() {
    let mut fed = Fed::start().await;
    fed.rest().await;
    let below = |host: &str| Downstream { host: host.to_owned(), port: None, server_id: None, uuid: None };
    fed.seen.server("p").observation.downstream = ["r1", "r2", "r3"].map(below).into();
    let before = fed.clock.now();
    fed.look_at("p").await;
    let found = fed.watching.wait_for(|watching| watching.servers.contains_key(&addr("r3")));
    timeout(Duration::from_secs(5), found).await.expect("it is found").unwrap();
    assert_eq!(fed.clock.now().since_ms(before), 0);
}

#[tokio::test(start_paused = true)]
async fn what_only_time_brings_comes_with_the_tick() {
    let mut fed = Fed::start().await;
    fed.rest().await;
    // The task itself does not run for a while: what was known is void until all were looked at again.
    tokio::time::advance(Duration::from_secs(3)).await;
    assert!(fed.shown(|view| says(view, "WatchingAnew")).await <= 250);
    fed.look().await;
    fed.shown(|view| view.analyses.is_empty()).await;
}
