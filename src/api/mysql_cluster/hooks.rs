//! Programs and requests that run when something happens to a cluster.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{EnvFromSource, EnvVar};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::servers::yes;
use crate::api::common::Duration;

/// One hook: when it runs, and exactly one thing to do.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("[has(self.http), has(self.sql), has(self.dns), has(self.job), has(self.podTemplateName)].filter(given, given).size() == 1", "a hook must have exactly one of http, sql, dns, job and podTemplateName"))]
pub struct Hook {
    /// Name, unique in the cluster.
    #[schemars(length(min = 1, max = 40), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,

    /// Events that run it.
    #[schemars(length(min = 1, max = 8))]
    pub on: Vec<HookEvent>,

    /// Abort: a failure of a Pre hook refuses the operation. Ignore: a failure is only reported.
    #[serde(default)]
    pub failure_policy: FailurePolicy,

    /// Whether later hooks of the same event wait for this one.
    #[serde(default = "yes")]
    pub wait: bool,

    /// A run that takes longer is ended and has failed.
    #[serde(default = "timeout")]
    pub timeout: Duration,

    /// How often a failed run is tried again.
    #[serde(default)]
    #[schemars(range(min = 0, max = 10))]
    pub retries: u32,

    /// An HTTP request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpHook>,

    /// An SQL statement on another database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sql: Option<SqlHook>,

    /// A change of DNS records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns: Option<DnsHook>,

    /// A container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobHook>,

    /// A PodTemplate of this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub pod_template_name: Option<String>,
}

fn timeout() -> Duration {
    Duration::from_ms(60_000)
}

/// What a hook is about.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookEvent {
    /// A failure was detected.
    OnFailureDetection,
    /// Before a switchover.
    PreSwitchover,
    /// Before a failover.
    PreFailover,
    /// After a primary was replaced.
    PostPrimaryFailover,
    /// After an intermediate primary was replaced.
    PostIntermediateFailover,
    /// After any failover.
    PostFailover,
    /// After a failover that did not succeed.
    PostUnsuccessfulFailover,
    /// After a switchover.
    PostSwitchover,
}

/// What a failing hook means.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum FailurePolicy {
    /// The operation is refused.
    Abort,
    /// It is reported.
    #[default]
    Ignore,
}

/// An HTTP request.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct HttpHook {
    /// Where to.
    #[schemars(length(min = 1, max = 2048), regex(pattern = r"^https?://"))]
    pub url: String,

    /// GET, POST, PUT, PATCH or DELETE.
    #[serde(default = "post")]
    #[schemars(regex(pattern = r"^(GET|POST|PUT|PATCH|DELETE)$"))]
    pub method: String,

    /// Headers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub headers: BTreeMap<String, String>,

    /// Body; $(NAME) stands for a hook variable. Defaults to all variables as JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16384))]
    pub body: Option<String>,

    /// Secret in this namespace whose keys are sent as headers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub secret_name: Option<String>,
}

fn post() -> String {
    "POST".to_owned()
}

/// An SQL statement on another database.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct SqlHook {
    /// Secret in this namespace with the keys host, port, username, password and database.
    #[schemars(length(min = 1, max = 253))]
    pub secret_name: String,

    /// The statement, with ? for parameters.
    #[schemars(length(min = 1, max = 16384))]
    pub statement: String,

    /// Names of hook variables, one for each ?.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 64)))]
    pub params: Vec<String>,
}

/// A change of DNS records.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct DnsHook {
    /// Dynamic update of a zone.
    pub rfc2136: Rfc2136,
}

/// Dynamic update of a DNS zone (RFC 2136).
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Rfc2136 {
    /// Name server as host:port.
    #[schemars(length(min = 1, max = 262))]
    pub server: String,

    /// Zone that is updated.
    #[schemars(length(min = 1, max = 253))]
    pub zone: String,

    /// Name whose address is set. Defaults to the cluster's domain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub name: Option<String>,

    /// Time to live.
    #[serde(default = "ttl")]
    pub ttl: Duration,

    /// Secret in this namespace with the TSIG key: name, algorithm, secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub tsig_secret_name: Option<String>,
}

fn ttl() -> Duration {
    Duration::from_ms(5000)
}

/// A container.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct JobHook {
    /// Image.
    #[schemars(length(min = 1, max = 512))]
    pub image: String,

    /// Command; defaults to the image's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 4096)))]
    pub command: Vec<String>,

    /// Arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 4096)))]
    pub args: Vec<String>,

    /// Environment beside the hook variables.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub env: Vec<EnvVar>,

    /// Environment from Secrets and ConfigMaps.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub env_from: Vec<EnvFromSource>,

    /// ServiceAccount of the pod; without one it gets no token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub service_account_name: Option<String>,
}
