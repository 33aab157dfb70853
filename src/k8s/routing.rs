//! Where writing clients are sent: a Service without selector and one EndpointSlice whose only endpoint
//! is the writable primary, or nobody (I9).

use std::collections::BTreeMap;

use k8s_openapi::api::{
    core::v1::{Service, ServicePort, ServiceSpec},
    discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice},
};
use kube::{Api, Client, api::ObjectMeta};

use super::{
    apply::{apply, owned_by},
    deadline::{CallError, call},
};
use crate::core::id::{ClusterKey, ServerAddr};

/// Name of the port in Service and EndpointSlice.
const PORT_NAME: &str = "mysql";
/// Who keeps the EndpointSlice, so that nobody else does.
const MANAGED_BY: &str = "mysql.baton.dev";

/// The primary Service of one cluster.
#[derive(Debug, Clone)]
pub struct PrimaryService {
    services: Api<Service>,
    slices: Api<EndpointSlice>,
    key: ClusterKey,
    uid: String,
    name: String,
    port: u16,
}

/// Why clients cannot be routed.
#[derive(Debug, thiserror::Error)]
pub enum RoutingError {
    /// A Service of that name exists and is not Baton's.
    #[error("Service {0} exists and belongs to somebody else")]
    Foreign(String),
    /// The primary is known by a name, and an EndpointSlice takes addresses only.
    #[error("{0} is a name: name the server by its IP address to route to it")]
    Name(ServerAddr),
    /// The API server did not do it.
    #[error(transparent)]
    Call(#[from] CallError),
}

impl PrimaryService {
    /// The Service `name` of the cluster `key` with the given `uid`.
    #[must_use]
    pub fn new(client: &Client, key: &ClusterKey, uid: &str, name: &str, port: u16) -> Self {
        Self {
            services: Api::namespaced(client.clone(), &key.namespace),
            slices: Api::namespaced(client.clone(), &key.namespace),
            key: key.clone(),
            uid: uid.to_owned(),
            name: name.to_owned(),
            port,
        }
    }

    fn labels(&self) -> BTreeMap<String, String> {
        let own = [("mysql.baton.dev/cluster", self.key.name.as_str()), ("mysql.baton.dev/role", "primary")];
        own.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
    }

    fn metadata(&self, name: &str) -> ObjectMeta {
        ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(self.key.namespace.clone()),
            labels: Some(self.labels()),
            owner_references: Some(vec![owned_by(&self.key, &self.uid)]),
            ..ObjectMeta::default()
        }
    }

    /// Makes the Service if it is not there.
    ///
    /// # Errors
    /// [`RoutingError`]; a Service of somebody else is never touched.
    pub async fn ensure(&self) -> Result<(), RoutingError> {
        let port = i32::from(self.port);
        if let Some(found) = call("read the Service", self.services.get_opt(&self.name)).await? {
            let owners = found.metadata.owner_references.unwrap_or_default();
            let ours = owners.iter().any(|owner| owner.uid == self.uid);
            let right = found
                .spec
                .and_then(|spec| spec.ports)
                .is_some_and(|ports| ports.iter().any(|found| found.port == port));
            match (ours, right) {
                (false, _) => return Err(RoutingError::Foreign(self.name.clone())),
                (true, true) => return Ok(()),
                (true, false) => {}
            }
        }
        let port = ServicePort { name: Some(PORT_NAME.to_owned()), port, ..ServicePort::default() };
        let spec = ServiceSpec { ports: Some(vec![port]), ..ServiceSpec::default() };
        let service = Service { metadata: self.metadata(&self.name), spec: Some(spec), status: None };
        apply(&self.services, &self.name, "apply the Service", &service).await?;
        Ok(())
    }

    /// Sends writing clients to `primary`, or to nobody.
    ///
    /// # Errors
    /// [`RoutingError`]; after a timeout it may have been done.
    pub async fn publish(&self, primary: Option<&ServerAddr>) -> Result<(), RoutingError> {
        let ip = match primary.map(|addr| (addr, addr.host().parse::<std::net::IpAddr>())) {
            None => None,
            Some((_, Ok(ip))) => Some(ip),
            Some((addr, Err(_))) => return Err(RoutingError::Name(addr.clone())),
        };
        let name = format!("{}-baton", self.name);
        let mut metadata = self.metadata(&name);
        if let Some(labels) = &mut metadata.labels {
            labels.insert("kubernetes.io/service-name".to_owned(), self.name.clone());
            labels.insert("endpointslice.kubernetes.io/managed-by".to_owned(), MANAGED_BY.to_owned());
        }
        let ready = EndpointConditions { ready: Some(true), serving: Some(true), terminating: Some(false) };
        let endpoint = |ip: std::net::IpAddr| Endpoint {
            addresses: vec![ip.to_string()],
            conditions: Some(ready.clone()),
            ..Endpoint::default()
        };
        let port = primary.map_or(self.port, ServerAddr::port);
        let slice = EndpointSlice {
            metadata,
            address_type: if ip.is_some_and(|ip| ip.is_ipv6()) { "IPv6" } else { "IPv4" }.to_owned(),
            endpoints: Some(ip.into_iter().map(endpoint).collect()),
            ports: Some(vec![EndpointPort {
                name: Some(PORT_NAME.to_owned()),
                port: Some(i32::from(port)),
                protocol: Some("TCP".to_owned()),
                app_protocol: None,
            }]),
        };
        apply(&self.slices, &name, "apply the EndpointSlice", &slice).await?;
        Ok(())
    }
}
