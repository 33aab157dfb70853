//! The Kubernetes side: resources in, status, records, routing and Events out.

pub mod apply;
pub mod client;
pub mod conditions;
pub mod deadline;
pub mod lease;
pub mod records;
pub mod routing;
pub mod secrets;
pub mod status;
pub mod validate;
