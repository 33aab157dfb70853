//! Servers that others can replicate from, best first for each replica.

use std::collections::BTreeSet;

use crate::core::{
    candidate,
    gtid::GtidSet,
    id::ServerAddr,
    observation::{GtidMode, Observation, Receiver},
    policy::{Policy, PromotionRule},
    snapshot::Snapshot,
    topology::Topology,
};

/// What the choice of sources depends on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scene<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) topology: &'a Topology,
    pub(super) policy: &'a Policy,
    /// The primary, which answers.
    pub(super) primary: (&'a ServerAddr, &'a Observation),
    /// The intermediate primary that was lost.
    pub(super) lost: &'a ServerAddr,
    /// Its replicas, which are nobody's source until they follow somebody else.
    pub(super) orphans: &'a BTreeSet<ServerAddr>,
}

impl<'a> Scene<'a> {
    pub(super) fn answering(&self, addr: &ServerAddr) -> Option<&'a Observation> {
        self.snapshot.servers.get(addr)?.answering()
    }

    /// Servers that replicate from where the lost one did.
    pub(super) fn siblings(&self) -> BTreeSet<&'a ServerAddr> {
        let members = &self.topology.members;
        let sources = members.get(self.lost).map(|member| &member.sources);
        let replicas = sources.into_iter().flatten().flat_map(|source| self.topology.replicas(source));
        replicas.filter(|addr| *addr != self.lost && !self.orphans.contains(*addr)).collect()
    }

    /// The sources above the lost one, nearest first, the primary last.
    pub(super) fn above(&self) -> Vec<&'a ServerAddr> {
        let mut found = Vec::new();
        let mut at = self.lost;
        while let Some(next) = self.source_of(at).filter(|next| !found.contains(next) && *next != self.primary.0) {
            found.push(next);
            at = next;
        }
        found.push(self.primary.0);
        found
    }

    fn source_of(&self, addr: &ServerAddr) -> Option<&'a ServerAddr> {
        let (addr, member) = self.topology.members.get_key_value(addr)?;
        member.sources.iter().find(|source| *source != addr)
    }

    /// Why nobody should replicate from a server; `None`: it is a source to rely on.
    pub(super) fn unfit(&self, addr: &ServerAddr) -> Option<String> {
        let state = self.snapshot.servers.get(addr)?;
        let Some(seen) = state.answering() else { return Some("it does not answer".to_owned()) };
        let reason = match () {
            () if let Some(reason) = self.policy.rests(addr) => reason,
            () if seen.refuses_new.is_some() => "it takes no new connections",
            () if !seen.settings.log_bin => "it writes no binary log",
            () if seen.settings.gtid_mode != GtidMode::On => "it does not use GTIDs",
            () if addr == self.primary.0 => return None,
            () if !self.errant(addr).is_empty() => "it has transactions that the primary lacks",
            () if !seen.settings.log_replica_updates => "it does not log replicated transactions",
            () if seen.channels.len() != 1 => "it does not have exactly one source",
            () if seen.channels.iter().any(|channel| channel.filtered) => "its replication is filtered",
            () if seen.channels.iter().any(|channel| channel.delay_s > 0) => "it is delayed on purpose",
            () if !replicates(seen) => "it does not replicate",
            () if !self.fed(addr) => "it does not get what the primary writes",
            () => return None,
        };
        Some(reason.to_owned())
    }

    /// Transactions that the primary lacks; its own are left out, for it may be committing them.
    pub(super) fn errant(&self, addr: &ServerAddr) -> GtidSet {
        let errant = self.snapshot.servers.get(addr).map(|state| state.errant.clone()).unwrap_or_default();
        errant.subtract(&errant.of_source(&self.primary.1.identity.uuid))
    }

    /// Whether a chain of replicating servers leads from the primary to this one, without those that are
    /// to be moved.
    fn fed(&self, addr: &ServerAddr) -> bool {
        let mut passed = BTreeSet::new();
        let mut at = addr;
        while at != self.primary.0 {
            let seen = self.answering(at).filter(|seen| replicates(seen));
            let free = at != self.lost && !self.orphans.contains(at) && passed.insert(at);
            match (seen, free, self.source_of(at)) {
                (Some(_), true, Some(source)) => at = source,
                _ => return false,
            }
        }
        true
    }

    /// Whether two servers are of one zone and one region.
    pub(super) fn near(&self, a: &ServerAddr, b: &ServerAddr) -> bool {
        let place = |addr: &ServerAddr| {
            let facts = candidate::facts_of(addr, self.snapshot.last(addr), self.policy);
            (facts.zone, facts.region)
        };
        place(a) == place(b)
    }

    /// Sort key of a source, best first: region of the replica, promotion rule, version.
    pub(super) fn rank(&self, replica: &ServerAddr, source: &ServerAddr) -> (bool, PromotionRule, (u16, u16, u16)) {
        let region = |addr: &ServerAddr| candidate::facts_of(addr, self.snapshot.last(addr), self.policy).region;
        let seen = self.snapshot.last(source);
        let rule = seen.map_or(PromotionRule::MustNot, |seen| candidate::rule_of(source, seen, self.policy));
        let version = seen.map(|seen| seen.identity.version.number).unwrap_or_default();
        (region(replica) != region(source), rule, version)
    }
}

/// Whether both threads of every channel run.
fn replicates(seen: &Observation) -> bool {
    seen.channels.iter().all(|channel| channel.receiver == Receiver::Running && channel.applier_running)
}
