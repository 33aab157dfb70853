//! The Kubernetes side: resources in, status, records, routing and Events out.

pub mod apply;
pub mod conditions;
pub mod deadline;
pub mod records;
