//! How the task writes down who may acknowledge, before it lets anybody.

use std::sync::Arc;

use futures::FutureExt;

use super::{Cluster, Done};
use crate::{
    core::{membership::Membership, time::Mono},
    engine::ports::{JournalError, World},
};

/// Pause after a write that failed, in milliseconds.
const RETRY_MS: u64 = 1000;

impl<W: World> Cluster<W> {
    /// Writes `to` in place of what is believed to be written; one write at a time.
    pub(super) fn write_members(&mut self, now: Mono, to: Membership) {
        if self.writing_members || now < self.members_not_before {
            return;
        }
        self.writing_members = true;
        let from = self.snapshot.ledger.newest().cloned();
        let world = Arc::clone(&self.world);
        let write = async move {
            let result = world.members(from.as_ref(), &to).await;
            Done::Members(to, result)
        };
        self.side.push(write.boxed());
    }

    /// Whether it is sure who is written down; else it is asked.
    pub(super) fn ackers_are_sure(&mut self, now: Mono) -> bool {
        let ledger = &self.snapshot.ledger;
        let newest = ledger.newest().filter(|_| self.desired.policy.semi_sync.is_some()).cloned();
        let Some(newest) = newest.filter(|_| !ledger.certain() || self.writing_members) else { return true };
        // What is there already costs no write.
        self.write_members(now, newest);
        false
    }

    pub(super) fn members_written(&mut self, to: Membership, result: Result<(), JournalError>) {
        self.writing_members = false;
        match result {
            Ok(()) => self.snapshot.ledger.written = Some(to),
            Err(error) => {
                // What was read counts again, and comes anew when it was old.
                self.snapshot.ledger.written = None;
                self.members_not_before = self.world.now().plus_ms(RETRY_MS);
                tracing::warn!(cluster = %self.key, "the ackers are not written down: {error}");
            }
        }
    }
}
