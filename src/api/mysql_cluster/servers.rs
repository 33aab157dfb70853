//! Which servers belong to a cluster and how they are talked to.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{mysql_port, promotion::PromotionRule};

/// One server by address.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Server {
    /// Host name or IP address, without port and without brackets.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = ("self.contains(':') ? isIP(self) : self.matches('^[A-Za-z0-9][A-Za-z0-9._-]*$')", "host must be a host name or an IP address, without port and without brackets"))]
    pub host: String,

    /// TCP port.
    #[serde(default = "mysql_port")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,

    /// Failure domain the server is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub zone: Option<String>,

    /// Region the server is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub region: Option<String>,

    /// Labels that promotion rules can match.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub labels: BTreeMap<String, String>,

    /// Promotion rule of this server; wins over promotion.rules.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promotion: Option<PromotionRule>,
}

/// How servers beyond the given ones are found.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Discovery {
    /// Follow sources upward and replicas downward from the given servers or the selected pods.
    #[serde(default = "yes")]
    pub follow: bool,

    /// Where a server's replicas are read: ProcessList (its dump threads) or ReplicaHosts (SHOW REPLICAS, which needs
    /// report_host on the replicas).
    #[serde(default)]
    pub from: DiscoverFrom,

    /// Regular expressions on host:port; servers that match one are never followed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 256)))]
    pub ignore: Vec<String>,

    /// AsReported: addresses are used as servers report them. Resolve: host names are resolved to IP addresses (not
    /// served by this version yet).
    #[serde(default)]
    pub addresses: Addresses,
}

impl Default for Discovery {
    fn default() -> Self {
        Self { follow: true, from: DiscoverFrom::default(), ignore: Vec::new(), addresses: Addresses::default() }
    }
}

pub(crate) fn yes() -> bool {
    true
}

/// Where a server's replicas are read.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum DiscoverFrom {
    /// Dump threads of the process list.
    #[default]
    ProcessList,
    /// `SHOW REPLICAS`.
    ReplicaHosts,
}

/// Whether host names are resolved.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Addresses {
    /// Used as servers report them.
    #[default]
    AsReported,
    /// Resolved to IP addresses.
    Resolve,
}

/// The MySQL account that Baton uses.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Credentials {
    /// Secret in this namespace with the keys username and password, and optionally replication-username and
    /// replication-password for replicas (else replicas keep the account they have). A changed Secret is used within
    /// seconds.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = ("self.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')", "secretName must be the name of a Secret in this namespace"))]
    pub secret_name: String,
}

/// TLS of Baton's sessions and of replication.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("!(self.mode in ['VerifyCA', 'VerifyIdentity']) || has(self.caSecretName)", "tls.mode VerifyCA and VerifyIdentity need tls.caSecretName"))]
#[x_kube(validation = ("self.mode != 'Disabled' || !(has(self.caSecretName) || has(self.clientSecretName))", "tls.mode Disabled excludes tls.caSecretName and tls.clientSecretName"))]
pub struct Tls {
    /// Disabled, Preferred (where the server offers it), Required, VerifyCA (the server's certificate is signed by the
    /// CA; this version asks for the server's name in it, too) or VerifyIdentity (and is made out to the server's name).
    /// Also restated in every change of a replica's source.
    #[serde(default)]
    pub mode: TlsMode,

    /// Secret in this namespace with the key ca.crt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = ("self.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')", "caSecretName must be the name of a Secret in this namespace"))]
    pub ca_secret_name: Option<String>,

    /// Secret of type kubernetes.io/tls in this namespace with Baton's client certificate: tls.crt and tls.key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = ("self.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')", "clientSecretName must be the name of a Secret in this namespace"))]
    pub client_secret_name: Option<String>,
}

/// How far TLS goes.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum TlsMode {
    /// No TLS.
    Disabled,
    /// Where the server offers it.
    #[default]
    Preferred,
    /// Always, whoever the server is.
    Required,
    /// The certificate is signed by the CA.
    VerifyCA,
    /// And made out to the server's name.
    VerifyIdentity,
}

/// Queries that read facts about the cluster from the servers themselves.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct Queries {
    /// Name of the cluster, asked on the primary. Shown in status.clusterName; not asked when spec.clusterName is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub cluster_name: Option<String>,

    /// Domain of the cluster, asked on the primary. Shown in status.domain; not asked when spec.domain is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub domain: Option<String>,

    /// Promotion rule of the server: must, prefer, neutral, prefer_not, must_not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub promotion_rule: Option<String>,

    /// Failure domain of the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub zone: Option<String>,

    /// Region of the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub region: Option<String>,

    /// Environment of the server, for people. Shown in status.servers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub environment: Option<String>,

    /// Priority of the server as one that acknowledges semi-synchronous transactions, higher first; 0: never; none is 1.
    /// For durability.mode SemiSync.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub semi_sync_priority: Option<String>,

    /// Name of the server for people. Shown in status.servers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub server_alias: Option<String>,
}
