//! The things Baton can do to one server, as values: what a plan is made of and what the MySQL shell
//! turns into SQL.
//!
//! Each action is one purpose and safe to do twice. What an action needs beyond the session (deadlines
//! the server evaluates, sets to wait for) is part of it, so that a plan can be printed and compared.

use serde::{Deserialize, Serialize};

use super::{
    gtid::GtidSet,
    id::{Epoch, ServerAddr},
    observation::{Failure, FailureKind},
};

/// One thing to do to one server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// Look at the server now.
    Look,
    /// Stop the receiver threads of all channels, also while they connect, then look: the answer
    /// proves what this server can have acknowledged.
    StopReceiver,
    /// Start the receivers again towards the source they have.
    StartReceiver,
    /// Stop and start the receivers, so that they have to connect anew.
    RestartReceiver,
    /// Start the applier threads.
    StartApplier,
    /// Wait until `set` is applied, at most `wait_ms`; then look, so that progress is seen.
    WaitApplied {
        /// Transactions to be applied.
        set: GtidSet,
        /// Longest wait in milliseconds.
        wait_ms: u64,
    },
    /// Make it impossible to acknowledge writes, in the one safe order: `offline_mode` on, semi-sync
    /// source off, `super_read_only` on, remaining client sessions killed (safety.md, "Failing over", 6).
    Fence,
    /// `read_only` (and `super_read_only` where there is one) on; `offline_mode` off again.
    SetReadOnly,
    /// Switch the source side of semi-sync on or off, with the acknowledgements to wait for.
    SemiSyncSource {
        /// On or off.
        on: bool,
        /// Acknowledgements a commit waits for; ignored when off.
        wait_count: u32,
    },
    /// Set the source side of semi-sync so that it does not fall back; with `on` also such that commits wait
    /// for `acks` replicas, however few are connected, and switch it on.
    LosslessSemiSync {
        /// Acknowledgements a commit waits for.
        acks: u32,
        /// Enough ackers are attached.
        on: bool,
    },
    /// Make a replica acknowledge, or not, at once: its receiver connects anew.
    Acknowledge {
        /// Whether it does.
        on: bool,
    },
    /// Load the semi-sync plugins that are missing, both sides, switched off.
    LoadSemiSync,
    /// Raise `max_connections`, until the server starts anew.
    AllowConnections {
        /// By how many.
        more: u32,
    },
    /// Switch the replica side of semi-sync on or off; takes effect with the next receiver start.
    SemiSyncReplica {
        /// On or off.
        on: bool,
    },
    /// Take the per-server lock, kill sessions of lower epochs, note the server's clock: opens the
    /// promotion on this server (safety.md, "Failing over", 7). Fails when a higher epoch was here.
    Claim {
        /// The reign that claims.
        epoch: Epoch,
        /// How long the claim may still unfence, in milliseconds of the *server's* clock from now.
        valid_ms: u64,
    },
    /// Stop replication for good, drop `super_read_only`, write the epoch row, forget the old source; the server still
    /// refuses ordinary clients.
    WriteEpoch {
        /// The reign that begins.
        epoch: Epoch,
        /// Who was primary before.
        old_primary: Option<ServerAddr>,
        /// Longest wait for the commit in milliseconds.
        wait_ms: u64,
    },
    /// The one statement that lets clients write; the server itself refuses it after the claim's
    /// deadline. Same session as the claim.
    Unfence,
    /// Forget the old source (`RESET REPLICA ALL`) on the new primary, where that was not done with its epoch.
    ForgetSource,
    /// Replicate from `source` by GTID, TLS and credentials restated, and start.
    Repoint {
        /// The new source.
        source: ServerAddr,
        /// Semi-sync replica side while connected to it; `None`: as found.
        semi_sync: Option<bool>,
    },
    /// Set heartbeat, connect retry and net timeout so that silence is noticed.
    EnforceReplicationSettings {
        /// Heartbeat interval in milliseconds.
        heartbeat_ms: u64,
        /// `replica_net_timeout` in seconds.
        net_timeout_s: u64,
    },
}

impl Action {
    /// Stable name for records, logs and metrics.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Look => "Look",
            Self::StopReceiver => "StopReceiver",
            Self::StartReceiver => "StartReceiver",
            Self::RestartReceiver => "RestartReceiver",
            Self::StartApplier => "StartApplier",
            Self::WaitApplied { .. } => "WaitApplied",
            Self::Fence => "Fence",
            Self::SetReadOnly => "SetReadOnly",
            Self::SemiSyncSource { .. } => "SemiSyncSource",
            Self::LosslessSemiSync { .. } => "LosslessSemiSync",
            Self::Acknowledge { .. } => "Acknowledge",
            Self::LoadSemiSync => "LoadSemiSync",
            Self::AllowConnections { .. } => "AllowConnections",
            Self::SemiSyncReplica { .. } => "SemiSyncReplica",
            Self::Claim { .. } => "Claim",
            Self::WriteEpoch { .. } => "WriteEpoch",
            Self::Unfence => "Unfence",
            Self::ForgetSource => "ForgetSource",
            Self::Repoint { .. } => "Repoint",
            Self::EnforceReplicationSettings { .. } => "EnforceReplicationSettings",
        }
    }
}

/// Something due on a server, with the reason in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Duty {
    /// The server.
    pub server: ServerAddr,
    /// What.
    pub action: Action,
    /// Why.
    pub reason: &'static str,
}

/// Why an action failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ActionError {
    /// The server could not be talked to, or did not answer in time: whether it happened is unknown.
    #[error("{server}: {}", failure.message)]
    Contact {
        /// The server.
        server: ServerAddr,
        /// How contact failed.
        failure: Failure,
    },
    /// The server refused the statement: it did not happen.
    #[error("{server}: {statement}: {code} {message}")]
    Refused {
        /// The server.
        server: ServerAddr,
        /// Name of the statement, never its text.
        statement: &'static str,
        /// MySQL error number.
        code: u16,
        /// The server's words, redacted.
        message: String,
    },
    /// A precondition read in the same session did not hold: nothing was done.
    #[error("{server}: {reason}")]
    Precondition {
        /// The server.
        server: ServerAddr,
        /// What did not hold.
        reason: String,
    },
}

impl ActionError {
    /// Whether no process served the server's port.
    #[must_use]
    pub fn found_no_process(&self) -> bool {
        matches!(self, Self::Contact { failure, .. } if failure.kind == FailureKind::Refused)
    }
}
