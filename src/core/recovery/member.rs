//! A replica of the lost primary, as a recovery knows it.

use crate::core::{
    id::ServerAddr,
    observation::{Observation, Receiver},
    snapshot::{Snapshot, forgot::Forgot},
    step::Action,
};

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
        Self { follows: seen.as_ref().is_some_and(follows_new), seen, forgot, ..Self::default() }
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
