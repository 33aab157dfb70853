//! What is repaired besides failures.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is repaired besides failures.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase")]
pub struct Repair {
    /// Replicas whose threads stopped without an error, or for want of a connection; that replicate from a server which
    /// does not get what the primary writes; or that accept writes. Report: they are shown. Repair: they are started,
    /// moved to the primary if their transactions allow it, set read only. Servers under maintenance are left alone.
    #[serde(default)]
    pub replicas: RepairMode,
}

/// What is done about what could be repaired.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum RepairMode {
    /// It is shown.
    #[default]
    Report,
    /// It is repaired.
    Repair,
}
