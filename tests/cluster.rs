//! Tests that need a real Kubernetes API server: `dev/kubernetes/up.sh --control-plane`, then
//! `dev/kubernetes/enter.sh cargo test --test cluster`. Without one they fail; `make test-fast` leaves
//! them out, `make test` does not.

#[path = "cluster/cel.rs"]
mod cel;
#[path = "cluster/setup.rs"]
mod setup;
#[path = "support/examples.rs"]
mod support;
