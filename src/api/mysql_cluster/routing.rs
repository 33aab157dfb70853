//! Where clients are sent.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::hooks::Rfc2136;
use crate::api::common::Duration;

/// Where clients are sent.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("!(has(self.primaryService) && has(self.replicaService)) || self.primaryService != self.replicaService", "primaryService and replicaService must differ"))]
#[x_kube(validation = ("has(self.replicaService) || !(has(self.maxReplicaLag) || has(self.minReadable))", "routing.maxReplicaLag and routing.minReadable need routing.replicaService"))]
pub struct Routing {
    /// Name of a Service that Baton makes and keeps pointed at the writable primary, or at nobody while there is none.
    /// A Service of this name that is not Baton's is left alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 57), regex(pattern = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"))]
    pub primary_service: Option<String>,

    /// Name of a Service for reading (not served by this version yet).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 57), regex(pattern = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"))]
    pub replica_service: Option<String>,

    /// Replicas that lag more than this get no readers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_replica_lag: Option<Duration>,

    /// When fewer replicas than this would be left, lagging ones stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 64))]
    pub min_readable: Option<u32>,

    /// DNS record of the writable primary (not served by this version yet).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns: Option<Rfc2136>,

    /// Proxies that are told the writable primary (not served by this version yet).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub proxies: Vec<Proxy>,
}

/// A proxy that is told the writable primary.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Proxy {
    /// Name, unique in the cluster.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,

    /// Kind of proxy.
    #[serde(rename = "type")]
    pub type_: ProxyType,

    /// Address of its administration as host:port.
    #[schemars(length(min = 1, max = 262))]
    pub address: String,

    /// Secret in this namespace with the keys username and password.
    #[schemars(length(min = 1, max = 253))]
    pub secret_name: String,
}

/// Kind of proxy.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyType {
    /// ProxySQL.
    ProxySQL,
    /// HAProxy's runtime API.
    HAProxy,
}
