//! The failover state machine over a fleet of fake servers, driven step by step: dead primaries, lagging
//! and dead replicas, crashes of the executor at every point.
//!
//! Checked in every run: nothing acknowledged is lost under semi-sync (I1), two servers never accept
//! acknowledged writes at the same time (I3), the machine ends (I6).
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

#[path = "failover/appliers.rs"]
mod appliers;
#[path = "failover/cases.rs"]
mod cases;
#[path = "failover/chaos.rs"]
mod chaos;
#[path = "failover/fleet.rs"]
mod fleet;
#[path = "failover/forced.rs"]
mod forced;
#[path = "failover/found.rs"]
mod found;
#[path = "failover/invariants.rs"]
mod invariants;
#[path = "failover/journal.rs"]
mod journal;
#[path = "failover/properties.rs"]
mod properties;
#[path = "failover/reopening.rs"]
mod reopening;
#[path = "failover/servers.rs"]
mod servers;
#[path = "failover/shortage.rs"]
mod shortage;
