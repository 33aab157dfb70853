//! What the engine is fed with: the policy made of spec, Secrets and pods, and the records.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Node, Pod},
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};
use kube::{Api, Client, ResourceExt, api::ListParams, core::Selector};
use tokio::time::{Duration, Instant};

use super::{super::Shared, epoch_of};
use crate::{
    api::mysql_cluster::MysqlCluster,
    core::{
        id::{ClusterKey, ServerAddr},
        policy::ServerFacts,
    },
    engine::cluster::{Desired, History},
    k8s::{
        deadline::call,
        records, secrets,
        validate::{self, Invalid},
    },
    mysql::options::Options,
};

/// Pods are listed this often.
const PODS: Duration = Duration::from_secs(2);
/// Servers taken from pods.
const PODS_MAX: u32 = 128;

/// What was read so far.
pub(super) struct Feed {
    client: Client,
    /// How to reach the servers, once the Secrets were right.
    pub(super) options: Option<Arc<Options>>,
    secret_error: Option<Invalid>,
    pods: BTreeMap<ServerAddr, ServerFacts>,
    pods_at: Option<Instant>,
    nodes: BTreeMap<String, (Option<String>, Option<String>)>,
}

impl Feed {
    pub(super) fn new(client: Client) -> Self {
        Self { client, options: None, secret_error: None, pods: BTreeMap::new(), pods_at: None, nodes: BTreeMap::new() }
    }

    /// Reads the Secrets; an error leaves what was read before in use.
    pub(super) async fn read_secrets(&mut self, cluster: &MysqlCluster) {
        match secrets::options(&self.client, cluster, self.options.as_deref()).await {
            Ok(read) => {
                let same = self.options.as_ref().is_some_and(|old| secrets::same_options(old, &read));
                if !same {
                    self.options = Some(Arc::new(read));
                }
                self.secret_error = None;
            }
            Err(error) => self.secret_error = Some(error),
        }
    }

    /// Lists the selected pods; an error leaves the list as it was.
    pub(super) async fn read_pods(&mut self, cluster: &MysqlCluster) {
        let Some(selector) = &cluster.spec.pod_selector else {
            self.pods.clear();
            return;
        };
        if self.pods_at.is_some_and(|at| at.elapsed() < PODS) {
            return;
        }
        self.pods_at = Some(Instant::now());
        let Ok(selector) = Selector::try_from(LabelSelector::clone(selector)) else {
            return;
        };
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &cluster.namespace().unwrap_or_default());
        let params = ListParams::default().labels_from(&selector).limit(PODS_MAX);
        let Ok(pods) = call("list the pods", api.list(&params)).await else {
            return;
        };
        let mut found = BTreeMap::new();
        for pod in pods {
            if let Some((addr, facts)) = self.server(&pod, cluster.spec.port).await {
                found.insert(addr, facts);
            }
        }
        self.pods = found;
    }

    async fn server(&mut self, pod: &Pod, port: u16) -> Option<(ServerAddr, ServerFacts)> {
        let ip = pod.status.as_ref()?.pod_ip.clone()?;
        let addr = ServerAddr::new(&ip, port).ok()?;
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
        let (zone, region) = match node {
            Some(node) => self.place(&node).await,
            None => (None, None),
        };
        Some((addr, ServerFacts { zone, region, labels: pod.labels().clone(), promotion: None }))
    }

    /// Zone and region of a node; without the right to read nodes both stay unknown.
    async fn place(&mut self, node: &str) -> (Option<String>, Option<String>) {
        if let Some(known) = self.nodes.get(node) {
            return known.clone();
        }
        let api: Api<Node> = Api::all(self.client.clone());
        let labels = match call("read a node", api.get_metadata(node)).await {
            Ok(found) => found.labels().clone(),
            Err(_) => BTreeMap::new(),
        };
        let label = |name: &str| labels.get(&format!("topology.kubernetes.io/{name}")).cloned();
        let place = (label("zone"), label("region"));
        self.nodes.insert(node.to_owned(), place.clone());
        place
    }

    /// What the engine is to work with now.
    pub(super) fn desired(
        &self,
        cluster: &MysqlCluster,
        duplicate: Option<Invalid>,
    ) -> Result<(Desired, Arc<Options>), Invalid> {
        if let Some(duplicate) = duplicate {
            return Err(duplicate);
        }
        let policy = validate::policy(cluster, &self.pods, Timestamp::now())?;
        let options = match (&self.options, &self.secret_error) {
            (Some(options), _) => Arc::clone(options),
            (None, Some(error)) => return Err(error.clone()),
            (None, None) => return Err(Invalid::Secret("Secrets are being read".to_owned())),
        };
        let primary = cluster.status.as_ref().and_then(|status| status.primary.as_ref()?.parse().ok());
        Ok((Desired { policy, primary, epoch: epoch_of(cluster) }, options))
    }
}

/// The records of one cluster as the engine wants them.
pub(super) fn history(shared: &Shared, key: &ClusterKey) -> History {
    let all: Vec<_> = shared
        .records
        .state()
        .iter()
        .filter(|record| record.namespace().as_deref() == Some(key.namespace.as_str()))
        .map(|record| record.as_ref().clone())
        .collect();
    let read = records::history::history(&all, &key.name, Timestamp::now());
    History { past: read.past, unfinished: read.unfinished, last: read.last }
}
