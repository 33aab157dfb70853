//! Who acknowledges for the new primary, and for how many it waits: as the owner wants it, or as it was at
//! the old one.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    machine::{Effect, Gate, Machine},
    member::Member,
    promoting::FAILURES_MAX,
};
use crate::core::{
    id::ServerAddr,
    observation::Observation,
    policy::{DataLoss, SemiSync},
    semi_sync::ackers,
    snapshot::Snapshot,
    step::Action,
};

impl Machine {
    /// Counts servers that this process was making replicas of the lost primary in the moment in which the recovery
    /// begins: no look shows yet whether they acknowledge for it.
    pub fn count_joining<'a>(&mut self, joining: impl IntoIterator<Item = &'a ServerAddr>, snapshot: &Snapshot) {
        for addr in joining.into_iter().filter(|addr| **addr != self.record.old_primary) {
            if self.durability.wait_count > 0 && self.durability.ackers.insert(addr.clone()) {
                self.record.ackers.push(addr.clone());
            }
            let known = || Member::known(snapshot, addr, self.record.new_primary.as_ref());
            self.members.entry(addr.clone()).or_insert_with(known);
        }
    }

    /// Repoints the replicas whose acknowledgements the new primary will need, as soon as they have
    /// applied what they received.
    pub(super) fn attach_ackers(&mut self, gate: Gate, effects: &mut Vec<Effect>) {
        for addr in self.first_ackers() {
            self.move_replica(&addr, gate, effects);
        }
    }

    /// Whether a replica acknowledges for the new primary; `None`: as it does now.
    pub(super) fn acknowledges(&self, addr: &ServerAddr) -> Option<bool> {
        let acks = self.first_ackers().contains(addr);
        if self.policy.semi_sync.is_some() { Some(acks) } else { acks.then_some(true) }
    }

    fn first_ackers(&self) -> BTreeSet<ServerAddr> {
        match self.wish() {
            Some(wish) => self.wanted_ackers(wish),
            None if self.record.wait_count == 0 => BTreeSet::new(),
            None => {
                let winner = self.record.new_primary.as_ref();
                let may = |addr: &&ServerAddr| Some(*addr) != winner && !self.policy.rebuilding.contains(*addr);
                self.durability.ackers.iter().filter(may).cloned().collect()
            }
        }
    }

    /// The owner's choice among those that can follow the new primary. Whoever acknowledged before stays.
    fn wanted_ackers(&self, wish: SemiSync) -> BTreeSet<ServerAddr> {
        let (Some(winner), Some(seen)) = (&self.record.new_primary, self.winner_seen()) else {
            return BTreeSet::new();
        };
        let may = |(addr, member): &(&ServerAddr, &Member)| {
            *addr != winner && self.policy.rests(addr).is_none() && self.can_follow(addr, member)
        };
        let may: BTreeMap<_, _> =
            self.members.iter().filter(may).filter_map(|(addr, member)| Some((addr, member.seen.as_ref()?))).collect();
        ackers::choose((winner, seen), &may, &self.durability.ackers, &self.policy, wish).ackers
    }

    fn can_follow(&self, addr: &ServerAddr, member: &Member) -> bool {
        let plugin = member.seen.as_ref().is_some_and(|seen| seen.semi_sync.replica_enabled.is_some());
        let moves = plugin && member.stopped && member.failures < FAILURES_MAX && self.stuck(member).is_none();
        (member.follows || moves) && self.lost_reason(addr).is_none()
    }

    /// What the owner wants of the new primary, as far as that server can.
    fn wish(&self) -> Option<SemiSync> {
        let wish = self.policy.semi_sync?;
        let counts = self.winner_seen().is_none_or(|seen| seen.identity.version.has_semi_sync_count());
        let acks = if counts { wish.acks } else { 1 };
        Some(SemiSync { acks, zones: wish.zones.min(acks.saturating_add(1)) })
    }

    fn winner_seen(&self) -> Option<&Observation> {
        self.members.get(self.record.new_primary.as_ref()?)?.seen.as_ref()
    }

    /// Acknowledgements that a commit on the new primary waits for.
    fn acks(&self) -> u32 {
        self.wish().map_or(self.record.wait_count, |wish| wish.acks)
    }

    /// Switches on what the new primary waits for.
    pub(super) fn source_side_on(&self) -> Action {
        match self.wish() {
            Some(wish) => Action::LosslessSemiSync { acks: wish.acks, on: true },
            None => Action::SemiSyncSource { on: true, wait_count: self.record.wait_count },
        }
    }

    /// Whether commits on the new primary wait for ackers, as the owner wants it or as they did on the old
    /// one. When too few servers are left for that, only an owner who accepts loss gets a primary that does
    /// not wait; one that did not wait before does not begin to then.
    pub(super) fn keeps_semi_sync(&self) -> bool {
        let plugin = self.winner_seen().is_some_and(|seen| seen.semi_sync.source.is_some());
        self.acks() > 0 && (plugin && self.has_ackers() || self.record.wait_count > 0 && !self.accepts_loss())
    }

    pub(super) fn accepts_loss(&self) -> bool {
        self.policy.failover.data_loss == Some(DataLoss::Accept)
    }

    /// Whether enough servers can acknowledge for the new primary, those that were seen below it before included.
    pub(super) fn has_ackers(&self) -> bool {
        let can = |addr: &&ServerAddr| {
            let member = self.members.get(*addr);
            member.is_some_and(|member| (member.stopped || member.follows) && self.stuck(member).is_none())
                && self.lost_reason(addr).is_none()
        };
        let winner = self.record.new_primary.as_ref().and_then(|winner| self.members.get(winner));
        let below = winner.filter(|_| self.policy.semi_sync.is_none()).into_iter().flat_map(|winner| &winner.below);
        let below = below.filter(|addr| !self.members.contains_key(*addr));
        let ackers = self.first_ackers().iter().filter(can).count().saturating_add(below.count());
        u32::try_from(ackers).unwrap_or(u32::MAX) >= self.acks()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        core::{id::Epoch, observation::FailureKind, recovery::Cause, time::Mono},
        testing::snapshot::{Cluster, addr, policy},
    };

    /// `r3` is being moved to the primary, and no look shows it there.
    #[test]
    fn who_is_just_being_made_a_replica_could_acknowledge_too() {
        let mut cluster = Cluster::primary_and_replicas(2);
        cluster.semi_sync(1);
        cluster.add("r3");
        cluster.look();
        cluster.fail("p", FailureKind::Silent);
        let snapshot = cluster.look();
        let cause = Cause { analysis: "Forced".to_owned(), server: addr("p"), reason: String::new() };
        let mut machine = Machine::new(&snapshot, &policy(), cause, Epoch(7), "a", Mono(0));
        assert_eq!(machine.durability.fence_needs(), 2);
        machine.count_joining([&addr("r3"), &addr("p")], &snapshot);
        assert_eq!((machine.durability.fence_needs(), machine.members.len()), (3, 3));
        assert_eq!(machine.record().durability(), machine.durability, "whoever takes over counts it, too");
    }
}
