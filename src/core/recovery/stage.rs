//! Where a recovery is; finer than the phase that is recorded.

use super::Phase;

/// What the machine is waiting for; finer than the recorded phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Begin,
    Fence,
    Promote,
    Route,
    Complete,
    /// The record is being left to a Job.
    Leave,
    /// Nobody is promoted: what was stopped is started again.
    Restore(Phase),
    /// Before that, the old primary is opened again.
    Reopen,
    Done,
}

/// Where the winner's promotion is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Winner {
    /// Relay logs are being applied.
    Drain,
    /// The claim is to be taken.
    Claim,
    /// Semi-sync is to be switched on.
    SemiSync,
    /// The epoch is to be written.
    Epoch,
    /// Clients are to be let in.
    Unfence,
}
