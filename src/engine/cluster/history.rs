//! What the task knows of recoveries: as records are read, and as this process has just done or found.

use std::{collections::BTreeSet, sync::Arc};

use futures::FutureExt;

use super::{Cluster, Done};
use crate::{
    core::{
        id::{Epoch, ServerAddr},
        recovery::{Recovery, record_name},
        snapshot::ServerState,
        throttle::Past,
        time::Mono,
    },
    engine::{
        calm::GAP_MS,
        facts::History,
        ports::{JournalError, World},
    },
};

impl<W: World> Cluster<W> {
    pub(super) fn take_history(&mut self, mut read: History) {
        let epoch = self.history.last.as_ref().map(|last| last.epoch);
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

    /// Whether the newest reign was begun by a record that no watch has shown, which may hold the next failover back: then
    /// all are read, once.
    pub(super) fn unread(&mut self, now: Mono) -> bool {
        let epoch = self.desired.epoch;
        let name = record_name(&self.key.name, epoch);
        let newest = self.history.last.as_ref().is_some_and(|last| last.epoch >= epoch);
        let known = newest || self.asked >= epoch || self.history.past.iter().any(|past| past.name == name);
        if !known {
            self.read_again(now, epoch);
        }
        !known
    }

    pub(super) fn read_again(&mut self, now: Mono, epoch: Epoch) {
        self.claiming = Some(now);
        let world = Arc::clone(&self.world);
        let read = async move { Done::Read(epoch, world.history().await.map(Box::new)) };
        self.side.push(read.boxed());
    }

    pub(super) fn has_read(&mut self, now: Mono, epoch: Epoch, read: Result<Box<History>, JournalError>) {
        self.claiming = None;
        match read {
            Ok(read) => {
                self.asked = self.asked.max(epoch);
                self.take_history(*read);
                // A watch that is late does not make it forget the last.
                let last = self.history.last.as_ref().map(|last| last.record.clone());
                self.history.past.sort_by_key(|past| Some(&past.name) == last.as_ref());
            }
            Err(error) => {
                self.not_before = now.plus_ms(GAP_MS);
                tracing::warn!(cluster = %self.key, "the records of failovers cannot be read: {error}");
            }
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
