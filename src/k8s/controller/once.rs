//! One `MysqlCluster` with what it refers to, read once: for a process that serves one recovery and ends.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{Api, Client, ResourceExt, api::ListParams, core::Selector};

use super::{
    dereference::{Place, Places, Secrets, servers_of},
    validate::{Desired, Invalid, validate},
};
use crate::{
    api::{MysqlCluster, MysqlFailover},
    k8s::{
        deadline::{CallError, call},
        secrets::SecretError,
    },
};

/// Why a cluster cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The API server.
    #[error(transparent)]
    Call(#[from] CallError),
    /// What the object says.
    #[error(transparent)]
    Invalid(#[from] Invalid),
}

impl From<SecretError> for ReadError {
    fn from(error: SecretError) -> Self {
        Self::Invalid(Invalid::Secret(error))
    }
}

/// Reads the cluster that the record `name` is about.
///
/// # Errors
/// [`ReadError`].
pub async fn of_record(client: &Client, namespace: &str, name: &str) -> Result<Desired, ReadError> {
    let records: Api<MysqlFailover> = Api::namespaced(client.clone(), namespace);
    let record = call("read the MysqlFailover", records.get(name)).await?;
    let clusters: Api<MysqlCluster> = Api::namespaced(client.clone(), namespace);
    let cluster = call("read the MysqlCluster", clusters.get(&record.spec.cluster_name)).await?;
    let secrets = Secrets::read(&Api::namespaced(client.clone(), namespace), &cluster.spec).await?;
    let pods = pods(client, namespace, &cluster).await?;
    let places = if pods.is_empty() { Places::new() } else { places(client).await? };
    let servers = servers_of(&pods, &places, cluster.spec.port);
    Ok(validate(&cluster, &secrets, &servers, Timestamp::now())?)
}

async fn pods(client: &Client, namespace: &str, cluster: &MysqlCluster) -> Result<Vec<Pod>, ReadError> {
    let Some(selector) = cluster.spec.pod_selector.clone() else { return Ok(Vec::new()) };
    let selector = Selector::try_from(selector).map_err(|error| Invalid::Selector(error.to_string()))?;
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    Ok(call("list the pods", pods.list(&ListParams::default().labels_from(&selector))).await?.items)
}

/// Places of the nodes. Without the permission pods have no zone and no region.
async fn places(client: &Client) -> Result<Places, ReadError> {
    let nodes: Api<Node> = Api::all(client.clone());
    match call("list the nodes", nodes.list_metadata(&ListParams::default())).await {
        Ok(nodes) => Ok(nodes.items.iter().map(|node| (node.name_any(), Place::of(node.labels()))).collect()),
        Err(error) if error.is_forbidden() => Ok(Places::new()),
        Err(error) => Err(error.into()),
    }
}
