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
    pub fn renew(&mut self, mut read: Self) {
        let newer = |own: &Recovery| read.last.as_ref().is_none_or(|last| last.epoch < own.epoch);
        let own = self.last.take().filter(newer);
        // A read that is late shows it as not begun, or as not ended.
        let late = |past: &Past| {
            let known = read.past.iter().find(|known| known.name == past.name);
            known.is_none_or(|known| past.phase.finished() && !known.phase.finished())
        };
        // The one that this process added last.
        let kept = self.past.pop().filter(|past| (own.is_some() || past.reopened) && late(past));
        if let Some(kept) = &kept {
            read.past.retain(|known| known.name != kept.name);
            if kept.phase.finished() && read.unfinished.as_ref() == Some(&kept.name) {
                (read.unfinished, read.hold) = (None, None);
            }
        }
        let last = own.or_else(|| read.last.take());
        *self = Self { last, ..read };
        self.past.extend(kept);
    }

    /// Whether the newest failover that a server had a part in put another one in its place.
    #[must_use]
    pub fn replaced(&self, server: &ServerAddr) -> bool {
        let about = |past: &&Past| {
            let named = [&past.made, &past.old].into_iter().flatten().any(|addr| addr == server);
            named && past.phase.promoted() && !past.reopened
        };
        let newest = self.past.iter().filter(about).min_by_key(|past| past.age_ms);
        let by_last = self.last.as_ref().is_some_and(|last| last.phase.promoted() && last.old_primary == *server);
        by_last || newest.is_some_and(|past| past.made.as_ref() != Some(server))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        core::recovery::Phase,
        testing::{record::recovery, snapshot::addr},
    };

    fn past(phase: Phase) -> Past {
        let name = "shop-7".to_owned();
        Past { name, phase, age_ms: 0, acknowledged: false, made: Some(addr("r1")), old: None, reopened: false }
    }

    #[test]
    fn a_server_stays_replaced_until_a_failover_makes_it_the_primary_again() {
        let made = |old: &str, new: &str, age_ms| Past {
            old: Some(addr(old)),
            made: Some(addr(new)),
            age_ms,
            ..past(Phase::Succeeded)
        };
        let mut history = History { past: vec![made("p", "r1", 900), made("r1", "r2", 500)], ..History::default() };
        let replaced = |history: &History| ["p", "r1", "r2"].map(|name| history.replaced(&addr(name)));
        assert_eq!(replaced(&history), [true, true, false]);
        history.past.push(made("r2", "p", 100));
        assert_eq!(replaced(&history), [false, true, true]);
        history.past.push(Past { phase: Phase::Refused, ..made("p", "r1", 10) });
        assert_eq!(replaced(&history), [false, true, true]);
    }

    /// A watch that is late must not let the next failover through within the block period, nor have the one that has
    /// ended carried on.
    #[test]
    fn a_late_read_does_not_undo_what_this_process_has_done() {
        let done = recovery(7, "a", &addr("p"));
        let own = || History { past: vec![past(Phase::Succeeded)], last: Some(done.clone()), ..History::default() };
        let begun =
            History { past: vec![past(Phase::Promoting)], unfinished: Some("shop-7".to_owned()), ..History::default() };
        for late in [History::default(), begun] {
            let mut history = own();
            history.renew(late);
            assert_eq!(history.past, [past(Phase::Succeeded)]);
            assert_eq!((history.unfinished, history.last.as_ref()), (None, Some(&done)));
        }
        // One that was left to a Job is under way.
        let mut history = History { past: vec![past(Phase::Writable)], ..own() };
        let left = History { past: vec![past(Phase::Writable)], unfinished: Some("shop-7".to_owned()), ..own() };
        history.renew(left);
        assert_eq!(history.unfinished.as_deref(), Some("shop-7"));
        let mut history = own();
        let read = Past { age_ms: 900, acknowledged: true, ..past(Phase::Succeeded) };
        history.renew(History { past: vec![read.clone()], last: Some(done.clone()), ..History::default() });
        assert_eq!(history.past, [read], "it is as it was read once that shows it");
    }
}
