//! What is known of a cluster besides what its servers show: the owner's wishes, the records, the reign.
//! The task is fed with it, decisions and what is shown follow from it.

use crate::core::{
    id::{Epoch, ServerAddr},
    membership::Membership,
    policy::Policy,
    recovery::{Hold, Recovery},
    relocation::hold::Earlier,
    request::Request,
    throttle::Past,
};

/// What is wanted and what the resource says, as last read.
#[derive(Debug, Clone)]
pub struct Desired {
    /// The owner's wishes.
    pub policy: Policy,
    /// `status.primary`.
    pub primary: Option<ServerAddr>,
    /// `status.epoch`.
    pub epoch: Epoch,
    /// `status.semiSync`, where it is kept.
    pub semi_sync: Option<Membership>,
}

/// Recoveries of this cluster, as last read.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// All that are remembered.
    pub past: Vec<Past>,
    /// Name of one that is not finished.
    pub unfinished: Option<String>,
    /// Why the leader is not to go on with that one.
    pub hold: Option<Hold>,
    /// The newest that put one server in another's place.
    pub last: Option<Recovery>,
    /// What people ask for and nobody has begun, oldest first.
    pub requests: Vec<Request>,
    /// Recoveries of intermediate primaries.
    pub relocations: Vec<Earlier>,
    /// Name of one of those that is not finished.
    pub relocating: Option<String>,
}

impl History {
    /// The records as read; what this process has just done and the read does not show yet is kept.
    pub fn renew(&mut self, read: Self) {
        let newer = |own: &Recovery| read.last.as_ref().is_none_or(|last| last.epoch < own.epoch);
        let own = self.last.take().filter(newer);
        let unseen = |past: &Past| read.past.iter().all(|known| known.name != past.name);
        // The one that this process added last.
        let kept = self.past.pop().filter(|past| (own.is_some() || past.reopened) && unseen(past));
        let last = own.or_else(|| read.last.clone());
        *self = Self { last, ..read };
        self.past.extend(kept);
    }
}

/// The primary by the newest word. A record that promoted a server is newer than a status that still
/// names the one it replaced: who wrote the record may have died before the status.
#[must_use]
pub fn recorded_primary(desired: &Desired, last: Option<&Recovery>) -> Option<ServerAddr> {
    let replaced = |record: &&Recovery| {
        record.epoch >= desired.epoch && desired.primary.as_ref().is_none_or(|primary| *primary == record.old_primary)
    };
    let promoted = last.filter(replaced).and_then(|record| record.new_primary.clone());
    promoted.or_else(|| desired.primary.clone())
}

/// What the decision depends on besides the snapshot.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The owner's wishes.
    pub desired: &'a Desired,
    /// The records.
    pub history: &'a History,
    /// The newest reign.
    pub epoch: Epoch,
    /// What a person asks for, and for how many milliseconds it has been open.
    pub request: Option<(&'a Request, u64)>,
    /// The recovery under way.
    pub recovering: Option<&'a Recovery>,
    /// Recoveries of intermediate primaries, ended or not.
    pub relocations: &'a [Earlier],
}
