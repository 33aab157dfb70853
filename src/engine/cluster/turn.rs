//! A recovery begins when it is its cluster's turn, and keeps that until clients can write.

use super::Cluster;
use crate::{
    core::{analysis::Analysis, time::Mono},
    engine::{ports::World, turns::Turn},
};

/// A recovery that takes longer makes room for another, in milliseconds: it waits for servers.
const HELD_MS: u64 = 3000;

/// A cluster's place among those that need a recovery.
#[derive(Debug, Default)]
pub(super) enum Place {
    /// It needs none.
    #[default]
    Aside,
    /// Others are before it.
    Waits,
    /// It is its turn, since then.
    Has(#[expect(dead_code, reason = "dropped when it is over")] Turn, Mono),
}

impl<W: World> Cluster<W> {
    pub(super) fn begin_in_turn(&mut self, now: Mono, analysis: &Analysis) {
        if self.unread(now) {
            return;
        }
        if !matches!(self.place, Place::Has(..)) {
            match self.world.turn(&self.key, self.desired.policy.failover.priority, now) {
                Some(turn) => self.place = Place::Has(turn, now),
                None => {
                    if !matches!(self.place, Place::Waits) {
                        let (what, server) = (analysis.code.name(), &analysis.server);
                        tracing::warn!(cluster = %self.key, "{what} of {server}: other clusters are recovered first");
                    }
                    self.place = Place::Waits;
                    return;
                }
            }
        }
        self.begin(now, analysis);
    }

    pub(super) fn end_turn(&mut self, now: Mono) {
        let begun = self.runner.as_ref().is_some_and(|runner| !runner.record().phase.promoted());
        match self.place {
            Place::Has(_, since) if !begun || now.since_ms(since) >= HELD_MS => self.place = Place::Aside,
            Place::Waits if begun => self.place = Place::Aside,
            Place::Aside | Place::Waits | Place::Has(..) => {}
        }
    }
}
