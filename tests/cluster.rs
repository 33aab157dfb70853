//! Tests that need a real Kubernetes API server: `dev/kubernetes/up.sh --control-plane`, then
//! `dev/kubernetes/enter.sh cargo test --test cluster`. Without one they fail; `make test-fast` leaves
//! them out, `make test` does not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub)]

#[path = "cluster/cel.rs"]
mod cel;
#[path = "cluster/setup.rs"]
mod setup;
#[path = "cluster/shell.rs"]
mod shell;
#[path = "support/examples.rs"]
mod support;
