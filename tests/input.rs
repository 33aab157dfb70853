//! The operator as a process of its own, with a real API server and real MySQL servers: what people get
//! wrong, what they force, and what they see of it. A healthy cluster beside each case stays healthy.
//!
//! `dev/kubernetes/up.sh --control-plane`, then
//! `dev/kubernetes/enter.sh cargo test --features testing --test input`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]
#![allow(missing_docs, unreachable_pub, clippy::print_stdout, reason = "a test; how long things took is printed")]

#[path = "input/bad.rs"]
mod bad;
#[path = "input/durable.rs"]
mod durable;
#[path = "input/forced.rs"]
mod forced;
#[path = "input/jobs.rs"]
mod jobs;
#[path = "input/operated.rs"]
mod operated;
#[path = "input/quarantine.rs"]
mod quarantine;
#[path = "input/rebuild.rs"]
mod rebuild;
#[path = "input/restarted.rs"]
mod restarted;
#[path = "input/scene.rs"]
mod scene;
