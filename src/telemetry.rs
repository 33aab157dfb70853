//! What Baton tells the people who run it: log lines, metrics and the facts that become both.
//!
//! A thing that happened is a struct in [`event`]; its `emit` writes the line and counts, so that the two
//! never disagree and every line of one kind carries the same fields.

pub mod event;
pub mod logging;
pub mod metrics;
