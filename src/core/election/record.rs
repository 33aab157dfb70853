//! What a Lease says and what is written into it, as far as the election cares.
//!
//! Every field may be missing or nonsense: people edit Leases. Nonsense never makes a Lease free earlier.

use super::timing::{LEASE_MS_MAX, Timing};

/// One state of one Lease object.
///
/// The uid belongs to it: an update of a Lease that was deleted in the meantime would otherwise create
/// it again (the Lease resource allows creation by update), whatever resource version it names.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Version {
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.resourceVersion`, opaque.
    pub resource: String,
}

/// A Lease as read.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Record {
    /// Which state this is; the precondition of every write over it.
    pub version: Version,
    /// `holderIdentity`; empty and missing are the same.
    pub holder: Option<String>,
    /// `leaseDurationSeconds`.
    pub duration_s: Option<i32>,
    /// `leaseTransitions`.
    pub transitions: Option<i32>,
}

impl Record {
    /// Whether `identity` holds the Lease.
    #[must_use]
    pub fn is_held_by(&self, identity: &str) -> bool {
        self.holder() == Some(identity)
    }

    /// Who holds the Lease.
    #[must_use]
    pub fn holder(&self) -> Option<&str> {
        self.holder.as_deref().filter(|holder| !holder.is_empty())
    }

    /// Given up by its holder: no holder and a duration of one second, as an orderly stop writes it.
    /// Any other Lease without a holder was damaged, and its last holder may still believe in it.
    #[must_use]
    pub fn is_released(&self) -> bool {
        self.holder().is_none() && self.duration_s == Some(1)
    }

    /// How long the Lease must have been seen unchanged before it is free, in milliseconds: its own
    /// duration where that is longer than ours (a holder with slower settings), never shorter than ours.
    pub(super) fn wait_ms(&self, timing: Timing) -> u64 {
        let theirs_ms = self.duration_s.and_then(|s| u64::try_from(s).ok()).unwrap_or(0).saturating_mul(1_000);
        theirs_ms.min(LEASE_MS_MAX).max(timing.lease_ms())
    }

    /// Changes of holder so far; 0 where the Lease says nothing sensible.
    pub(super) fn transitions(&self) -> u32 {
        self.transitions.and_then(|count| u32::try_from(count).ok()).unwrap_or(0)
    }
}

/// What to write into the Lease.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Claim {
    /// `holderIdentity`; empty when the Lease is given up.
    pub holder: String,
    /// `leaseDurationSeconds`.
    pub duration_s: u32,
    /// `leaseTransitions`: one more whenever the holder becomes another.
    pub transitions: u32,
    /// The holder becomes another: `acquireTime` is now. Otherwise it is kept.
    pub acquired: bool,
}

impl Claim {
    /// `identity` takes or renews the Lease that reads `last`.
    pub(super) fn hold(identity: &str, timing: Timing, last: &Record) -> Self {
        let acquired = !last.is_held_by(identity);
        let transitions = last.transitions().saturating_add(u32::from(acquired));
        Self { holder: identity.to_owned(), duration_s: timing.lease_s(), transitions, acquired }
    }

    /// A new Lease that nobody holds and nobody released: free a lease duration after it is first seen.
    pub(super) fn unheld(timing: Timing) -> Self {
        // One second without a holder would read as released.
        Self { holder: String::new(), duration_s: timing.lease_s().max(2), transitions: 0, acquired: false }
    }

    /// The holder gives up the Lease that reads `last`.
    pub(super) fn release(last: &Record) -> Self {
        Self { holder: String::new(), duration_s: 1, transitions: last.transitions(), acquired: false }
    }

    /// The Lease after this claim was written as `version`.
    pub(super) fn into_record(self, version: Version) -> Record {
        let number = |value| i32::try_from(value).ok();
        let (duration_s, transitions) = (number(self.duration_s), number(self.transitions));
        Record { version, holder: Some(self.holder), duration_s, transitions }
    }
}
