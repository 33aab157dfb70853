//! Baton as its users run it: installed by its chart into a Kubernetes with a real node, two replicas in
//! pods, serving MySQL servers that are pods too. Needs that node and the images: `dev/test-node.sh`.
//!
//! The tests share one node and one installation and take turns; each leaves a healthy cluster behind,
//! so any of them runs alone: `dev/test-node.sh NAME`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub)]

#[path = "node/failover.rs"]
mod failover;
#[path = "node/installation.rs"]
mod installation;
#[path = "node/place.rs"]
mod place;
#[path = "node/replicas.rs"]
mod replicas;
