//! Exhaustive checks: every order of events of a small world, over the very code that runs in production.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs, reason = "a test")]

#[path = "model/election.rs"]
mod election;
