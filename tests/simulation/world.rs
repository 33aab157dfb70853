//! All of the simulation: `super` in its files is this.

pub mod actions;
pub mod aimed;
pub mod api;
pub mod check;
pub mod faults;
pub mod fleet;
pub mod job;
pub mod judge;
pub mod operator;
pub mod ports;
pub mod probes;
pub mod random;
pub mod replication;
pub mod run;
pub mod scenario;
pub mod server;
pub mod sim;
pub mod statements;
pub mod strike;
pub mod sweep;
pub mod unanswered;
pub mod writers;
