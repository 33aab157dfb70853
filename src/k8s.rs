//! The Kubernetes side: resources in, status, records, routing and Events out. It says how; what is
//! said is decided elsewhere.

pub mod apply;
pub mod client;
pub mod conditions;
pub mod controller;
pub mod deadline;
pub mod events;
pub mod exports;
pub mod jobs;
pub mod lease;
pub mod mirror;
pub mod records;
pub mod routing;
pub mod secrets;
