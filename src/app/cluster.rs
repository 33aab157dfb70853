//! The supervisor of one cluster: turns its resource, Secrets and pods into what the engine is fed with,
//! and what the engine shows into status. Bad input is a condition, never a crash and never a hot loop.

mod exports;
mod probes;
mod rebuild;
mod report;
mod seldom;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use kube::Client;
use tokio::sync::{mpsc, watch};

use super::{AbortOnDrop, JobSettings, Shared, feed, jobs::FailoverJobs, tell::Teller, world::ClusterWorld};
use crate::{
    api::MysqlFailover,
    core::{
        id::{ClusterKey, ServerAddr},
        observation::Look,
        status::ClusterView,
    },
    engine::{
        cluster::{Cluster, Inputs, Outputs},
        decide::Watching,
        facts::{Desired, History},
        ports::Clock,
    },
    k8s::{
        controller::{change::Refusal, validate},
        jobs::Jobs,
        records::Records,
        routing::Routing,
    },
    mysql::{
        canary::Canary,
        execute::MysqlServers,
        options::Options,
        watch::{Pace, Watch},
    },
    telemetry::event::{Event, cluster::ClusterAccepted},
};

/// What is wanted of a cluster, as last told.
#[derive(Debug, Clone, Default)]
pub(super) struct Wanted {
    /// What the engine works by; `None`: it must not work.
    pub(super) desired: Option<Arc<validate::Desired>>,
    /// Why the object is not served as it is now.
    pub(super) refusal: Option<Refusal>,
    /// All records of the cluster.
    pub(super) records: Arc<Vec<MysqlFailover>>,
}

/// Time between rounds without events.
const ROUND: Duration = Duration::from_millis(500);
/// Sessions for actions are kept warm this often.
const WARM: Duration = Duration::from_secs(5);
/// Looks on their way to the engine.
pub(super) const LOOKS: usize = 1024;

/// Serves one cluster until the task is ended.
pub(super) async fn run(shared: Shared, key: ClusterKey, mut wanted: watch::Receiver<Wanted>) {
    let mut report = report::Report::new(shared.clone(), key.clone());
    let mut engine: Option<Engine> = None;
    loop {
        let now = wanted.borrow_and_update().clone();
        match &now.desired {
            Some(desired) => match &mut engine {
                Some(engine) => engine.update(&shared, &key, desired, &now.records),
                None => engine = Some(Engine::start(&shared, &key, desired, &now.records)),
            },
            None => engine = None,
        }
        report.round(&now, engine.as_ref()).await;
        let viewed = async {
            match &mut engine {
                Some(engine) => engine.view.changed().await.is_ok(),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = wanted.changed() => if changed.is_err() { return },
            _ = viewed => {}
            () = tokio::time::sleep(ROUND) => {}
        }
    }
}

/// The engine of one cluster with everything that feeds it; ends when dropped.
struct Engine {
    desired: watch::Sender<Desired>,
    options: watch::Sender<Arc<Options>>,
    history: watch::Sender<History>,
    routing: watch::Sender<Option<Arc<Routing>>>,
    /// What it works by.
    told: watch::Sender<Arc<validate::Desired>>,
    view: watch::Receiver<Option<ClusterView>>,
    _tasks: Vec<AbortOnDrop>,
}

impl Engine {
    fn start(shared: &Shared, key: &ClusterKey, wanted: &Arc<validate::Desired>, records: &[MysqlFailover]) -> Self {
        let (desired, desired_receiver) = watch::channel(feed::desired(wanted));
        let (options, options_receiver) = watch::channel(Arc::new(feed::options(&wanted.connect)));
        let (history, history_receiver) = watch::channel(feed::history(records, key));
        let (routing, routing_receiver) = watch::channel(routing(&shared.client, wanted));
        let (view_sender, view) = watch::channel(None);
        let (watching_sender, watching) = watch::channel(Watching::default());
        let (looks, looks_receiver) = mpsc::channel(LOOKS);
        let clock = shared.clock.clone();
        let now: Arc<dyn Fn() -> crate::core::time::Mono + Send + Sync> = Arc::new(move || clock.now());
        let servers = Arc::new(MysqlServers::new(options_receiver.clone(), Arc::clone(&now)));
        let world = Arc::new(ClusterWorld {
            servers: Arc::clone(&servers),
            records: Records::new(&shared.client, key.clone()),
            routing: routing_receiver,
            right: Arc::new(shared.leader.clone()),
            jobs: jobs(shared, key, &wanted.uid),
            clock: shared.clock.clone(),
            metrics: Arc::clone(&shared.metrics),
            teller: Teller::new(key.clone(), &wanted.uid, shared.events.clone()),
            letting_in: shared.letting_in.clone(),
            turns: shared.turns.clone(),
        });
        let (told, told_receiver) = watch::channel(Arc::clone(wanted));
        let rebuilds = rebuild::Rebuilds {
            shared: shared.clone(),
            key: key.clone(),
            records: Records::new(&shared.client, key.clone()),
            servers: Arc::clone(&servers),
            options: options_receiver.clone(),
            desired: told_receiver,
            history: history_receiver.clone(),
            view: view.clone(),
        };
        let rebuilds = rebuild::Keeper::new(rebuilds).run();
        let inputs = Inputs { looks: looks_receiver, desired: desired_receiver, history: history_receiver };
        let outputs = Outputs { view: view_sender, watching: watching_sender };
        let task = Cluster::new(key.clone(), &shared.identity, world, inputs, outputs).run();
        let (seen, seen_receiver) = mpsc::channel(LOOKS);
        let relay = probes::relay(key.clone(), Arc::clone(&shared.metrics), seen_receiver, looks);
        let watches = watches(watching, options_receiver, seen, now, servers);
        ClusterAccepted { cluster: key, servers: wanted.policy.servers.len() }.emit(&shared.metrics);
        let tasks = [tokio::spawn(task), tokio::spawn(watches), tokio::spawn(relay), tokio::spawn(rebuilds)];
        Self { desired, options, history, routing, told, view, _tasks: tasks.map(AbortOnDrop).into() }
    }

    fn update(
        &mut self,
        shared: &Shared,
        key: &ClusterKey,
        wanted: &Arc<validate::Desired>,
        records: &[MysqlFailover],
    ) {
        // The age of records counts too.
        self.history.send_replace(feed::history(records, key));
        if Arc::ptr_eq(&self.told.borrow(), wanted) {
            return;
        }
        let options = feed::options(&wanted.connect);
        self.options.send_if_modified(|old| {
            let changed = !feed::same_options(old, &options);
            if changed {
                *old = Arc::new(options);
            }
            changed
        });
        self.desired.send_replace(feed::desired(wanted));
        if self.told.borrow().routing != wanted.routing {
            self.routing.send_replace(routing(&shared.client, wanted));
        }
        self.told.send_replace(Arc::clone(wanted));
    }
}

/// Jobs for its failovers.
fn jobs(shared: &Shared, key: &ClusterKey, uid: &str) -> Option<FailoverJobs> {
    let JobSettings { setup, tier } = shared.jobs.clone()?;
    Some(FailoverJobs { jobs: Jobs::new(&shared.client, setup), key: key.clone(), uid: uid.to_owned(), tier })
}

/// The Service that the cluster wishes for.
pub(super) fn routing(client: &Client, wanted: &validate::Desired) -> Option<Arc<Routing>> {
    let wish = wanted.routing.clone()?;
    Some(Arc::new(Routing::new(client, wanted.key.clone(), &wanted.uid, wish)))
}

/// Keeps one watch per server, at the pace the engine asks for, and a warm session beside it.
pub(super) async fn watches(
    mut watching: watch::Receiver<Watching>,
    options: watch::Receiver<Arc<Options>>,
    looks: mpsc::Sender<(ServerAddr, Look)>,
    now: Arc<dyn Fn() -> crate::core::time::Mono + Send + Sync>,
    servers: Arc<MysqlServers>,
) {
    let mut running: BTreeMap<ServerAddr, (watch::Sender<Pace>, Vec<AbortOnDrop>)> = BTreeMap::new();
    let mut canary: Option<(ServerAddr, AbortOnDrop)> = None;
    loop {
        let wanted = watching.borrow_and_update().clone();
        if canary.as_ref().map(|(addr, _)| addr) != wanted.canary.as_ref() {
            let sing = |addr| Canary { addr, options: options.clone() }.run();
            canary = wanted.canary.clone().map(|addr| (addr.clone(), AbortOnDrop(tokio::spawn(sing(addr)))));
        }
        running.retain(|addr, _| wanted.servers.contains_key(addr));
        servers.keep_only(|addr| wanted.servers.contains_key(addr));
        for (addr, interval_ms) in &wanted.servers {
            let pace = Pace {
                interval_ms: *interval_ms,
                answer_ms: wanted.answer_ms,
                hurry_ms: wanted.hurry_ms,
                held: wanted.primary.as_ref() == Some(addr),
            };
            if let Some((sender, _)) = running.get(addr) {
                sender.send_if_modified(|old| {
                    let changed = *old != pace;
                    old.clone_from(&pace);
                    changed
                });
                continue;
            }
            let (sender, receiver) = watch::channel(pace);
            let task = Watch {
                addr: addr.clone(),
                options: options.clone(),
                pace: receiver,
                looks: looks.clone(),
                servers: Some(Arc::clone(&servers)),
                now: Arc::clone(&now),
            };
            let tasks = vec![
                AbortOnDrop(tokio::spawn(task.run())),
                AbortOnDrop(tokio::spawn(warm(Arc::clone(&servers), addr.clone()))),
            ];
            running.insert(addr.clone(), (sender, tasks));
        }
        if watching.changed().await.is_err() {
            return;
        }
    }
}

/// A recovery must not have to connect first.
async fn warm(servers: Arc<MysqlServers>, addr: ServerAddr) {
    loop {
        if let Err(error) = servers.warm(&addr, 2000).await {
            tracing::debug!(server = %addr, "no session for actions: {error}");
        }
        tokio::time::sleep(WARM).await;
    }
}
