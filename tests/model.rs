//! Exhaustive checks: every order of events of a small world, over the very code that runs in production.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    missing_docs,
    unreachable_pub,
    dead_code,
    reason = "a test"
)]

#[path = "model/election.rs"]
mod election;
#[path = "model/recovery.rs"]
mod recovery;
