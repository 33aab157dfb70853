//! Exhaustive checks: every order of events of a small world, over the very code that runs in production.

#[path = "model/election.rs"]
mod election;
