//! Where writing clients go: a Service without selector whose one endpoint is the writable primary, or
//! nobody (I9). Moving it is one write.
//!
//! The Service is made by the controller beforehand ([`Routing::ensure`]); a failover only patches the
//! EndpointSlice ([`Routing::publish`]). What is there already is never written again (I12). A Service
//! of the wished name that is not Baton's is never touched.

pub mod objects;

use std::time::Duration;

use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use kube::{Api, Client, ResourceExt};
use tokio::sync::Mutex;

use super::{
    apply::apply,
    deadline::{CallError, within},
};
use crate::core::id::{ClusterKey, ServerAddr};
use objects::{Family, claim, endpoint_of, owned_by_uid, service, slice, slice_name};

/// Longest wait for one call: routing is on the path of a failover.
const BUDGET: Duration = Duration::from_secs(2);

/// Why clients cannot be routed.
#[derive(Debug, thiserror::Error)]
pub enum RoutingError {
    /// The API server.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The Service is somebody else's.
    #[error("service {service} is not Baton's ({reason}): remove it or choose another name")]
    Foreign {
        /// Its name.
        service: String,
        /// How that shows.
        reason: String,
    },
    /// An EndpointSlice can only name IP addresses.
    #[error("{0} is not an IP address, and a Service can only lead to IP addresses: name the server by its address")]
    NotAnAddress(ServerAddr),
}

impl RoutingError {
    /// One word for conditions, Events and metrics.
    #[must_use]
    pub fn category(&self) -> &'static str {
        match self {
            Self::Call(_) => "ApiUnavailable",
            Self::Foreign { .. } => "ServiceNotOurs",
            Self::NotAnAddress(_) => "RoutingUnavailable",
        }
    }
}

/// What a cluster wishes of its primary Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// Name of the Service.
    pub service: String,
    /// Its port.
    pub port: u16,
}

/// The primary Service of one cluster.
#[derive(Debug)]
pub struct Routing {
    services: Api<Service>,
    slices: Api<EndpointSlice>,
    key: ClusterKey,
    uid: String,
    wish: Wish,
    /// What each family's slice leads to, as last read or written: absent: there is no slice, or what it
    /// says is not known.
    published: Mutex<Published>,
}

/// What is known of the slices.
#[derive(Debug, Default)]
struct Published {
    /// The Service was looked at and is not somebody else's.
    service_checked: bool,
    ipv4: Known,
    ipv6: Known,
}

/// What is known of one slice.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
enum Known {
    /// Not read yet, or a write ended unclear.
    #[default]
    Unclear,
    /// It is not there.
    Absent,
    /// It leads here.
    Leads(Option<ServerAddr>),
}

impl Published {
    fn of(&mut self, family: Family) -> &mut Known {
        match family {
            Family::Ipv4 => &mut self.ipv4,
            Family::Ipv6 => &mut self.ipv6,
        }
    }
}

impl Routing {
    /// Routing of the cluster `key` with object UID `uid`.
    #[must_use]
    pub fn new(client: &Client, key: ClusterKey, uid: &str, wish: Wish) -> Self {
        let services = Api::namespaced(client.clone(), &key.namespace);
        let slices = Api::namespaced(client.clone(), &key.namespace);
        Self { services, slices, key, uid: uid.to_owned(), wish, published: Mutex::default() }
    }

    /// What it was made for.
    #[must_use]
    pub fn wish(&self) -> &Wish {
        &self.wish
    }

    /// Makes the Service where it is missing or differs, and reads what the slices say.
    ///
    /// # Errors
    /// [`RoutingError`]; nothing was changed when the Service is not ours.
    pub async fn ensure(&self) -> Result<(), RoutingError> {
        let mut published = self.published.lock().await;
        published.service_checked = false;
        if self.check().await? {
            let wanted = service(&self.key, &self.uid, &self.wish);
            apply(&self.services, &self.wish.service, "apply the Service", &wanted).await?;
        }
        published.service_checked = true;
        for family in [Family::Ipv4, Family::Ipv6] {
            *published.of(family) = self.read(family).await?;
        }
        Ok(())
    }

    /// Somebody else may have moved clients meanwhile: what is known is void.
    pub async fn forget(&self) {
        *self.published.lock().await = Published::default();
    }

    /// Whether the Service has to be written.
    async fn check(&self) -> Result<bool, RoutingError> {
        let name = &self.wish.service;
        let found = within(BUDGET, "read the Service", self.services.get_opt(name)).await?;
        match claim(found.as_ref(), &self.uid, &service(&self.key, &self.uid, &self.wish)) {
            objects::Claim::Foreign(reason) => Err(RoutingError::Foreign { service: name.clone(), reason }),
            objects::Claim::Missing | objects::Claim::Differs => Ok(true),
            objects::Claim::AsWanted => Ok(false),
        }
    }

    async fn read(&self, family: Family) -> Result<Known, RoutingError> {
        let name = slice_name(&self.wish.service, family);
        let found = within(BUDGET, "read the EndpointSlice", self.slices.get_opt(&name)).await?;
        Ok(match found {
            None => Known::Absent,
            // One that a cluster of the same name left behind is about to be collected with its owner.
            Some(found) if !owned_by_uid(&found, &self.uid) => Known::Unclear,
            Some(found) => endpoint_of(&found).map_or(Known::Unclear, Known::Leads),
        })
    }

    /// Leads clients to `primary`, or to nobody. Where nothing changes, nothing is written.
    ///
    /// # Errors
    /// [`RoutingError`]; with [`RoutingError::NotAnAddress`] clients are led to nobody.
    pub async fn publish(&self, primary: Option<&ServerAddr>) -> Result<(), RoutingError> {
        self.publish_if(primary, || true).await.map(|_| ())
    }

    /// The same if `holds` still says so when it is this call's turn: what was true when it was asked for
    /// may have been overtaken by a failover. Whether it did.
    ///
    /// # Errors
    /// As [`Self::publish`].
    pub async fn publish_if(
        &self,
        primary: Option<&ServerAddr>,
        holds: impl Fn() -> bool + Send,
    ) -> Result<bool, RoutingError> {
        let home = primary.map(|addr| Family::of(addr).ok_or_else(|| RoutingError::NotAnAddress(addr.clone())));
        let (home, refused) = match home.transpose() {
            Ok(home) => (home, None),
            Err(error) => (None, Some(error)),
        };
        let mut published = self.published.lock().await;
        if !holds() {
            return Ok(false);
        }
        if !published.service_checked {
            // A slice would give somebody else's Service our endpoint.
            self.check().await?;
            published.service_checked = true;
        }
        // Nobody first: two slices must never name two servers.
        for family in [Family::Ipv4, Family::Ipv6].into_iter().filter(|family| home != Some(*family)) {
            self.write(&mut published, family, None).await?;
        }
        if let Some(family) = home {
            self.write(&mut published, family, primary).await?;
        }
        refused.map_or(Ok(true), Err)
    }

    async fn write(
        &self,
        published: &mut Published,
        family: Family,
        primary: Option<&ServerAddr>,
    ) -> Result<(), RoutingError> {
        let known = published.of(family);
        if *known == Known::Unclear && primary.is_none() {
            *known = self.read(family).await?;
        }
        let settled = match known {
            Known::Unclear => false,
            Known::Absent => primary.is_none(),
            Known::Leads(to) => to.as_ref() == primary,
        };
        if settled {
            return Ok(());
        }
        *known = Known::Unclear;
        let wanted = slice(&self.key, &self.uid, &self.wish, family, primary);
        let params = kube::api::PatchParams::apply(crate::api::FIELD_MANAGER).force();
        let name = wanted.name_any();
        let patch = kube::api::Patch::Apply(&wanted);
        within(BUDGET, "apply the EndpointSlice", self.slices.patch(&name, &params, &patch)).await?;
        *published.of(family) = Known::Leads(primary.cloned());
        Ok(())
    }

    /// Leads clients to nobody.
    ///
    /// # Errors
    /// As [`Self::publish`].
    pub async fn withdraw(&self) -> Result<(), RoutingError> {
        self.publish(None).await
    }
}

#[cfg(test)]
mod tests;
