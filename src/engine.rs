//! The part that runs: one task per cluster turns looks into snapshots, snapshots into decisions and,
//! on the leader, decisions into steps. It knows the outside only through the ports below.

mod calm;
pub mod carry;
pub mod clock;
pub mod cluster;
pub mod decide;
pub mod facts;
pub mod outlook;
pub mod ports;
pub mod recover;
mod requests;
#[cfg(test)]
mod tests;
pub mod turns;
mod view;
