//! Which object may have a cluster name, a server or a Service when several want it: the older one.
//!
//! The younger one is not served at all: two policies acting on one server would undo each other. An
//! object that is not served claims nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;
use tokio::sync::watch;

use crate::core::id::{ClusterKey, ServerAddr};

/// What one object wants for itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimant {
    /// When it was created.
    pub created: Timestamp,
    /// Its UID.
    pub uid: String,
    /// Its name for people.
    pub cluster_name: String,
    /// Its servers: named, selected or found.
    pub servers: BTreeSet<ServerAddr>,
    /// Its Service.
    pub service: Option<String>,
}

/// What an older object has already.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Duplicate {
    /// The name.
    #[error("cluster name {name} belongs to {owner}, which is older: give this cluster another name")]
    Name {
        /// The name.
        name: String,
        /// Whose it is.
        owner: ClusterKey,
    },
    /// A server.
    #[error("server {server} belongs to {owner}, which is older: a server can be in one cluster only")]
    Server {
        /// The server.
        server: ServerAddr,
        /// Whose it is.
        owner: ClusterKey,
    },
    /// The Service.
    #[error("service {service} belongs to {owner}, which is older: choose another name")]
    Service {
        /// The Service.
        service: String,
        /// Whose it is.
        owner: ClusterKey,
    },
}

impl Duplicate {
    /// One word for conditions, Events and metrics.
    #[must_use]
    pub fn category(&self) -> &'static str {
        match self {
            Self::Name { .. } => "DuplicateClusterName",
            Self::Server { .. } => "DuplicateServer",
            Self::Service { .. } => "DuplicateService",
        }
    }
}

/// The objects that must not be served, with the reason.
#[must_use]
pub fn verdicts(claimants: &BTreeMap<ClusterKey, Claimant>) -> BTreeMap<ClusterKey, Duplicate> {
    let mut by_age: Vec<_> = claimants.iter().collect();
    by_age.sort_by_key(|(_, claimant)| (claimant.created, &claimant.uid));
    let mut names: BTreeMap<&String, &ClusterKey> = BTreeMap::new();
    let mut servers: BTreeMap<&ServerAddr, &ClusterKey> = BTreeMap::new();
    let mut services: BTreeMap<(&String, &String), &ClusterKey> = BTreeMap::new();
    let mut refused = BTreeMap::new();
    for (key, claimant) in by_age {
        let service = claimant.service.as_ref().map(|service| (&key.namespace, service));
        let name = names.get(&claimant.cluster_name);
        let name = name.map(|owner| Duplicate::Name { name: claimant.cluster_name.clone(), owner: (*owner).clone() });
        let server = || {
            let (server, owner) = claimant.servers.iter().find_map(|server| servers.get_key_value(server))?;
            Some(Duplicate::Server { server: (*server).clone(), owner: (*owner).clone() })
        };
        let route = || {
            let (taken, owner) = services.get_key_value(&service?)?;
            Some(Duplicate::Service { service: taken.1.clone(), owner: (*owner).clone() })
        };
        if let Some(duplicate) = name.or_else(server).or_else(route) {
            refused.insert(key.clone(), duplicate);
            continue;
        }
        names.insert(&claimant.cluster_name, key);
        servers.extend(claimant.servers.iter().map(|server| (server, key)));
        services.extend(service.map(|service| (service, key)));
    }
    refused
}

/// The claims of all objects that the operator serves. Clones are the same claims.
#[derive(Debug, Clone)]
pub struct Claims {
    claimants: Arc<Mutex<BTreeMap<ClusterKey, Claimant>>>,
    version: watch::Sender<u64>,
}

impl Default for Claims {
    fn default() -> Self {
        Self { claimants: Arc::default(), version: watch::Sender::new(0) }
    }
}

impl Claims {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<ClusterKey, Claimant>> {
        self.claimants.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what an object wants, and answers why it cannot have it.
    #[must_use]
    pub fn claim(&self, key: &ClusterKey, wanted: Claimant) -> Option<Duplicate> {
        let mut claimants = self.lock();
        if claimants.get(key) != Some(&wanted) {
            claimants.insert(key.clone(), wanted);
            self.version.send_modify(|version| *version += 1);
        }
        verdicts(&claimants).remove(key)
    }

    /// The object is gone.
    pub fn release(&self, key: &ClusterKey) {
        if self.lock().remove(key).is_some() {
            self.version.send_modify(|version| *version += 1);
        }
    }

    /// Tells when any claim changes.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> ClusterKey {
        ClusterKey { namespace: "default".to_owned(), name: name.to_owned() }
    }

    fn claimant(created: i64, name: &str, servers: &[&str], service: Option<&str>) -> Claimant {
        Claimant {
            created: Timestamp::from_second(created).unwrap(),
            uid: format!("uid-{name}"),
            cluster_name: name.to_owned(),
            servers: servers.iter().map(|server| server.parse().unwrap()).collect(),
            service: service.map(str::to_owned),
        }
    }

    fn refused(claimants: &[(&str, Claimant)]) -> Vec<(String, &'static str)> {
        let claimants = claimants.iter().map(|(name, claimant)| (key(name), claimant.clone())).collect();
        verdicts(&claimants).iter().map(|(key, why)| (key.name.clone(), why.category())).collect()
    }

    #[test]
    fn the_older_object_has_it() {
        let old = claimant(1, "shop", &["db-1:3306"], Some("shop"));
        for (young, why) in [
            (claimant(2, "shop", &["db-2:3306"], None), "DuplicateClusterName"),
            (claimant(2, "other", &["db-2:3306", "db-1:3306"], None), "DuplicateServer"),
            (claimant(2, "other", &["db-2:3306"], Some("shop")), "DuplicateService"),
        ] {
            assert_eq!(refused(&[("a", old.clone()), ("b", young.clone())]), [("b".to_owned(), why)]);
            assert_eq!(refused(&[("a", young), ("b", old.clone())]), [("a".to_owned(), why)]);
        }
    }

    #[test]
    fn of_the_same_age_the_smaller_uid_has_it() {
        let a = Claimant { uid: "1".to_owned(), ..claimant(1, "shop", &[], None) };
        let b = Claimant { uid: "2".to_owned(), ..claimant(1, "shop", &[], None) };
        assert_eq!(refused(&[("z", a), ("y", b)]), [("y".to_owned(), "DuplicateClusterName")]);
    }

    #[test]
    fn who_is_not_served_claims_nothing() {
        let first = claimant(1, "a", &["db-1:3306"], None);
        let refused_one = claimant(2, "b", &["db-1:3306", "db-2:3306"], None);
        let third = claimant(3, "c", &["db-2:3306"], None);
        assert_eq!(refused(&[("a", first), ("b", refused_one), ("c", third)]), [("b".to_owned(), "DuplicateServer")]);
    }

    #[test]
    fn different_ports_and_namespaces_do_not_collide() {
        let a = claimant(1, "a", &["db-1:3306"], Some("shop"));
        let b = claimant(2, "b", &["db-1:3307"], Some("shop"));
        let other = ClusterKey { namespace: "other".to_owned(), name: "b".to_owned() };
        assert_eq!(verdicts(&[(key("a"), a), (other, b)].into()), BTreeMap::new());
    }

    #[test]
    fn a_released_claim_is_free() {
        let claims = Claims::default();
        assert_eq!(claims.claim(&key("a"), claimant(1, "shop", &[], None)), None);
        assert!(claims.claim(&key("b"), claimant(2, "shop", &[], None)).is_some());
        let changes = claims.changes();
        claims.release(&key("a"));
        assert!(changes.has_changed().unwrap());
        assert_eq!(claims.claim(&key("b"), claimant(2, "shop", &[], None)), None);
    }
}
