//! Who acknowledges for the primary, as it is written down: before a server may acknowledge it is named,
//! and it is named until it surely does not (safety.md, "Semi-sync").
//!
//! Whoever leads next counts these servers before it has seen any of them.

use std::collections::BTreeSet;

use super::id::ServerAddr;

/// What is written down; a place in the cluster's status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    /// The primary.
    pub source: ServerAddr,
    /// Acknowledgements a commit waits for there, at least.
    pub acks: u32,
    /// Servers that may acknowledge.
    pub ackers: BTreeSet<ServerAddr>,
}

/// What is known of the place where it is written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ledger {
    /// As last read; it may be older than what this process wrote.
    pub read: Option<Membership>,
    /// As this process wrote it, or found it when it was about to, in its present time as leader.
    pub written: Option<Membership>,
}

impl Ledger {
    /// The newest known.
    #[must_use]
    pub fn newest(&self) -> Option<&Membership> {
        self.written.as_ref().or(self.read.as_ref())
    }

    /// Whether nobody else can have written anything newer.
    #[must_use]
    pub fn certain(&self) -> bool {
        self.written.is_some()
    }

    /// Everybody who is written down, by whichever version.
    pub fn ackers(&self) -> impl Iterator<Item = &ServerAddr> {
        self.both().flat_map(|known| &known.ackers)
    }

    /// The fewest acknowledgements that `source` may wait for.
    #[must_use]
    pub fn acks(&self, source: &ServerAddr) -> Option<u32> {
        self.both().filter(|known| known.source == *source).map(|known| known.acks).min()
    }

    fn both(&self) -> impl Iterator<Item = &Membership> {
        self.read.iter().chain(&self.written)
    }
}
