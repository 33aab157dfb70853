//! What is checked of every state, and which rule that is off breaks it: for the searches, and for the page that
//! `make mutations` writes.

use baton::core::rules::Rule;

pub const NOTHING_LOST: &str = "I1: a new primary has all that was acknowledged";
pub const RELAY_LOGS_KEPT: &str = "I1: no relay log with acknowledged transactions is thrown away";
pub const ONE_ACKNOWLEDGES: &str = "I3: at most one server can acknowledge";
pub const FENCED: &str = "I3: who is chosen is chosen once the old primary can acknowledge nothing";
pub const LATE_IS_HARMLESS: &str = "I3: no process that leads no more lets clients in";
pub const CLAIMS_END: &str = "I3: who was outdone on a server lets no clients in there";
pub const EPOCH_FIRST: &str = "I8: clients are let in once the epoch is written";
pub const EPOCHS_GROW: &str = "I8: an epoch is won once, above all before";
pub const ROUTED_IS_OPEN: &str = "I9: clients are routed to a server that was opened";
pub const INTENT_FIRST: &str = "nothing is done to a server before the record is written";
pub const RESTORED: &str = "who gave up has started the receivers that it stopped, or says which it did not";

/// Rules that a search misses when they are off, with what is broken then. Not the quorum: of two ackers both are to
/// be stopped all the same, because the new primary needs the other one.
pub const MISSED: &[(Rule, &str)] = &[
    (Rule::IntentFirst, INTENT_FIRST),
    (Rule::EpochSwap, EPOCHS_GROW),
    (Rule::Connecting, FENCED),
    (Rule::DrainFirst, NOTHING_LOST),
    (Rule::DrainBeforeRepoint, RELAY_LOGS_KEPT),
    (Rule::FenceOrder, NOTHING_LOST),
    (Rule::ServerDeadline, LATE_IS_HARMLESS),
    (Rule::ClaimEnds, CLAIMS_END),
    (Rule::EpochFirst, EPOCH_FIRST),
    (Rule::RouteLast, ROUTED_IS_OPEN),
    (Rule::GiveUpRestores, RESTORED),
];
