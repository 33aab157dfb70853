//! The deciding part of Baton: pure functions from what was seen to what should be done.
//!
//! Nothing here knows a clock, a network, Kubernetes or MySQL's wire protocol. Time comes in as
//! [`time::Mono`], identifiers come in as arguments, maps are ordered: the same input gives the same
//! decision, byte for byte, so every decision can be tested, replayed and explained.
#![deny(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing
)]

pub mod analysis;
pub mod candidate;
pub mod claim;
pub mod discovery;
pub mod durability;
pub mod election;
pub mod gtid;
pub mod housekeeping;
pub mod id;
pub mod membership;
pub mod observation;
pub mod policy;
pub mod quarantine;
pub mod readiness;
pub mod rebuild;
pub mod recovery;
pub mod relocation;
pub mod reopen;
pub mod repair;
pub mod request;
pub mod rules;
pub mod semi_sync;
pub mod snapshot;
pub mod status;
pub mod step;
pub mod throttle;
pub mod time;
pub mod topology;
pub mod version;
