//! Baton keeps MySQL replication clusters available from within Kubernetes.
//!
//! The rooms and who may know whom are described in `docs/architecture.md`.
pub mod api;
pub mod app;
pub mod cli;
pub mod core;
pub mod engine;
pub mod k8s;
pub mod mysql;
pub mod telemetry;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
