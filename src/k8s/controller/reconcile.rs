//! One task per `MysqlCluster`: dereference, claim, validate, tell the engine. It never touches MySQL
//! and never writes.
//!
//! It looks again when the object, its pods, their nodes or somebody's claims change, and every few
//! seconds for Secrets and for what expires. An object that cannot be served is told once and waits for
//! a change. While the API server does not answer, what was told last stays.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt, stream::BoxStream};
use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Pod, Secret},
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};
use kube::{
    Api, Client, ResourceExt,
    core::Selector,
    runtime::watcher::{self, Event},
};
use tokio::{
    sync::{broadcast, mpsc, watch},
    time::{Instant, sleep_until},
};

use super::{
    change::{Change, ClusterChange, Refusal},
    claims::{Claimant, Claims, Duplicate},
    dereference::{Places, PodServer, Secrets, key_of, servers_of},
    status::Problem,
    validate::{Account, Desired, Invalid, account, cluster_name, servers, under_maintenance, validate, wish},
};
use crate::{
    api::{MysqlCluster, MysqlClusterSpec},
    core::{
        id::{ClusterKey, ServerAddr},
        rebuild::Rebuild,
    },
    k8s::{exports::saved, mirror, mirror::Mirror, records::rebuild::rebuilds, secrets::SecretError},
};

/// Time between two reads of the Secrets.
const SECRETS_EVERY: Duration = Duration::from_secs(10);
/// The same after one could not be used: whoever mends it need not wait long.
const SECRETS_RETRY: Duration = Duration::from_secs(2);

/// What a task is given.
#[derive(Debug)]
pub struct Inputs {
    /// The object, newest version.
    pub object: watch::Receiver<Arc<MysqlCluster>>,
    /// Places of nodes.
    pub places: watch::Receiver<Places>,
    /// Clusters whose Secrets are to be read at once.
    pub reread: broadcast::Receiver<ClusterKey>,
    /// Everybody's claims.
    pub claims: Claims,
    /// Where changes are told.
    pub changes: mpsc::Sender<ClusterChange>,
}

/// The pods that a selector selects.
struct Pods {
    selector: LabelSelector,
    stream: BoxStream<'static, watcher::Result<Event<Pod>>>,
    mirror: Mirror<Pod>,
    /// The last event was an error, which was told.
    failing: bool,
}

/// Everything that an outcome depends on; equal ones need not be told twice.
#[derive(Debug, Clone, PartialEq)]
struct Basis {
    uid: Option<String>,
    generation: Option<i64>,
    primary: Option<String>,
    epoch: Option<i64>,
    saved: BTreeMap<ServerAddr, String>,
    rebuilds: BTreeMap<ServerAddr, Rebuild>,
    rebuilt: Option<String>,
    secrets: Result<Secrets, String>,
    pods: BTreeMap<ServerAddr, PodServer>,
    maintenance: BTreeSet<ServerAddr>,
    duplicate: Option<Duplicate>,
    problem: Option<String>,
}

/// The task of one object.
pub struct Reconciler {
    client: Client,
    secrets_api: Api<Secret>,
    key: ClusterKey,
    inputs: Inputs,
    secrets: Option<Result<Secrets, SecretError>>,
    secrets_due: Instant,
    account_before: Option<Account>,
    pods: Option<Result<Pods, String>>,
    told: Option<Basis>,
}

impl std::fmt::Debug for Reconciler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reconciler").field("key", &self.key).field("told", &self.told).finish_non_exhaustive()
    }
}

impl Reconciler {
    /// The task of the object `key`.
    #[must_use]
    pub fn new(client: &Client, key: ClusterKey, inputs: Inputs) -> Self {
        Self {
            client: client.clone(),
            secrets_api: Api::namespaced(client.clone(), &key.namespace),
            key,
            inputs,
            secrets: None,
            secrets_due: Instant::now(),
            account_before: None,
            pods: None,
            told: None,
        }
    }

    /// Runs until the object is gone.
    pub async fn run(mut self) {
        let mut claims = self.inputs.claims.changes();
        loop {
            let cluster = Arc::clone(&self.inputs.object.borrow_and_update());
            self.follow_pods(&cluster.spec);
            let known = self.secrets.as_ref().and_then(|read| read.as_ref().ok());
            if Instant::now() >= self.secrets_due || known.is_some_and(|known| !known.are_of(&cluster.spec)) {
                self.read_secrets(&cluster.spec).await;
            }
            if self.tell(&cluster).await.is_err() {
                return;
            }
            let (due, key) = (self.secrets_due, self.key.clone());
            tokio::select! {
                changed = self.inputs.object.changed() => if changed.is_err() { break },
                () = next_pods(&mut self.pods) => {}
                Ok(()) = self.inputs.places.changed() => {}
                Ok(()) = claims.changed() => {}
                Ok(wanted) = self.inputs.reread.recv() => if wanted == key { self.secrets_due = Instant::now() },
                () = sleep_until(due) => {}
            }
        }
        self.inputs.claims.release(&self.key);
        // Nobody listens any more: there is nobody to tell.
        drop(self.inputs.changes.send(ClusterChange { key: self.key, what: Change::Gone }).await);
    }

    /// Begins to watch the selected pods when the selector is new.
    fn follow_pods(&mut self, spec: &MysqlClusterSpec) {
        let Some(selector) = &spec.pod_selector else {
            self.pods = None;
            return;
        };
        if matches!(&self.pods, Some(Ok(pods)) if pods.selector == *selector) {
            return;
        }
        let parsed = Selector::try_from(selector.clone()).map_err(|error| error.to_string());
        self.pods = Some(parsed.map(|parsed| {
            let api = Api::<Pod>::namespaced(self.client.clone(), &self.key.namespace);
            let stream = mirror::watch(api, watcher::Config::default().labels_from(&parsed));
            Pods { selector: selector.clone(), stream, mirror: Mirror::default(), failing: false }
        }));
    }

    /// Reads the Secrets. What was read before stays in use while the API server does not answer.
    async fn read_secrets(&mut self, spec: &MysqlClusterSpec) {
        let read = Secrets::read(&self.secrets_api, spec).await;
        let wait = if read.is_ok() { SECRETS_EVERY } else { SECRETS_RETRY };
        self.secrets_due = Instant::now() + wait;
        let known = match self.secrets.take() {
            Some(Ok(known)) => Some(known),
            _ => None,
        };
        self.secrets = Some(match (read, known) {
            (Err(SecretError::Call(error)), Some(known)) if known.are_of(spec) => {
                tracing::warn!(cluster = %self.key, "{}: secrets not read again: {error}", self.key);
                Ok(known)
            }
            (Ok(new), Some(known)) => {
                if new.credentials != known.credentials {
                    self.account_before = account(&known.credentials).ok();
                }
                Ok(new)
            }
            (read, _) => read,
        });
    }

    /// The selected pods as servers; `None`: they are not listed yet.
    fn pods(&self, port: u16) -> Option<Result<BTreeMap<ServerAddr, PodServer>, Invalid>> {
        match &self.pods {
            None => Some(Ok(BTreeMap::new())),
            Some(Err(error)) => Some(Err(Invalid::Selector(error.clone()))),
            Some(Ok(pods)) if !pods.mirror.complete() => None,
            Some(Ok(pods)) => Some(Ok(servers_of(pods.mirror.objects(), &self.inputs.places.borrow(), port))),
        }
    }

    /// Tells the outcome if it is another than before. `Err`: nobody listens.
    async fn tell(&mut self, cluster: &MysqlCluster) -> Result<(), ()> {
        let Some(pods) = self.pods(cluster.spec.port) else { return Ok(()) };
        let now = Timestamp::now();
        let (pods, outcome) = match pods {
            Ok(pods) => {
                let outcome = self.claim(cluster, &pods, now);
                (pods, outcome)
            }
            Err(error) => (BTreeMap::new(), Err(error)),
        };
        let basis = self.basis(cluster, &pods, &outcome);
        if self.told.as_ref() == Some(&basis) {
            return Ok(());
        }
        let what = match outcome.and_then(|_| self.desired(cluster, &pods, now)) {
            Ok(desired) => Change::Desired(Box::new(desired)),
            Err(error) => Change::Invalid(Refusal {
                generation: cluster.metadata.generation,
                cluster_name: cluster_name(cluster),
                problem: Problem { category: error.category().to_owned(), message: error.to_string() },
                stop: matches!(error, Invalid::Duplicate(_)),
            }),
        };
        self.told = Some(basis);
        self.inputs.changes.send(ClusterChange { key: self.key.clone(), what }).await.map_err(drop)
    }

    /// Claims what the object wants. Answers with the servers under maintenance now.
    fn claim(
        &self,
        cluster: &MysqlCluster,
        pods: &BTreeMap<ServerAddr, PodServer>,
        now: Timestamp,
    ) -> Result<BTreeSet<ServerAddr>, Invalid> {
        let spec = &cluster.spec;
        let servers = servers(spec, pods).inspect_err(|_| self.inputs.claims.release(&self.key))?;
        let maintenance = under_maintenance(&spec.maintenance, &servers, spec.port, now);
        let wanted = Claimant {
            created: cluster.creation_timestamp().map_or(Timestamp::MAX, |time| time.0),
            uid: cluster.uid().unwrap_or_default(),
            cluster_name: cluster_name(cluster),
            servers: servers.into_keys().collect(),
            service: wish(spec).map(|wish| wish.service),
        };
        match self.inputs.claims.claim(&key_of(cluster), wanted) {
            Some(duplicate) => Err(duplicate.into()),
            None => maintenance,
        }
    }

    fn desired(
        &self,
        cluster: &MysqlCluster,
        pods: &BTreeMap<ServerAddr, PodServer>,
        now: Timestamp,
    ) -> Result<Desired, Invalid> {
        match &self.secrets {
            Some(Ok(secrets)) => {
                let mut desired = validate(cluster, secrets, pods, now)?;
                desired.connect.account_before.clone_from(&self.account_before);
                Ok(desired)
            }
            Some(Err(error)) => Err(Invalid::Unusable { category: error.category(), message: error.to_string() }),
            None => Err(Invalid::Unusable { category: "ApiUnavailable", message: "secrets not read yet".to_owned() }),
        }
    }

    fn basis(
        &self,
        cluster: &MysqlCluster,
        pods: &BTreeMap<ServerAddr, PodServer>,
        outcome: &Result<BTreeSet<ServerAddr>, Invalid>,
    ) -> Basis {
        let status = cluster.status.as_ref();
        let secrets = match &self.secrets {
            Some(Ok(secrets)) => Ok(secrets.clone()),
            Some(Err(error)) => Err(error.to_string()),
            None => Err(String::new()),
        };
        Basis {
            uid: cluster.uid(),
            generation: cluster.metadata.generation,
            primary: status.and_then(|status| status.primary.clone()),
            epoch: status.and_then(|status| status.epoch),
            saved: status.map(saved).unwrap_or_default(),
            rebuilds: status.map(rebuilds).unwrap_or_default(),
            rebuilt: status.and_then(|status| status.rebuilt.clone()),
            secrets,
            pods: pods.clone(),
            maintenance: outcome.as_ref().ok().cloned().unwrap_or_default(),
            duplicate: match outcome {
                Err(Invalid::Duplicate(duplicate)) => Some(duplicate.clone()),
                _ => None,
            },
            problem: outcome.as_ref().err().map(ToString::to_string),
        }
    }
}

/// Waits until the selected pods may have changed; forever when none are selected.
async fn next_pods(pods: &mut Option<Result<Pods, String>>) {
    let Some(Ok(pods)) = pods else { return std::future::pending().await };
    loop {
        match pods.stream.next().await {
            Some(Ok(event)) => {
                pods.failing = false;
                if pods.mirror.apply(event) {
                    return;
                }
            }
            Some(Err(error)) if std::mem::replace(&mut pods.failing, true) => {
                tracing::debug!("pods still cannot be watched: {error}");
            }
            Some(Err(error)) => tracing::warn!("pods cannot be watched now: {error}"),
            None => return std::future::pending().await,
        }
    }
}
