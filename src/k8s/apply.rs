//! Server-side apply with the one field manager: what Baton wants of an object it owns, whole, every
//! time. Doing it twice is doing it once.

use std::fmt::Debug;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{
    Api, Resource,
    api::{Patch, PatchParams},
};
use serde::{Serialize, de::DeserializeOwned};

use super::deadline::{CallError, call};
use crate::{
    api::{FIELD_MANAGER, GROUP, VERSION},
    core::id::ClusterKey,
};

/// Applies `object` and answers with what the API server made of it.
///
/// # Errors
/// [`CallError`]; after a timeout it may have been done.
pub async fn apply<K>(api: &Api<K>, name: &str, what: &'static str, object: &K) -> Result<K, CallError>
where
    K: Resource + Clone + Serialize + DeserializeOwned + Debug,
{
    let params = PatchParams::apply(FIELD_MANAGER).force();
    call(what, api.patch(name, &params, &Patch::Apply(object))).await
}

/// The reference that makes an object go when its `MysqlCluster` goes.
#[must_use]
pub fn owned_by(key: &ClusterKey, uid: &str) -> OwnerReference {
    OwnerReference {
        api_version: format!("{GROUP}/{VERSION}"),
        kind: "MysqlCluster".to_owned(),
        name: key.name.clone(),
        uid: uid.to_owned(),
        controller: Some(true),
        block_owner_deletion: None,
    }
}
