//! The custom resources: what people write and read with `kubectl`, and nothing else.
//!
//! One file per kind. Doc comments of fields are the text of `kubectl explain`, so they speak to the
//! owner of a cluster. What one object alone can decide is decided here by schema and CEL rules, so
//! that `kubectl apply` refuses it with the reason; the rest is decided by `k8s::controller`.
// The schema derive repeats each struct inside a function, where `pub` is unreachable.
#![allow(unreachable_pub)]

pub mod common;
pub mod crds;
pub mod mysql_cluster;
pub mod mysql_failover;
pub mod unserved;

pub use mysql_cluster::{MysqlCluster, MysqlClusterSpec, MysqlClusterStatus};
pub use mysql_failover::{MysqlFailover, MysqlFailoverSpec, MysqlFailoverStatus};

/// API group of every kind.
pub const GROUP: &str = "mysql.baton.dev";
/// API version of every kind.
pub const VERSION: &str = "v1alpha1";
/// The one field manager of everything Baton applies.
pub const FIELD_MANAGER: &str = "baton";
/// Label: name of the `MysqlCluster` that a managed object belongs to.
pub const LABEL_CLUSTER: &str = "mysql.baton.dev/cluster";
/// Label: what a Service or EndpointSlice leads to, `primary` or `replica`.
pub const LABEL_ROLE: &str = "mysql.baton.dev/role";
/// Label: name of the `MysqlFailover` that a managed object belongs to.
pub const LABEL_RECORD: &str = "mysql.baton.dev/record";
/// Annotation on a `MysqlFailover`: who has taken note of it.
pub const ANNOTATION_ACKNOWLEDGED_BY: &str = "mysql.baton.dev/acknowledged-by";
