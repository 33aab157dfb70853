//! Lossless semi-sync as the owner wants it: who acknowledges, what is due for that, and what it
//! guarantees now.
//!
//! Of the replicas that could become primary one more than needed acknowledges, so that one may fail
//! without a pause. Not all of them: a failover has to stop N - W + 1 of N (see
//! [`super::durability`]), so every acker beyond that is one more server that must answer then.

pub mod ackers;
mod plan;
mod scene;
mod state;

pub use self::{
    ackers::{Choice, Unmet},
    plan::{Plan, plan},
    state::durable,
};
