//! Wires the shells to the engine: one supervisor per cluster, one elector, the probe endpoints, and an
//! orderly end.

mod cluster;
pub mod export;
mod feed;
mod http;
pub mod job;
mod jobs;
mod leading;
mod order;
mod orphans;
mod strike;
mod tell;
mod world;
mod writes;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use kube::{Client, Config};
use tokio::{
    sync::{mpsc, watch},
    task::{JoinHandle, JoinSet},
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use self::world::LettingIn;
use crate::{
    api::MysqlFailover,
    core::{
        election::{Lost, Timing},
        id::ClusterKey,
    },
    engine::{
        clock::SystemClock,
        ports::{Clock, Leadership},
        turns::Turns,
    },
    k8s::{
        client::lease_config,
        controller::{
            change::{Change, ClusterChange},
            mysql_cluster::{Controller, Scope},
        },
        deadline,
        events::Events,
        jobs::Setup,
        lease::{self, Elector, Leader},
    },
    telemetry::{
        event::{
            Event,
            cluster::{ClusterRemoved, InvalidCluster},
            process::{Listening, StageStopped, Started},
        },
        logging::LevelControl,
        metrics::{Metrics, MetricsError},
    },
};

/// Longest wait for the last scrapes and probes to be answered on an orderly stop.
const STOP: Duration = Duration::from_secs(2);
/// What giving the Lease back may take beyond the time in which it has to be renewed.
const RELEASE_MARGIN: Duration = Duration::from_secs(1);
/// Changes of clusters that may wait.
const CHANGES: usize = 64;

/// How the operator is set up.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Namespaces served; empty: all.
    pub namespaces: Vec<String>,
    /// Name of the Lease.
    pub lease_name: String,
    /// Namespace of the Lease.
    pub lease_namespace: String,
    /// Durations of the Lease.
    pub timing: Timing,
    /// Where probes and metrics are served.
    pub listen: BTreeSet<SocketAddr>,
    /// Where the log level is changed; meant for this machine alone.
    pub admin: SocketAddr,
    /// Changes the log level.
    pub level: LevelControl,
    /// Name of this pod.
    pub pod_name: String,
    /// Jobs that failovers are left to; `None`: none is.
    pub jobs: Option<JobSettings>,
}

/// How Jobs are set up.
#[derive(Debug, Clone)]
pub struct JobSettings {
    /// Their pods.
    pub setup: Setup,
    /// How quickly one that died is replaced, as `--lease-tier` has it.
    pub tier: String,
}

/// Why the operator ended.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The Kubernetes configuration cannot be used.
    #[error("cannot reach Kubernetes: {0}")]
    Kubernetes(String),
    /// The address for probes and metrics cannot be bound.
    #[error("cannot listen on {0}: {1}")]
    Listen(SocketAddr, String),
    /// Leadership was lost: somebody else acts now.
    #[error("leadership lost: {0}")]
    Lost(#[from] Lost),
    /// Metrics cannot be set up.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
}

/// What every cluster's supervisor shares.
#[derive(Clone)]
struct Shared {
    client: Client,
    /// For what only shows something.
    showing: Client,
    clock: SystemClock,
    leader: Leader,
    identity: String,
    metrics: Arc<Metrics>,
    events: Events,
    jobs: Option<JobSettings>,
    letting_in: LettingIn,
    turns: Turns,
}

impl Shared {
    /// Whether this process leads for a while yet.
    fn leads(&self) -> bool {
        self.leader.leader_until().is_some_and(|until| until > self.clock.now())
    }
}

/// Runs until `stop` is cancelled or leadership is lost.
///
/// # Errors
/// [`AppError`].
pub async fn run(settings: Settings, stop: CancellationToken) -> Result<(), AppError> {
    let kubernetes = |error: &dyn std::fmt::Display| AppError::Kubernetes(error.to_string());
    let mut config = Config::infer().await.map_err(|error| kubernetes(&error))?;
    let clock = SystemClock::start();
    let metrics = Arc::new(Metrics::new(env!("CARGO_PKG_VERSION"))?);
    let counter = writes::Counter { metrics: Arc::clone(&metrics), clock: clock.clone() };
    let lease_config = lease_config(config.clone(), settings.timing);
    let lease_client = writes::client(lease_config, &counter).map_err(|error| kubernetes(&error))?;
    deadline::configure(&mut config);
    let client = writes::client(config, &counter).map_err(|error| kubernetes(&error))?;
    let identity = lease::identity(&settings.pod_name);
    let lease = lease::Settings {
        namespace: settings.lease_namespace.clone(),
        name: settings.lease_name.clone(),
        identity: identity.clone(),
        timing: settings.timing,
    };
    let lease_name = format!("{}/{}", lease.namespace, lease.name);
    let (elector, leader) = Elector::new(lease_client, lease, Arc::new(clock.clone()));
    let telling = leading::tell(leader.clone(), identity.clone(), lease_name, Arc::clone(&metrics));
    let telling = AbortOnDrop(tokio::spawn(telling));
    let (ready, is_ready) = watch::channel(false);
    let endpoints = http::Endpoints { metrics: Arc::clone(&metrics), ready: is_ready, level: settings.level.clone() };
    let http = serve(&settings, &endpoints, &stop).await?;
    let namespaces = match settings.namespaces.as_slice() {
        [] => "all namespaces".to_owned(),
        names => names.join(", "),
    };
    Started { version: env!("CARGO_PKG_VERSION"), identity: &identity, namespaces: &namespaces }.emit(&metrics);

    let (sender, changes) = mpsc::channel(CHANGES);
    let controller = Controller::new(&client, scope(&settings), sender);
    let synced = controller.synced();
    let _controller = AbortOnDrop(tokio::spawn(controller.run(stop.clone())));
    let (events, publishing) = Events::new(&client, &identity);
    let _events = AbortOnDrop(tokio::spawn(publishing));
    let (jobs, letting_in) = (settings.jobs.clone(), LettingIn::default());
    let (showing, turns) = (order::showing(&client), Turns::default());
    let shared = Shared { client, showing, clock, leader, identity, metrics, events, jobs, letting_in, turns };
    let release = CancellationToken::new();
    let mut election = tokio::spawn(elector.run(release.clone()));
    let ended = tokio::select! {
        () = supervise(&shared, changes, synced, &ready, &stop) => None,
        lost = &mut election => Some(lost),
    };
    let result = match ended {
        // A claim on a server is valid as long as the Lease was: who leads next must not come before its end.
        None if shared.letting_in.any() => {
            tracing::warn!("stopped while clients were being let in: the Lease is left to expire");
            election.abort();
            Ok(())
        }
        // Everything that acted has ended: the next leader may begin at once.
        None => {
            release.cancel();
            let limit = Duration::from_millis(settings.timing.deadline_ms()) + RELEASE_MARGIN;
            let started = Instant::now();
            let in_time = timeout(limit, election).await.is_ok();
            let took_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
            StageStopped { stage: "election", took_ms, in_time }.emit(&shared.metrics);
            Ok(())
        }
        Some(Ok(Err(lost))) => Err(AppError::Lost(lost)),
        Some(_) => Ok(()),
    };
    stop.cancel();
    let _served = timeout(STOP, http.join_all()).await;
    drop(telling);
    result
}

fn scope(settings: &Settings) -> Scope {
    match settings.namespaces.as_slice() {
        [] => Scope::All,
        names => Scope::Namespaces(names.to_vec()),
    }
}

/// Serves probes, metrics and the log level.
async fn serve(
    settings: &Settings,
    endpoints: &http::Endpoints,
    stop: &CancellationToken,
) -> Result<JoinSet<()>, AppError> {
    let mut tasks = JoinSet::new();
    let open = settings.listen.iter().map(|address| ("probes and metrics", *address, http::open(endpoints)));
    let admin = [("the log level", settings.admin, http::admin(endpoints))];
    for (what, address, router) in open.chain(admin) {
        let listener = tokio::net::TcpListener::bind(address).await;
        let listener = listener.map_err(|error| AppError::Listen(address, error.to_string()))?;
        Listening { what, address: listener.local_addr().unwrap_or(address) }.emit(&endpoints.metrics);
        tasks.spawn(http::serve(listener, router, stop.clone()));
    }
    Ok(tasks)
}

/// A task that ends with its owner.
pub(crate) struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A cluster that is known.
struct Known {
    uid: Option<String>,
    wanted: watch::Sender<cluster::Wanted>,
    task: Option<AbortOnDrop>,
}

/// All clusters that are known.
struct Supervisor<'a> {
    shared: &'a Shared,
    clusters: BTreeMap<ClusterKey, Known>,
    records: BTreeMap<ClusterKey, Arc<Vec<MysqlFailover>>>,
    /// Who answers what is asked of clusters that are not known.
    orphans: BTreeMap<ClusterKey, AbortOnDrop>,
    /// Records were read: whoever starts now knows of unfinished recoveries.
    open: bool,
}

/// Keeps a supervisor for every cluster that there is. None starts before the records were read.
async fn supervise(
    shared: &Shared,
    mut changes: mpsc::Receiver<ClusterChange>,
    mut synced: watch::Receiver<bool>,
    ready: &watch::Sender<bool>,
    stop: &CancellationToken,
) {
    let mut supervisor = Supervisor {
        shared,
        clusters: BTreeMap::new(),
        records: BTreeMap::new(),
        orphans: BTreeMap::new(),
        open: false,
    };
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            change = changes.recv() => match change {
                Some(change) => supervisor.take(change),
                None => return,
            },
            Ok(()) = synced.changed() => {}
        }
        if !supervisor.open && *synced.borrow() && changes.is_empty() {
            supervisor.open();
            ready.send_replace(true);
        }
    }
}

impl Supervisor<'_> {
    fn open(&mut self) {
        self.open = true;
        for (key, known) in &mut self.clusters {
            known.start(self.shared, key);
        }
        for key in self.records.keys().cloned().collect::<Vec<_>>() {
            self.adopt(&key);
        }
    }

    /// Somebody has to answer what is asked of a cluster that is not known.
    fn adopt(&mut self, key: &ClusterKey) {
        self.orphans.remove(key);
        let records = self.records.get(key).filter(|records| !records.is_empty());
        if let Some(records) = records.filter(|_| self.open && !self.clusters.contains_key(key)) {
            let task = orphans::watch(self.shared.clone(), key.clone(), Arc::clone(records));
            self.orphans.insert(key.clone(), AbortOnDrop(tokio::spawn(task)));
        }
    }

    fn take(&mut self, ClusterChange { key, what }: ClusterChange) {
        match what {
            Change::Gone => {
                self.clusters.remove(&key);
                ClusterRemoved { cluster: &key }.emit(&self.shared.metrics);
                self.adopt(&key);
            }
            Change::Records(records) => {
                let records = Arc::new(records);
                if let Some(known) = self.clusters.get(&key) {
                    known.wanted.send_modify(|wanted| wanted.records = Arc::clone(&records));
                }
                self.records.insert(key.clone(), records);
                self.adopt(&key);
            }
            Change::Desired(desired) => {
                let uid = Some(desired.uid.clone());
                let desired = Arc::new(*desired);
                self.known(&key, uid).wanted.send_modify(|wanted| {
                    wanted.desired = Some(desired);
                    wanted.refusal = None;
                });
            }
            Change::Invalid(refusal) => {
                let (reason, message) = (&*refusal.problem.category, &*refusal.problem.message);
                InvalidCluster { cluster: &key, reason, message }.emit(&self.shared.metrics);
                self.known(&key, None).wanted.send_modify(|wanted| {
                    wanted.desired = wanted.desired.take().filter(|_| !refusal.stop);
                    wanted.refusal = Some(refusal);
                });
            }
        }
    }

    /// The cluster `key`; another object of the same name is another cluster.
    fn known(&mut self, key: &ClusterKey, uid: Option<String>) -> &mut Known {
        let other = |known: &Known| known.uid.is_some() && uid.is_some() && known.uid != uid;
        if self.clusters.get(key).is_some_and(other) {
            self.clusters.remove(key);
        }
        self.orphans.remove(key);
        let records = self.records.get(key).cloned().unwrap_or_default();
        let known = self.clusters.entry(key.clone()).or_insert_with(|| {
            let wanted = cluster::Wanted { records, ..cluster::Wanted::default() };
            Known { uid: None, wanted: watch::Sender::new(wanted), task: None }
        });
        known.uid = uid.or(known.uid.take());
        if self.open && known.task.is_none() {
            known.start(self.shared, key);
        }
        known
    }
}

impl Known {
    fn start(&mut self, shared: &Shared, key: &ClusterKey) {
        let task = cluster::run(shared.clone(), key.clone(), self.wanted.subscribe());
        self.task = Some(AbortOnDrop(tokio::spawn(task)));
    }
}
