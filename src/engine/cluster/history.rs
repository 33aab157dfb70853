//! What the task knows of recoveries: as records are read, and as this process has just done or found.

use std::collections::BTreeSet;

use super::Cluster;
use crate::{
    core::{
        id::ServerAddr,
        recovery::{Part, Recovery},
        snapshot::ServerState,
        throttle::Past,
    },
    engine::ports::World,
};

impl<W: World> Cluster<W> {
    pub(super) fn take_history(&mut self) {
        let epoch = self.history.last.as_ref().map(|last| last.epoch);
        let mut read = self.inputs.history.borrow_and_update().clone();
        self.requests.read(std::mem::take(&mut read.requests), self.world.now());
        let (held, under_way) = (self.still_held(&read), self.history.unfinished.take());
        let ended = |past: &&Past| past.phase.finished() && past.phase.promoted();
        let known: BTreeSet<_> = self.history.past.iter().filter(ended).map(|past| past.name.clone()).collect();
        let unseen = read.past.iter().filter(ended).any(|past| !known.contains(&past.name));
        self.history.renew(read);
        if let Some((record, hold)) = held {
            (self.history.unfinished, self.history.hold) = (Some(record), Some(hold));
        }
        // One that began and ended unseen is as good as one that was under way.
        if (under_way.is_some() || unseen) && self.history.unfinished.is_none() {
            self.none_under_way();
        }
        self.note_hold(self.world.now());
        let promoted = self.history.last.as_ref().filter(|last| Some(last.epoch) > epoch && self.runner.is_none());
        self.made_elsewhere(promoted.and_then(|last| last.new_primary.clone()));
    }

    /// Somebody's recovery has ended: who was closed meanwhile may be open by now, which no look shows yet.
    pub(super) fn none_under_way(&mut self) {
        let now = self.world.now();
        self.history.unfinished = None;
        self.settled = now;
        self.snapshot.servers.values_mut().for_each(|state| state.count_closed_from(now));
    }

    /// A recovery that had ended when it was read; watches may be late.
    pub(super) fn remember(&mut self, record: Recovery) {
        let known = self.history.past.iter().any(|past| past.name == record.record && past.phase.finished());
        if known || !record.phase.promoted() || record.part != Part::Primary {
            return;
        }
        self.history.past.retain(|past| past.name != record.record);
        let newest = self.history.last.as_ref().is_none_or(|last| last.epoch < record.epoch);
        // The last is kept when records are read that do not show it.
        let place = if newest { self.history.past.len() } else { 0 };
        self.history.past.insert(place, past(&record));
        if newest && !record.cause.reopens() {
            if record.epoch >= self.desired.epoch {
                self.made_elsewhere(record.new_primary.clone());
            }
            self.history.last = Some(record);
        }
    }

    /// Another process made a primary; servers may not tell (one left behind still points at the old).
    pub(super) fn made_elsewhere(&mut self, primary: Option<ServerAddr>) {
        if let Some(new) = primary {
            self.snapshot.servers.entry(new.clone()).and_modify(ServerState::made_primary);
            self.snapshot.primary = Some(new);
        }
    }
}

/// How a recovery that has just ended is remembered.
pub(super) fn past(record: &Recovery) -> Past {
    Past {
        name: record.record.clone(),
        phase: record.phase,
        age_ms: 0,
        acknowledged: record.acknowledged,
        made: record.new_primary.clone(),
        old: Some(record.old_primary.clone()),
        reopened: record.cause.reopens(),
    }
}
