//! Fixtures for tests, benchmarks and the demo: snapshots, real servers, networks that can be cut,
//! writers that remember what they were told. Compiled with the feature `testing` and for unit tests,
//! never into the operator.
pub mod api_proxy;
pub mod api_server;
pub mod clock;
pub mod disk;
pub mod folder;
pub mod history;
pub mod job_runner;
pub mod kubelet;
pub mod kubernetes;
pub mod network;
pub mod process;
pub mod record;
pub mod series;
pub mod servers;
pub mod snapshot;
pub mod statistics;
pub mod topology;
pub mod trial;
pub mod writers;
