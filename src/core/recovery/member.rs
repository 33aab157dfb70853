//! A replica of the lost primary, as a recovery knows it.

use std::collections::BTreeSet;

use crate::core::{
    id::ServerAddr,
    observation::{Channel, Observation, Receiver},
    snapshot::{Snapshot, forgot::Forgot},
    step::Action,
    time::Mono,
};

/// How long a look is waited for that tells whether a replica follows the new primary, in milliseconds.
const DOUBT_MS: u64 = 1500;

/// A replica of the lost primary during the recovery.
#[derive(Debug, Clone, Default)]
pub(super) struct Member {
    /// The newest look, from the snapshot or from an action.
    pub(super) seen: Option<Observation>,
    /// Its receivers were stopped by this recovery; `seen` was read after that.
    pub(super) stopped: bool,
    /// Why the newest action failed.
    pub(super) error: Option<String>,
    /// It replicates from the new primary.
    pub(super) follows: bool,
    /// `follows` is believed by a look that began before this moment, since when nobody else executes the recovery, and
    /// until the other one.
    pub(super) doubt: Option<(Mono, Mono)>,
    /// Servers that follow it, outside the recovery, and acknowledge.
    pub(super) below: BTreeSet<ServerAddr>,
    /// Actions that failed in a row.
    pub(super) failures: u32,
    /// Its receivers may have been stopped by this recovery and were not started since.
    pub(super) held: bool,
    /// It once had transactions that it has no more, or may have.
    pub(super) forgot: Option<Forgot>,
    /// This recovery may have let clients write to it.
    pub(super) opened: bool,
    /// This recovery refused its clients.
    pub(super) fenced: bool,
    /// The newest attempt to reach it found no process there.
    pub(super) gone: bool,
}

impl Member {
    pub(super) fn known(snapshot: &Snapshot, addr: &ServerAddr, new_primary: Option<&ServerAddr>) -> Self {
        let seen = snapshot.last(addr).cloned();
        let follows_new = |seen: &Observation| {
            // One whose receiver is stopped was stopped by whoever executed this before.
            let mut running = seen.channels.iter().filter(|channel| channel.receiver != Receiver::Stopped);
            new_primary.is_some() && running.any(|channel| snapshot.source_of(channel) == new_primary)
        };
        let forgot = snapshot.servers.get(addr).and_then(|state| state.forgot.clone());
        let below = snapshot.replicas_of(addr).into_iter();
        let below = below.filter(|(_, state)| state.answering().is_some_and(|seen| seen.semi_sync.acknowledges()));
        let below = below.map(|(addr, _)| addr.clone()).collect();
        Self { follows: seen.as_ref().is_some_and(follows_new), below, seen, forgot, ..Self::default() }
    }

    /// Whoever executed this before `since` may have stopped a receiver after an older look. A look that is made now
    /// tells; stopping a receiver that runs would keep commits waiting.
    pub(super) fn doubt(&mut self, since: Mono, now: Mono) {
        let old = self.seen.as_ref().is_some_and(|seen| seen.began() < since);
        self.doubt = (self.follows && old).then(|| (since, now.plus_ms(DOUBT_MS)));
    }

    /// Whether it is to be seen first whether it follows the new primary; after a while it is taken not to.
    pub(super) fn in_doubt(&mut self, now: Mono) -> bool {
        let Some((_, until)) = self.doubt.filter(|_| self.follows) else { return false };
        if now >= until {
            (self.doubt, self.follows) = (None, false);
        }
        now < until
    }

    /// A look that was made meanwhile.
    pub(super) fn settle(&mut self, seen: &Observation, winner: Option<&ServerAddr>) {
        if self.doubt.is_some_and(|(since, _)| self.follows && seen.began() >= since) {
            let running =
                |channel: &Channel| channel.receiver != Receiver::Stopped && channel.source.as_ref() == winner;
            (self.doubt, self.follows) = (None, seen.channels.iter().any(running));
            self.stopped = receivers_stopped(seen);
            self.seen = Some(seen.clone());
        }
    }

    /// Whether clients can write to it, as last seen, and by this recovery's doing.
    pub(super) fn open(&self) -> bool {
        self.opened && self.seen.as_ref().is_some_and(|seen| seen.settings.writable())
    }

    /// An action on it succeeded and showed this.
    pub(super) fn done(&mut self, action: &Action, seen: &Observation, winner: Option<&ServerAddr>) {
        match action {
            Action::StopReceiver => {
                self.stopped = receivers_stopped(seen);
                self.follows = false;
                // What an earlier leader may still say to it comes too late: its deadline has passed.
                self.opened &= seen.settings.writable();
                if !self.stopped {
                    self.error = Some("its receivers are started again by somebody else".to_owned());
                }
            }
            Action::StartReceiver => (self.stopped, self.held) = (false, false),
            Action::Repoint { source, .. } => {
                self.follows = Some(source) == winner;
                self.held = false;
            }
            Action::Fence => self.fenced = true,
            Action::SetReadOnly => self.fenced = false,
            _ => {}
        }
    }
}

pub(super) fn receivers_stopped(seen: &Observation) -> bool {
    seen.channels.iter().all(|channel| channel.receiver == Receiver::Stopped)
}
