//! The objects of routing as they shall be, and whose an object of that name is. Pure.

use std::{collections::BTreeMap, net::IpAddr};

use k8s_openapi::{
    api::{
        core::v1::{Service, ServicePort, ServiceSpec},
        discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::ResourceExt;

use super::Wish;
use crate::{
    api::{GROUP, LABEL_CLUSTER, LABEL_ROLE},
    core::id::{ClusterKey, ServerAddr},
    k8s::apply::owned_by,
};

/// Name of the port in Service and slice; they are matched by it.
const PORT_NAME: &str = "mysql";
/// Label by which a Service finds its slices.
const LABEL_SERVICE: &str = "kubernetes.io/service-name";
/// Label that keeps other controllers away from a slice.
const LABEL_MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";

/// Address family; a slice has one for life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

impl Family {
    /// The family of an address; `None` for a host name.
    #[must_use]
    pub fn of(addr: &ServerAddr) -> Option<Self> {
        match addr.host().parse().ok()? {
            IpAddr::V4(_) => Some(Self::Ipv4),
            IpAddr::V6(_) => Some(Self::Ipv6),
        }
    }

    fn address_type(self) -> &'static str {
        match self {
            Self::Ipv4 => "IPv4",
            Self::Ipv6 => "IPv6",
        }
    }
}

/// Name of a Service's slice.
#[must_use]
pub fn slice_name(service: &str, family: Family) -> String {
    match family {
        Family::Ipv4 => format!("{service}-baton"),
        Family::Ipv6 => format!("{service}-baton-ipv6"),
    }
}

fn metadata(key: &ClusterKey, uid: &str, name: String, labels: &[(&str, &str)]) -> ObjectMeta {
    let common = [(LABEL_CLUSTER, key.name.as_str()), (LABEL_ROLE, "primary")];
    let labels = common.iter().chain(labels).map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    ObjectMeta {
        name: Some(name),
        namespace: Some(key.namespace.clone()),
        labels: Some(labels.collect()),
        owner_references: Some(vec![owned_by(key, uid)]),
        ..ObjectMeta::default()
    }
}

/// The Service of a cluster's primary.
#[must_use]
pub fn service(key: &ClusterKey, uid: &str, wish: &Wish) -> Service {
    let port = ServicePort {
        name: Some(PORT_NAME.to_owned()),
        port: i32::from(wish.port),
        protocol: Some("TCP".to_owned()),
        ..ServicePort::default()
    };
    Service {
        metadata: metadata(key, uid, wish.service.clone(), &[("app.kubernetes.io/managed-by", "baton")]),
        // Servers may have addresses of either family.
        spec: Some(ServiceSpec {
            ports: Some(vec![port]),
            ip_family_policy: Some("PreferDualStack".to_owned()),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

/// The slice that leads to `primary`, or to nobody.
#[must_use]
pub fn slice(key: &ClusterKey, uid: &str, wish: &Wish, family: Family, primary: Option<&ServerAddr>) -> EndpointSlice {
    let ready = EndpointConditions { ready: Some(true), serving: Some(true), terminating: Some(false) };
    let endpoint = primary.map(|addr| Endpoint {
        addresses: vec![addr.host().to_owned()],
        conditions: Some(ready.clone()),
        ..Endpoint::default()
    });
    let port = EndpointPort {
        name: Some(PORT_NAME.to_owned()),
        port: Some(primary.map_or(i32::from(wish.port), |addr| i32::from(addr.port()))),
        protocol: Some("TCP".to_owned()),
        app_protocol: None,
    };
    let labels = [(LABEL_SERVICE, wish.service.as_str()), (LABEL_MANAGED_BY, GROUP)];
    EndpointSlice {
        metadata: metadata(key, uid, slice_name(&wish.service, family), &labels),
        address_type: family.address_type().to_owned(),
        endpoints: Some(endpoint.into_iter().collect()),
        ports: Some(vec![port]),
    }
}

/// Where a slice leads; `None`: it says something that Baton did not write.
#[must_use]
pub fn endpoint_of(slice: &EndpointSlice) -> Option<Option<ServerAddr>> {
    let endpoints = slice.endpoints.as_deref().unwrap_or_default();
    let port = match slice.ports.as_deref().unwrap_or_default() {
        [port] if port.name.as_deref() == Some(PORT_NAME) => u16::try_from(port.port?).ok()?,
        _ => return None,
    };
    match endpoints {
        [] => Some(None),
        [only] => match only.addresses.as_slice() {
            [address] => ServerAddr::new(address, port).ok().map(Some),
            _ => None,
        },
        _ => None,
    }
}

/// Whether a slice goes with the cluster object that has this UID.
#[must_use]
pub fn owned_by_uid(slice: &EndpointSlice, uid: &str) -> bool {
    slice.owner_references().iter().any(|owner| owner.uid == uid)
}

/// Whose a Service is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// It is not there.
    Missing,
    /// Somebody else's, with the reason.
    Foreign(String),
    /// Ours, and not as wanted.
    Differs,
    /// Ours, as wanted.
    AsWanted,
}

/// Whose `found` is, and whether it is as wanted.
#[must_use]
pub fn claim(found: Option<&Service>, uid: &str, wanted: &Service) -> Claim {
    let Some(found) = found else { return Claim::Missing };
    let owner = found.owner_references().iter().find(|owner| owner.controller == Some(true));
    let spec = found.spec.clone().unwrap_or_default();
    if owner.is_none_or(|owner| owner.uid != uid) {
        let owner = owner.map_or_else(|| "nobody".to_owned(), |owner| format!("{} {}", owner.kind, owner.name));
        return Claim::Foreign(format!("it belongs to {owner}"));
    }
    if spec.selector.is_some_and(|selector| !selector.is_empty()) {
        return Claim::Foreign("it has a selector".to_owned());
    }
    let ports = |spec: &ServiceSpec| {
        let ports = spec.ports.iter().flatten();
        ports.map(|port| (port.name.clone(), port.port)).collect::<Vec<_>>()
    };
    let labelled =
        |labels: &BTreeMap<String, String>| wanted.labels().iter().all(|(key, value)| labels.get(key) == Some(value));
    let same = wanted.spec.as_ref().map(ports) == found.spec.as_ref().map(ports) && labelled(found.labels());
    if same { Claim::AsWanted } else { Claim::Differs }
}
