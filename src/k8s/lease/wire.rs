//! Between the election's words and the Lease object: no decision is taken here.

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::Timestamp,
};

use crate::core::election::{Claim, Record, Version};

/// Which state of which object this is; `None`: the server's answer lacks it.
pub(super) fn version(lease: &Lease) -> Option<Version> {
    let (uid, resource) = (lease.metadata.uid.clone()?, lease.metadata.resource_version.clone()?);
    Some(Version { uid, resource })
}

/// What the election needs to know of a Lease; `None` as for [`version`].
pub(super) fn record(lease: &Lease) -> Option<Record> {
    let version = version(lease)?;
    let spec = lease.spec.clone().unwrap_or_default();
    let LeaseSpec { holder_identity: holder, lease_duration_seconds, lease_transitions, .. } = spec;
    Some(Record { version, holder, duration_s: lease_duration_seconds, transitions: lease_transitions })
}

/// A Lease that is not there yet.
pub(super) fn create(namespace: &str, name: &str, claim: &Claim, wall_ms: u64) -> Lease {
    let names = (Some(namespace.to_owned()), Some(name.to_owned()));
    let metadata = ObjectMeta { namespace: names.0, name: names.1, ..ObjectMeta::default() };
    let empty = Lease { metadata, spec: None };
    with_claim(empty, claim, wall_ms)
}

/// `last` with `claim` in it, to be written on condition that it still is `over`. What others keep in the
/// object (labels, annotations, owners) stays.
pub(super) fn replace(last: &Lease, over: &Version, claim: &Claim, wall_ms: u64) -> Lease {
    let mut lease = last.clone();
    lease.metadata.uid = Some(over.uid.clone());
    lease.metadata.resource_version = Some(over.resource.clone());
    lease.metadata.managed_fields = None;
    with_claim(lease, claim, wall_ms)
}

fn with_claim(mut lease: Lease, claim: &Claim, wall_ms: u64) -> Lease {
    let number = |value| i32::try_from(value).ok();
    // For people only; no decision reads these times.
    let now = i64::try_from(wall_ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok()).map(MicroTime);
    let spec = lease.spec.get_or_insert_default();
    spec.holder_identity = Some(claim.holder.clone());
    spec.lease_duration_seconds = number(claim.duration_s);
    spec.lease_transitions = number(claim.transitions);
    if claim.acquired {
        spec.acquire_time.clone_from(&now);
    }
    spec.renew_time = now;
    lease
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn lease() -> Lease {
        serde_json::from_value(json!({
            "metadata": {"name": "baton", "namespace": "ops", "uid": "u", "resourceVersion": "7",
                "labels": {"team": "db"}, "managedFields": [{"manager": "x"}]},
            "spec": {"holderIdentity": "b", "leaseDurationSeconds": 15, "acquireTime": "2026-01-01T00:00:00.000000Z"},
        }))
        .unwrap()
    }

    #[test]
    fn a_renewal_keeps_what_is_not_its_own() {
        let over = version(&lease()).unwrap();
        let claim = Claim { holder: "b".to_owned(), duration_s: 3, transitions: 4, acquired: false };
        let written = serde_json::to_value(replace(&lease(), &over, &claim, 1_767_225_601_500)).unwrap();
        assert_eq!(
            written,
            json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                "metadata": {"name": "baton", "namespace": "ops", "uid": "u", "resourceVersion": "7",
                    "labels": {"team": "db"}},
                "spec": {"holderIdentity": "b", "leaseDurationSeconds": 3, "leaseTransitions": 4,
                    "acquireTime": "2026-01-01T00:00:00.000000Z", "renewTime": "2026-01-01T00:00:01.500000Z"}})
        );
    }

    #[test]
    fn an_answer_without_uid_or_version_is_no_lease() {
        for field in ["uid", "resourceVersion"] {
            let mut value = serde_json::to_value(lease()).unwrap();
            value["metadata"].as_object_mut().unwrap().remove(field);
            assert_eq!(record(&serde_json::from_value(value).unwrap()), None, "{field}");
        }
        let empty = Lease { spec: None, ..lease() };
        assert!(record(&empty).is_some_and(|record| record.holder.is_none() && record.duration_s.is_none()));
    }
}
