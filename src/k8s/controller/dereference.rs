//! What a `MysqlCluster` refers to, read: Secrets by name, pods by selector with the place of their
//! nodes. The only step before validation that talks to the API server.

use std::collections::BTreeMap;

use futures::future::try_join3;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::{Api, ResourceExt};

use crate::{
    api::{MysqlCluster, MysqlClusterSpec},
    core::{id::ServerAddr, policy::ServerFacts},
    k8s::secrets::{Loaded, SecretError, fetch},
};

/// The Secrets of a cluster.
#[derive(Debug, Clone, PartialEq)]
pub struct Secrets {
    /// `credentials.secretName`.
    pub credentials: Loaded,
    /// `tls.caSecretName`.
    pub ca: Option<Loaded>,
    /// `tls.clientSecretName`.
    pub client: Option<Loaded>,
}

impl Secrets {
    /// Reads them all, side by side.
    ///
    /// # Errors
    /// [`SecretError`] of the first that cannot be read.
    pub async fn read(api: &Api<Secret>, spec: &MysqlClusterSpec) -> Result<Self, SecretError> {
        let optional = |name: Option<String>| async move {
            match name {
                Some(name) => fetch(api, &name).await.map(Some),
                None => Ok(None),
            }
        };
        let credentials = fetch(api, &spec.credentials.secret_name);
        let (ca, client) = (optional(spec.tls.ca_secret_name.clone()), optional(spec.tls.client_secret_name.clone()));
        let (credentials, ca, client) = try_join3(credentials, ca, client).await?;
        Ok(Self { credentials, ca, client })
    }

    /// Whether these are the Secrets that `spec` names.
    #[must_use]
    pub fn are_of(&self, spec: &MysqlClusterSpec) -> bool {
        let name = |loaded: &Option<Loaded>| loaded.as_ref().map(|loaded| loaded.name().to_owned());
        self.credentials.name() == spec.credentials.secret_name
            && name(&self.ca) == spec.tls.ca_secret_name
            && name(&self.client) == spec.tls.client_secret_name
    }
}

/// Where a node is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Place {
    /// `topology.kubernetes.io/zone`.
    pub zone: Option<String>,
    /// `topology.kubernetes.io/region`.
    pub region: Option<String>,
}

/// Places by node.
pub type Places = BTreeMap<String, Place>;

impl Place {
    /// The place that a node's labels name.
    #[must_use]
    pub fn of(labels: &BTreeMap<String, String>) -> Self {
        let label = |name: &str| labels.get(&format!("topology.kubernetes.io/{name}")).cloned();
        Self { zone: label("zone"), region: label("region") }
    }
}

/// A server that is a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodServer {
    /// What is known of it.
    pub facts: ServerFacts,
    /// Its name in DNS where it has one that lasts: what its certificate can be made out to.
    pub tls_name: Option<String>,
}

/// The servers that the selected pods are. A pod that has ended, or has no address yet, is none; one
/// that is being deleted still is.
#[must_use]
pub fn servers_of<'a>(
    pods: impl IntoIterator<Item = &'a Pod>,
    places: &Places,
    port: u16,
) -> BTreeMap<ServerAddr, PodServer> {
    let server = |pod: &Pod| {
        let (status, spec) = (pod.status.as_ref()?, pod.spec.as_ref()?);
        let ended = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
        let addr = ServerAddr::new(status.pod_ip.as_deref()?, port).ok().filter(|_| !ended)?;
        let place = spec.node_name.as_ref().and_then(|node| places.get(node)).cloned().unwrap_or_default();
        let facts =
            ServerFacts { zone: place.zone, region: place.region, labels: pod.labels().clone(), promotion: None };
        let named = spec.hostname.as_ref().zip(spec.subdomain.as_ref());
        let tls_name = named.map(|(host, domain)| {
            format!("{host}.{domain}.{}.svc", pod.namespace().unwrap_or_else(|| "default".to_owned()))
        });
        Some((addr, PodServer { facts, tls_name }))
    };
    pods.into_iter().filter_map(server).collect()
}

/// Namespace and name of an object.
#[must_use]
pub fn key_of(cluster: &MysqlCluster) -> crate::core::id::ClusterKey {
    crate::core::id::ClusterKey { namespace: cluster.namespace().unwrap_or_default(), name: cluster.name_any() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(name: &str, ip: Option<&str>, phase: &str) -> Pod {
        serde_json::from_value(json!({
            "metadata": { "name": name, "namespace": "default", "labels": { "app": "shop" } },
            "spec": { "containers": [], "nodeName": "node-1", "hostname": name, "subdomain": "shop" },
            "status": { "podIP": ip, "phase": phase },
        }))
        .unwrap()
    }

    #[test]
    fn pods_are_servers_while_they_run() {
        let pods =
            [pod("a", Some("10.0.0.1"), "Running"), pod("b", None, "Pending"), pod("c", Some("10.0.0.3"), "Failed")];
        let labels = [("topology.kubernetes.io/zone".to_owned(), "z1".to_owned())].into();
        let places = [("node-1".to_owned(), Place::of(&labels))].into();
        let found = servers_of(&pods, &places, 3307);
        assert_eq!(found.keys().map(ToString::to_string).collect::<Vec<_>>(), ["10.0.0.1:3307"]);
        let server = found.values().next().unwrap();
        assert_eq!(server.facts.zone.as_deref(), Some("z1"));
        assert_eq!(server.facts.region, None);
        assert_eq!(server.facts.labels["app"], "shop");
        assert_eq!(server.tls_name.as_deref(), Some("a.shop.default.svc"));
    }

    #[test]
    fn without_nodes_pods_are_servers_of_no_place() {
        let found = servers_of(&[pod("a", Some("2001:db8::1"), "Running")], &Places::new(), 3306);
        assert_eq!(found.values().next().unwrap().facts.zone, None);
    }
}
