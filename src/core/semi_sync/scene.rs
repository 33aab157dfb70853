//! The primary and its replicas with an eye on acknowledgements: who could, who does, who is written down.

use std::collections::{BTreeMap, BTreeSet};

use super::ackers::{Choice, Unmet, choose, cover, exclusion};
use crate::core::{
    candidate,
    id::ServerAddr,
    membership::Membership,
    observation::{Observation, Receiver},
    policy::{Policy, SemiSync},
    snapshot::{ServerState, Snapshot},
};

/// How long an acker may be away before another one takes its place, in milliseconds: longer than a
/// restart. When commits would wait, nobody is waited for.
const AWAY_MS: u64 = 30_000;

/// What is decided about acknowledgements is decided on this.
pub(super) struct Scene<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) policy: &'a Policy,
    pub(super) wish: SemiSync,
    pub(super) primary: &'a ServerAddr,
    pub(super) seen: &'a Observation,
}

impl<'a> Scene<'a> {
    /// `None`: the owner does not want it, or the primary does not answer.
    pub(super) fn of(snapshot: &'a Snapshot, policy: &'a Policy) -> Option<Self> {
        let primary = snapshot.primary.as_ref()?;
        let seen = snapshot.servers.get(primary)?.answering()?;
        Some(Self { snapshot, policy, wish: policy.semi_sync?, primary, seen })
    }

    /// What is written down about this primary.
    pub(super) fn recorded(&self) -> Option<&'a Membership> {
        self.snapshot.ledger.newest().filter(|known| known.source == *self.primary)
    }

    /// Direct replicas that answer.
    pub(super) fn answering(&self) -> impl Iterator<Item = (&'a ServerAddr, &'a Observation)> {
        self.replicas().filter_map(|(addr, state)| Some((addr, state.answering()?)))
    }

    fn replicas(&self) -> impl Iterator<Item = (&'a ServerAddr, &'a ServerState)> + use<'a> {
        let primary = self.primary;
        self.snapshot.replicas_of(primary).into_iter()
    }

    /// Whether a replica acknowledges, as it shows itself.
    pub(super) fn acknowledges(&self, seen: &Observation) -> bool {
        seen.semi_sync.replica_active && self.receives(seen)
    }

    fn receives(&self, seen: &Observation) -> bool {
        let mut channels = seen.channels.iter();
        channels.any(|channel| {
            channel.receiver == Receiver::Running && self.snapshot.source_of(channel) == Some(self.primary)
        })
    }

    /// Those of `ackers` who acknowledge: as they show themselves, and by the primary's word where it
    /// names its ackers.
    pub(super) fn attached<'b>(&self, ackers: impl IntoIterator<Item = &'b ServerAddr>) -> usize {
        let named = self.seen.semi_sync.source.as_ref().and_then(|source| source.replicas.as_ref());
        let attached = |addr: &&ServerAddr| {
            let seen = self.snapshot.servers.get(*addr).and_then(|state| state.answering());
            seen.is_some_and(|seen| {
                self.acknowledges(seen) && named.is_none_or(|named| named.contains(&seen.identity.uuid))
            })
        };
        ackers.into_iter().filter(attached).count()
    }

    /// Whether a number of ackers is as many as a commit is to wait for.
    pub(super) fn enough(&self, count: usize) -> bool {
        u32::try_from(count).unwrap_or(u32::MAX) >= self.wish.acks
    }

    /// Who is to acknowledge: whoever does or is written down stays, unless commits would wait.
    pub(super) fn choice(&self) -> Choice {
        let kept: BTreeSet<_> = match self.recorded() {
            Some(known) => known.ackers.clone(),
            None => {
                self.answering().filter(|(_, seen)| self.acknowledges(seen)).map(|(addr, _)| addr.clone()).collect()
            }
        };
        let here = |state: &ServerState| state.answering().is_some_and(|seen| self.receives(seen));
        let soon = |addr: &ServerAddr, state: &ServerState| {
            let away_ms = state.failing_since.map_or(0, |since| self.snapshot.at.since_ms(since));
            kept.contains(addr) && away_ms < AWAY_MS
        };
        let present = self.choose(&kept, |addr, state| here(state) || soon(addr, state));
        let serve = present.ackers.iter().filter(|addr| self.snapshot.servers.get(*addr).is_some_and(here)).count();
        if self.enough(serve) || present.unmet.as_ref().is_some_and(Unmet::hopeless) {
            return present;
        }
        let now = self.choose(&kept, |_, state| here(state));
        let both: BTreeSet<_> = present.ackers.union(&now.ackers).cloned().collect();
        let ackers = if self.covered(&both) { both } else { now.ackers };
        Choice { ackers, unmet: now.unmet }
    }

    fn choose(&self, kept: &BTreeSet<ServerAddr>, who: impl Fn(&ServerAddr, &ServerState) -> bool) -> Choice {
        let may =
            |addr: &ServerAddr, state| self.policy.rests(addr).is_none() && !self.errant(addr) && who(addr, state);
        let may = self.replicas().filter(|(addr, state)| may(addr, state));
        let may: BTreeMap<_, _> = may.filter_map(|(addr, state)| Some((addr, state.last.as_ref()?))).collect();
        choose((self.primary, self.seen), &may, kept, self.policy, self.wish)
    }

    /// Whether any of `ackers` that a commit waits for are in enough zones.
    pub(super) fn covered(&self, ackers: &BTreeSet<ServerAddr>) -> bool {
        let zone = |addr: &ServerAddr| candidate::facts_of(addr, self.snapshot.last(addr), self.policy).zone;
        let zones: Vec<_> = ackers.iter().map(zone).collect();
        cover(zones.iter().map(Option::as_deref), zone(self.primary).as_deref(), self.wish)
    }

    /// Replicas that acknowledge, or would with their next connection, and are not to.
    pub(super) fn strays(&self, wanted: &BTreeSet<ServerAddr>) -> Vec<(&'a ServerAddr, &'a Observation)> {
        let acks = |seen: &Observation| seen.semi_sync.replica_active || seen.semi_sync.replica_enabled == Some(true);
        let stray = |(addr, seen): &(&ServerAddr, &Observation)| !wanted.contains(*addr) && acks(seen);
        self.answering().filter(stray).collect()
    }

    /// Why a stray is one.
    pub(super) fn why_stray(&self, addr: &ServerAddr, seen: &Observation) -> &'static str {
        let errant = self.errant(addr).then_some("it has transactions that the primary lacks");
        exclusion(addr, seen, self.policy).or(errant).unwrap_or("enough others do")
    }

    /// Whether a replica has transactions of its own: it could not be promoted, so what it acknowledges must not
    /// count. The primary's own are left out, for it may be committing them.
    fn errant(&self, addr: &ServerAddr) -> bool {
        let state = self.snapshot.servers.get(addr);
        let own = |state: &ServerState| state.errant.of_source(&self.seen.identity.uuid);
        state.is_some_and(|state| !state.errant.subtract(&own(state)).is_empty())
    }
}
