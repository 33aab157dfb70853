//! The controller of `MysqlCluster`: watches objects, records and nodes, keeps one
//! [`super::reconcile::Reconciler`] per object, and tells the engine what changed on one bounded channel.
//!
//! It has no finalizer: nothing outside Kubernetes has to be undone when an object goes. When the API
//! server is gone, nothing is told and everything told before stays; the watches go on by themselves.

use std::{collections::BTreeMap, fmt::Debug, sync::Arc};

use futures::{StreamExt, stream::BoxStream, stream::SelectAll};
use k8s_openapi::api::core::v1::Node;
use kube::{
    Api, Client, ResourceExt,
    core::{DeserializeGuard, PartialObjectMeta, Resource},
    runtime::watcher::{self, Event},
};
use serde::de::DeserializeOwned;
use tokio::{
    sync::{broadcast, mpsc, watch},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use super::{
    change::{Change, ClusterChange, Refusal},
    claims::Claims,
    dereference::{Place, Places, key_of},
    reconcile::{Inputs, Reconciler},
    status::Problem,
};
use crate::{
    api::{MysqlCluster, MysqlFailover},
    core::id::ClusterKey,
    k8s::{mirror, mirror::Mirror},
};

/// Requests to read Secrets again that may wait.
const REREADS_MAX: usize = 64;

/// Where the operator looks for objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// In every namespace.
    All,
    /// In these.
    Namespaces(Vec<String>),
}

/// The controller. Clones are handles of the same one.
#[derive(Debug, Clone)]
pub struct Controller {
    client: Handle,
    scope: Scope,
    changes: mpsc::Sender<ClusterChange>,
    claims: Claims,
    reread: broadcast::Sender<ClusterKey>,
    synced: watch::Sender<bool>,
}

/// A client, which by itself cannot be printed.
#[derive(Clone)]
struct Handle(Client);

impl Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Client")
    }
}

/// A watch over the scope: one stream and one mirror per namespace.
struct Watches<K> {
    streams: SelectAll<BoxStream<'static, (usize, watcher::Result<Event<K>>)>>,
    mirrors: Vec<Mirror<K>>,
    /// The last event was an error, which was told.
    failing: bool,
}

impl<K> Watches<K>
where
    K: Resource<DynamicType = ()> + ResourceExt + Clone + DeserializeOwned + Debug + Send + 'static,
{
    fn new(apis: Vec<Api<K>>) -> Self {
        let mirrors = apis.iter().map(|_| Mirror::default()).collect();
        let streams = apis.into_iter().enumerate().map(|(index, api)| {
            mirror::watch(api, watcher::Config::default()).map(move |event| (index, event)).boxed()
        });
        Self { streams: streams.collect(), mirrors, failing: false }
    }

    /// Waits for the next change.
    async fn changed(&mut self, what: &'static str) {
        loop {
            match self.streams.next().await {
                Some((index, Ok(event))) => {
                    self.failing = false;
                    if self.mirrors.get_mut(index).is_some_and(|mirror| mirror.apply(event)) {
                        return;
                    }
                }
                Some((_, Err(error))) if std::mem::replace(&mut self.failing, true) => {
                    tracing::debug!("{what} still cannot be watched: {error}");
                }
                Some((_, Err(error))) => tracing::warn!("{what} cannot be watched now: {error}"),
                None => std::future::pending().await,
            }
        }
    }

    fn objects(&self) -> impl Iterator<Item = &K> {
        self.mirrors.iter().flat_map(Mirror::objects)
    }

    /// Whether all of the scope was listed.
    fn complete(&self) -> bool {
        self.mirrors.iter().all(Mirror::complete)
    }
}

/// A reconciler under way.
struct Task {
    object: watch::Sender<Arc<MysqlCluster>>,
    handle: JoinHandle<()>,
}

/// What the running controller knows.
struct Running {
    controller: Controller,
    places: watch::Sender<Places>,
    tasks: BTreeMap<ClusterKey, Task>,
    ending: BTreeMap<ClusterKey, JoinHandle<()>>,
    unreadable: BTreeMap<ClusterKey, String>,
    records: BTreeMap<ClusterKey, Vec<MysqlFailover>>,
}

impl Controller {
    /// A controller that tells `changes`; the channel is bounded, and a full one is waited for.
    #[must_use]
    pub fn new(client: &Client, scope: Scope, changes: mpsc::Sender<ClusterChange>) -> Self {
        let reread = broadcast::Sender::new(REREADS_MAX);
        let synced = watch::Sender::new(false);
        Self { client: Handle(client.clone()), scope, changes, claims: Claims::default(), reread, synced }
    }

    /// Becomes true when objects and records were listed for the first time.
    #[must_use]
    pub fn synced(&self) -> watch::Receiver<bool> {
        self.synced.subscribe()
    }

    /// Reads the cluster's Secrets now, because a server refused the account.
    pub fn reread_secrets(&self, key: &ClusterKey) {
        // Without a reconciler there is nothing to read.
        drop(self.reread.send(key.clone()));
    }

    fn apis<K>(&self) -> Vec<Api<K>>
    where
        K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
    {
        let client = || self.client.0.clone();
        match &self.scope {
            Scope::All => vec![Api::all(client())],
            Scope::Namespaces(names) => names.iter().map(|name| Api::namespaced(client(), name)).collect(),
        }
    }

    /// Runs until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let mut clusters = Watches::<DeserializeGuard<MysqlCluster>>::new(self.apis());
        let mut records = Watches::<DeserializeGuard<MysqlFailover>>::new(self.apis());
        let mut nodes = Watches::<PartialObjectMeta<Node>>::new(vec![Api::all(self.client.0.clone())]);
        let mut running = Running {
            controller: self,
            places: watch::Sender::new(Places::new()),
            tasks: BTreeMap::new(),
            ending: BTreeMap::new(),
            unreadable: BTreeMap::new(),
            records: BTreeMap::new(),
        };
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                () = clusters.changed("clusters") => running.take_clusters(clusters.objects()).await,
                () = records.changed("records") => running.take_records(records.objects()).await,
                // Optional: without the permission pods have no zone and no region.
                () = nodes.changed("nodes") => running.take_nodes(nodes.objects()),
            }
            let synced = clusters.complete() && records.complete();
            running.controller.synced.send_if_modified(|old| !std::mem::replace(old, *old || synced) && synced);
        }
        for task in running.tasks.into_values() {
            task.handle.abort();
        }
    }
}

impl Running {
    async fn tell(&self, key: ClusterKey, what: Change) {
        if self.controller.changes.send(ClusterChange { key, what }).await.is_err() {
            tracing::debug!("nobody listens to the controller any more");
        }
    }

    async fn take_clusters(&mut self, found: impl Iterator<Item = &DeserializeGuard<MysqlCluster>>) {
        let (mut present, mut unreadable) = (BTreeMap::new(), BTreeMap::new());
        for guard in found {
            match &guard.0 {
                Ok(cluster) => drop(present.insert(key_of(cluster), cluster)),
                Err(invalid) => {
                    let key = ClusterKey { namespace: guard.namespace().unwrap_or_default(), name: guard.name_any() };
                    unreadable.insert(key, (invalid.error.clone(), invalid.metadata.generation));
                }
            }
        }
        for (key, cluster) in &present {
            self.take_cluster(key, cluster);
        }
        let gone: Vec<_> = self
            .tasks
            .keys()
            .filter(|key| !present.contains_key(*key) && !unreadable.contains_key(*key))
            .cloned()
            .collect();
        for key in gone {
            if let Some(task) = self.tasks.remove(&key) {
                // Its sender goes with `task`, and the reconciler with its sender.
                self.ending.insert(key, task.handle);
            }
        }
        self.ending.retain(|_, handle| !handle.is_finished());
        for (key, (error, generation)) in &unreadable {
            if self.unreadable.get(key) != Some(error) {
                let problem = Problem { category: "Unreadable".to_owned(), message: error.clone() };
                let refusal = Refusal { generation: *generation, cluster_name: key.name.clone(), problem, stop: false };
                self.tell(key.clone(), Change::Invalid(refusal)).await;
            }
        }
        self.unreadable = unreadable.into_iter().map(|(key, (error, _))| (key, error)).collect();
    }

    fn take_cluster(&mut self, key: &ClusterKey, cluster: &MysqlCluster) {
        if let Some(task) = self.tasks.get(key) {
            task.object.send_if_modified(|old| {
                let new = **old != *cluster;
                if new {
                    *old = Arc::new(cluster.clone());
                }
                new
            });
            return;
        }
        let object = watch::Sender::new(Arc::new(cluster.clone()));
        let inputs = Inputs {
            object: object.subscribe(),
            places: self.places.subscribe(),
            reread: self.controller.reread.subscribe(),
            claims: self.controller.claims.clone(),
            changes: self.controller.changes.clone(),
        };
        let reconciler = Reconciler::new(&self.controller.client.0, key.clone(), inputs);
        let before = self.ending.remove(key);
        let handle = tokio::spawn(async move {
            // An object of the same name that went before has to be told as gone first.
            if let Some(before) = before {
                drop(before.await);
            }
            Box::pin(reconciler.run()).await;
        });
        self.tasks.insert(key.clone(), Task { object, handle });
    }

    async fn take_records(&mut self, found: impl Iterator<Item = &DeserializeGuard<MysqlFailover>>) {
        let mut records: BTreeMap<ClusterKey, Vec<MysqlFailover>> = BTreeMap::new();
        for guard in found {
            match &guard.0 {
                Ok(record) => {
                    let namespace = record.namespace().unwrap_or_default();
                    let key = ClusterKey { namespace, name: record.spec.cluster_name.clone() };
                    records.entry(key).or_default().push(record.clone());
                }
                Err(invalid) => tracing::warn!("record {} cannot be read: {}", guard.name_any(), invalid.error),
            }
        }
        let before = std::mem::take(&mut self.records);
        let emptied = before.keys().filter(|key| !records.contains_key(*key)).cloned();
        let changed = records.iter().filter(|(key, now)| before.get(*key) != Some(*now));
        let told: Vec<_> =
            changed.map(|(key, now)| (key.clone(), now.clone())).chain(emptied.map(|key| (key, Vec::new()))).collect();
        self.records = records;
        for (key, now) in told {
            self.tell(key, Change::Records(now)).await;
        }
    }

    fn take_nodes<'a>(&mut self, found: impl Iterator<Item = &'a PartialObjectMeta<Node>>) {
        let places: Places = found.map(|node| (node.name_any(), Place::of(node.labels()))).collect();
        self.places.send_if_modified(|old| {
            let new = *old != places;
            *old = places;
            new
        });
    }
}

#[cfg(test)]
mod tests;
