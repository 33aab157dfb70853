//! Wires the shells to the engine: one supervisor per cluster, one elector, the probe endpoints, and an
//! orderly end.

mod cluster;
mod http;
mod world;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt, TryStreamExt};
use kube::{
    Api, Client, Config, ResourceExt,
    runtime::{WatchStreamExt, reflector, watcher},
};
use tokio::{sync::watch, task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    api::{mysql_cluster::MysqlCluster, mysql_failover::MysqlFailover},
    core::{
        election::{Lost, Timing},
        id::ClusterKey,
    },
    engine::clock::SystemClock,
    k8s::{
        client::lease_client,
        deadline,
        lease::{self, Elector, Leader},
        validate,
    },
    telemetry::metrics::{Metrics, MetricsError},
};

/// Longest wait for work to end on an orderly stop.
const STOP: Duration = Duration::from_secs(5);
/// Clusters are gone through this often besides events: maintenance expires, duplicates end.
const RECHECK: Duration = Duration::from_secs(2);

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
    /// Name of this pod.
    pub pod_name: String,
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
    clock: SystemClock,
    leader: Leader,
    identity: String,
    records: reflector::Store<MysqlFailover>,
    metrics: Arc<Metrics>,
}

/// Runs until `stop` is cancelled or leadership is lost.
///
/// # Errors
/// [`AppError`].
pub async fn run(settings: Settings, stop: CancellationToken) -> Result<(), AppError> {
    let kubernetes = |error: &dyn std::fmt::Display| AppError::Kubernetes(error.to_string());
    let mut config = Config::infer().await.map_err(|error| kubernetes(&error))?;
    let lease_client = lease_client(config.clone(), settings.timing).map_err(|error| kubernetes(&error))?;
    deadline::configure(&mut config);
    let client = Client::try_from(config).map_err(|error| kubernetes(&error))?;
    let clock = SystemClock::start();
    let identity = lease::identity(&settings.pod_name);
    let lease = lease::Settings {
        namespace: settings.lease_namespace.clone(),
        name: settings.lease_name.clone(),
        identity: identity.clone(),
        timing: settings.timing,
    };
    let (elector, leader) = Elector::new(lease_client, lease, Arc::new(clock.clone()));
    let metrics = Arc::new(Metrics::new(env!("CARGO_PKG_VERSION"))?);
    let (ready, is_ready) = watch::channel(false);
    let mut http = tokio::task::JoinSet::new();
    for address in settings.listen {
        let listener = tokio::net::TcpListener::bind(address).await;
        let listener = listener.map_err(|error| AppError::Listen(address, error.to_string()))?;
        http.spawn(http::serve(listener, Arc::clone(&metrics), is_ready.clone(), stop.clone()));
    }

    let (records, _records_task) = reflected::<MysqlFailover>(&client, &settings.namespaces);
    let (clusters, _clusters_task) = reflected::<MysqlCluster>(&client, &settings.namespaces);
    let shared = Shared { client, clock, leader, identity, records, metrics };
    let release = CancellationToken::new();
    let mut election = tokio::spawn(elector.run(release.clone()));
    let ended = tokio::select! {
        () = supervise(&shared, &clusters, &ready, &stop) => None,
        lost = &mut election => Some(lost),
    };
    let result = match ended {
        // Everything that acted has ended: the next leader may begin at once.
        None => {
            release.cancel();
            let _outcome = timeout(STOP, election).await;
            Ok(())
        }
        Some(Ok(Err(lost))) => Err(AppError::Lost(lost)),
        Some(_) => Ok(()),
    };
    stop.cancel();
    let _served = timeout(STOP, http.join_all()).await;
    result
}

/// A cache of all objects of a kind in the served namespaces, kept by a task that ends with the handle.
fn reflected<K>(client: &Client, namespaces: &[String]) -> (reflector::Store<K>, AbortOnDrop)
where
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned
        + Send
        + Sync
        + 'static,
{
    let (store, writer) = reflector::store();
    let apis: Vec<Api<K>> = match namespaces {
        [] => vec![Api::all(client.clone())],
        names => names.iter().map(|name| Api::namespaced(client.clone(), name)).collect(),
    };
    let streams = apis.into_iter().map(|api| watcher(api, watcher::Config::default()).default_backoff().boxed());
    let merged = futures::stream::select_all(streams);
    let task = tokio::spawn(async move {
        let mut events = reflector(writer, merged).boxed();
        loop {
            match events.try_next().await {
                Ok(Some(_)) => {}
                Ok(None) => return,
                Err(error) => tracing::warn!("watch of {} failed and is repeated: {error}", K::kind(&())),
            }
        }
    });
    (store, AbortOnDrop(task))
}

/// A task that ends with its owner.
pub(crate) struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A cluster that is served.
struct Served {
    object: watch::Sender<(Arc<MysqlCluster>, Option<validate::Invalid>)>,
    task: JoinHandle<()>,
}

/// Starts a supervisor for every cluster that appears, and ends those of clusters that are gone.
async fn supervise(
    shared: &Shared,
    clusters: &reflector::Store<MysqlCluster>,
    ready: &watch::Sender<bool>,
    stop: &CancellationToken,
) {
    let mut served: BTreeMap<(ClusterKey, Option<String>), Served> = BTreeMap::new();
    let synced = async {
        let _both = tokio::join!(clusters.wait_until_ready(), shared.records.wait_until_ready());
    };
    tokio::select! {
        () = synced => {}
        () = stop.cancelled() => return,
    }
    ready.send_replace(true);
    while !stop.is_cancelled() {
        let all = clusters.state();
        let key = |cluster: &MysqlCluster| {
            let key = ClusterKey { namespace: cluster.namespace().unwrap_or_default(), name: cluster.name_any() };
            (key, cluster.uid())
        };
        served.retain(|known, supervisor| {
            let there = all.iter().any(|cluster| key(cluster) == *known);
            if !there {
                supervisor.task.abort();
                shared.metrics.forget(&known.0);
            }
            there
        });
        for cluster in &all {
            let invalid = validate::duplicate(cluster, all.iter().map(Arc::as_ref));
            let current = (Arc::clone(cluster), invalid);
            let key = key(cluster);
            if let Some(supervisor) = served.get(&key) {
                supervisor.object.send_if_modified(|old| {
                    let changed = old.0.resource_version() != current.0.resource_version() || old.1 != current.1;
                    *old = current.clone();
                    changed
                });
            } else {
                let (object, receiver) = watch::channel(current);
                let task = tokio::spawn(cluster::run(shared.clone(), key.0.clone(), receiver));
                served.insert(key, Served { object, task });
            }
        }
        tokio::select! {
            () = tokio::time::sleep(RECHECK.min(Duration::from_millis(200))) => {}
            () = stop.cancelled() => {}
        }
    }
    for supervisor in served.into_values() {
        supervisor.task.abort();
    }
}
