//! The supervisor of one cluster: turns its resource, Secrets and pods into what the engine is fed with,
//! and what the engine shows into status. Bad input is a condition, never a crash and never a hot loop.

mod feed;
mod report;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

use super::{AbortOnDrop, Shared, world::ClusterWorld};
use crate::{
    api::mysql_cluster::MysqlCluster,
    core::{
        id::{ClusterKey, Epoch, ServerAddr},
        observation::Look,
        status::ClusterView,
    },
    engine::{
        cluster::{Cluster, Desired, History, Inputs, Outputs, Watching},
        ports::{Clock, Leadership},
    },
    k8s::{records::Records, routing::PrimaryService, secrets, validate::Invalid},
    mysql::{
        execute::MysqlServers,
        options::Options,
        watch::{Pace, Watch, side::Fresh},
    },
};

/// The resource as last read, and why it is not served.
pub(super) type Object = (Arc<MysqlCluster>, Option<Invalid>);

/// Time between rounds without events.
const ROUND: Duration = Duration::from_millis(500);
/// Secrets are read this often.
const SECRETS: Duration = Duration::from_secs(10);
/// Secrets are read this often while they are wrong.
const SECRETS_WRONG: Duration = Duration::from_secs(2);
/// Sessions for actions are kept warm this often.
const WARM: Duration = Duration::from_secs(5);
/// Looks on their way to the engine.
const LOOKS: usize = 1024;

/// Serves one cluster until the task is ended.
pub(super) async fn run(shared: Shared, key: ClusterKey, mut object: watch::Receiver<Object>) {
    let mut feed = feed::Feed::new(shared.client.clone());
    let mut report = report::Report::new(shared.clone(), key.clone());
    let mut engine: Option<Engine> = None;
    let mut read_at: Option<Instant> = None;
    loop {
        let (cluster, duplicate) = object.borrow_and_update().clone();
        let every = if feed.options.is_some() { SECRETS } else { SECRETS_WRONG };
        if read_at.is_none_or(|at| at.elapsed() >= every) || object.has_changed().unwrap_or(false) {
            read_at = Some(Instant::now());
            feed.read_secrets(&cluster).await;
        }
        feed.read_pods(&cluster).await;
        match feed.desired(&cluster, duplicate) {
            Ok((desired, options)) => {
                let engine = engine.get_or_insert_with(|| {
                    Engine::start(&shared, &key, &cluster, desired.clone(), Arc::clone(&options))
                });
                engine.update(&shared, &key, &cluster, desired, options);
                let view = engine.view.borrow().clone();
                if let Some(view) = view {
                    report.served(&cluster, &view).await;
                }
            }
            Err(error) => {
                engine = None;
                report.stalled(&cluster, &error).await;
            }
        }
        let viewed = async {
            match &mut engine {
                Some(engine) => engine.view.changed().await.is_ok(),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = object.changed() => if changed.is_err() {
                return;
            } else {
                read_at = None;
            },
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
    service: watch::Sender<Option<PrimaryService>>,
    service_key: Option<(String, u16)>,
    view: watch::Receiver<Option<ClusterView>>,
    _tasks: Vec<AbortOnDrop>,
}

impl Engine {
    fn start(
        shared: &Shared,
        key: &ClusterKey,
        cluster: &MysqlCluster,
        desired: Desired,
        options: Arc<Options>,
    ) -> Self {
        let (desired_sender, desired_receiver) = watch::channel(desired);
        let (options_sender, options_receiver) = watch::channel(options);
        let (history_sender, history_receiver) = watch::channel(feed::history(shared, key));
        let (service_sender, service_receiver) = watch::channel(None);
        let (view_sender, view) = watch::channel(None);
        let (watching_sender, watching) = watch::channel(Watching::default());
        let (looks, looks_receiver) = mpsc::channel(LOOKS);
        let clock = shared.clock.clone();
        let now: Arc<dyn Fn() -> crate::core::time::Mono + Send + Sync> = Arc::new(move || clock.now());
        let servers = Arc::new(MysqlServers::new(options_receiver.clone(), Arc::clone(&now)));
        let world = Arc::new(ClusterWorld {
            servers: Arc::clone(&servers),
            records: Records::new(&shared.client, key.clone()),
            service: service_receiver,
            leader: shared.leader.clone(),
            clock: shared.clock.clone(),
        });
        let inputs = Inputs { looks: looks_receiver, desired: desired_receiver, history: history_receiver };
        let outputs = Outputs { view: view_sender, watching: watching_sender };
        let task = Cluster::new(key.clone(), &shared.identity, world, inputs, outputs).run();
        let watches = watches(watching, options_receiver, looks, now, servers);
        tracing::info!(cluster = %key, generation = cluster.metadata.generation, "serving {key}");
        Self {
            desired: desired_sender,
            options: options_sender,
            history: history_sender,
            service: service_sender,
            service_key: None,
            view,
            _tasks: vec![AbortOnDrop(tokio::spawn(task)), AbortOnDrop(tokio::spawn(watches))],
        }
    }

    fn update(
        &mut self,
        shared: &Shared,
        key: &ClusterKey,
        cluster: &MysqlCluster,
        desired: Desired,
        options: Arc<Options>,
    ) {
        let changed = !secrets::same_options(&self.options.borrow(), &options);
        if changed {
            self.options.send_replace(options);
        }
        self.desired.send_replace(desired);
        self.history.send_replace(feed::history(shared, key));
        let name = cluster.spec.routing.as_ref().and_then(|routing| routing.primary_service.clone());
        let wanted = name.map(|name| (name, cluster.spec.port));
        if wanted != self.service_key {
            let uid = cluster.metadata.uid.clone().unwrap_or_default();
            let service = |(name, port): &(String, u16)| PrimaryService::new(&shared.client, key, &uid, name, *port);
            let service = wanted.as_ref().map(service);
            self.service.send_replace(service.clone());
            self.service_key = wanted;
        }
    }
}

/// Keeps one watch per server, at the pace the engine asks for, and a warm session beside it.
async fn watches(
    mut watching: watch::Receiver<Watching>,
    options: watch::Receiver<Arc<Options>>,
    looks: mpsc::Sender<(ServerAddr, Look)>,
    now: Arc<dyn Fn() -> crate::core::time::Mono + Send + Sync>,
    servers: Arc<MysqlServers>,
) {
    let (fresh, outcomes) = mpsc::channel(LOOKS);
    let _refusals = AbortOnDrop(tokio::spawn(refusals(outcomes)));
    let mut running: BTreeMap<ServerAddr, (watch::Sender<Pace>, Vec<AbortOnDrop>)> = BTreeMap::new();
    loop {
        let wanted = watching.borrow_and_update().clone();
        running.retain(|addr, _| wanted.servers.contains_key(addr));
        servers.keep_only(|addr| wanted.servers.contains_key(addr));
        for (addr, interval_ms) in &wanted.servers {
            let pace = Pace {
                interval_ms: *interval_ms,
                answer_ms: wanted.answer_ms,
                urgent: wanted.urgent,
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
                fresh: fresh.clone(),
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

/// A server that serves old connections and refuses new ones is said once, until it takes them again.
async fn refusals(mut outcomes: mpsc::Receiver<Fresh>) {
    let mut refusing = BTreeSet::new();
    while let Some(Fresh { server, result }) = outcomes.recv().await {
        match result {
            Ok(()) => {
                refusing.remove(&server);
            }
            Err(failure) if refusing.insert(server.clone()) => {
                tracing::warn!(server = %server, "{server} refuses new connections: {}", failure.message);
            }
            Err(_) => {}
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

/// Whether this process leads for a while yet.
fn leads(shared: &Shared) -> bool {
    shared.leader.leader_until().is_some_and(|until| until > shared.clock.now())
}

/// `status.epoch` as a reign.
fn epoch_of(cluster: &MysqlCluster) -> Epoch {
    let epoch = cluster.status.as_ref().and_then(|status| status.epoch);
    Epoch(epoch.and_then(|epoch| u64::try_from(epoch).ok()).unwrap_or_default())
}
