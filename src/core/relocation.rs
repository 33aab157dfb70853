//! What becomes of the replicas of an intermediate primary that is lost: each gets another source.
//!
//! In this order: a sibling of the lost one in the replica's own zone and region; the most advanced of the
//! replicas there, which is moved first and followed by the others (by then it is such a sibling); a sibling
//! elsewhere; the nearest source above the lost one, in the end the primary. Worked out anew from what the
//! servers show at every pass, so that anybody can go on with it at any point. The primary stays, and its
//! reign with it.

pub mod course;
mod follow;
pub mod hold;
mod steps;
mod targets;

use std::collections::{BTreeMap, BTreeSet};

use self::targets::Scene;
pub use self::{
    follow::{Obstacle, obstacle},
    steps::{only_channel, toward},
};
use super::{
    analysis::{Act, Analysis, Code},
    id::ServerAddr,
    observation::Observation,
    policy::Policy,
    recovery::{CandidateRecord, Verdict},
    snapshot::{ServerState, Snapshot},
    step::Action,
    topology::Topology,
};

/// Name of the record of a cluster's recovery number `number` of an intermediate primary: the same for
/// everybody, so it exists at most once.
#[must_use]
pub fn record_name(cluster: &str, number: u64) -> String {
    format!("{cluster}-relocation-{number}")
}

/// How long replicas must have failed to connect to a server that answers before they are moved away from
/// it, in milliseconds: after a restart of it they may be about to try again.
const PATIENCE_MS: u64 = 30_000;

/// Whether an analysis says that the replicas of a server are to be moved away from it.
#[must_use]
pub fn called_for(snapshot: &Snapshot, analysis: &Analysis) -> bool {
    let lost = matches!(
        analysis.code,
        Code::DeadIntermediatePrimary
            | Code::DeadIntermediatePrimaryAndSomeReplicas
            | Code::DeadIntermediatePrimaryWithSingleReplicaFailingToConnect
            | Code::AllIntermediatePrimaryReplicasFailingToConnectOrDead
            | Code::DeadCoPrimary
            | Code::DeadCoPrimaryAndSomeReplicas
    );
    let sure = analysis.code != Code::AllIntermediatePrimaryReplicasFailingToConnectOrDead
        || unheard(snapshot, &analysis.server);
    lost && analysis.act == Act::Repair && analysis.actionable() && sure
}

/// Whether no replica of a server that answers has heard it for a while.
fn unheard(snapshot: &Snapshot, addr: &ServerAddr) -> bool {
    let heard = |state: &ServerState| state.hearing.values().filter_map(|hearing| hearing.heard_at).max();
    let long = |state: &ServerState| {
        let since = heard(state).unwrap_or_default().max(snapshot.watching_since);
        snapshot.at.since_ms(since) >= PATIENCE_MS
    };
    snapshot.replicas_of(addr).iter().all(|(_, state)| long(state))
}

/// What becomes of one replica of the lost server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It is to follow this server.
    Moves(ServerAddr),
    /// Something else is to happen first.
    Waits(String),
    /// It does not answer, or is to be left alone.
    Absent(String),
    /// It cannot follow anybody.
    Lost(String),
}

impl Fate {
    /// Whether it is going to be moved.
    #[must_use]
    pub fn movable(&self) -> bool {
        matches!(self, Self::Moves(_) | Self::Waits(_))
    }

    /// Why it is not moved now.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Moves(_) => None,
            Self::Waits(reason) | Self::Absent(reason) | Self::Lost(reason) => Some(reason),
        }
    }
}

/// What has been tried and must not be again.
#[derive(Debug, Clone, Default)]
pub struct Tried {
    /// Moves (replica, source) that were refused or came to nothing.
    pub in_vain: BTreeSet<(ServerAddr, ServerAddr)>,
    /// Replicas that were moved, and are siblings of the lost server since.
    pub moved: BTreeSet<ServerAddr>,
    /// Replicas that were moved and cannot replicate from where they are.
    pub astray: BTreeSet<ServerAddr>,
    /// Nobody waits for another replica to be moved first.
    pub direct: bool,
}

/// What is to be done.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// Every replica of the lost server.
    pub orphans: BTreeMap<ServerAddr, Fate>,
    /// Due actions, at most one for each server, with the reason.
    pub due: Vec<(ServerAddr, Action, &'static str)>,
    /// Every server that was thought of as a source, with the decision about it.
    pub candidates: Vec<CandidateRecord>,
}

impl Plan {
    /// Replicas that can be moved.
    #[must_use]
    pub fn movable(&self) -> BTreeSet<ServerAddr> {
        self.orphans.iter().filter(|(_, fate)| fate.movable()).map(|(addr, _)| addr.clone()).collect()
    }
}

/// Plans for the replicas of `lost`; empty while the primary does not answer: then there are more urgent
/// questions than theirs.
#[must_use]
pub fn plan(snapshot: &Snapshot, topology: &Topology, policy: &Policy, lost: &ServerAddr, tried: &Tried) -> Plan {
    let primary = snapshot.primary.as_ref().and_then(|addr| Some((addr, snapshot.servers.get(addr)?.answering()?)));
    let Some(primary) = primary.filter(|(addr, _)| *addr != lost) else { return Plan::default() };
    // A co-primary's replica may be the primary itself.
    let orphans = topology.replicas(lost).chain(&tried.astray).filter(|addr| *addr != primary.0);
    let orphans: BTreeSet<_> = orphans.cloned().collect();
    let scene = Scene { snapshot, topology, policy, primary, lost, orphans: &orphans };
    Planner { scene, tried }.plan()
}

struct Planner<'a> {
    scene: Scene<'a>,
    tried: &'a Tried,
}

/// Sources that can be relied on, in the two places they can be in.
struct Sources<'a> {
    siblings: Vec<&'a ServerAddr>,
    above: &'a ServerAddr,
}

impl<'a> Planner<'a> {
    fn plan(&self) -> Plan {
        let scene = &self.scene;
        let moved = self.tried.moved.iter().filter(|addr| !scene.orphans.contains(*addr) && *addr != scene.lost);
        let siblings: BTreeSet<&ServerAddr> = scene.siblings().into_iter().chain(moved).collect();
        let above = scene.above();
        let considered = siblings.iter().chain(&above).copied().collect::<BTreeSet<_>>();
        let unfit: BTreeMap<_, _> = considered.iter().filter_map(|addr| Some((*addr, scene.unfit(addr)?))).collect();
        let fit = |addr: &&ServerAddr| !unfit.contains_key(*addr);
        let above = above.into_iter().find(fit).unwrap_or(scene.primary.0);
        let sources =
            Sources { siblings: siblings.into_iter().filter(fit).filter(|addr| *addr != above).collect(), above };
        let mut plan = Plan { orphans: self.fates(&sources), ..Plan::default() };
        for (addr, fate) in &mut plan.orphans {
            let (Fate::Moves(source), Some(seen)) = (&*fate, scene.answering(addr)) else { continue };
            match toward(seen, source) {
                Ok((action, reason)) => plan.due.push((addr.clone(), action, reason)),
                Err(reason) => *fate = Fate::Lost(reason),
            }
        }
        let chosen = |addr: &ServerAddr| plan.orphans.values().any(|fate| *fate == Fate::Moves(addr.clone()));
        let judge = |addr: &&ServerAddr| match unfit.get(*addr) {
            Some(reason) => (Verdict::Excluded, reason.clone()),
            None if chosen(addr) => (Verdict::Chosen, self.place(addr)),
            None => (Verdict::Eligible, self.place(addr)),
        };
        plan.candidates = considered
            .iter()
            .map(|addr| {
                let (verdict, reason) = judge(addr);
                CandidateRecord { server: (*addr).clone(), verdict, reason }
            })
            .collect();
        plan.candidates.sort_by(|a, b| (a.verdict, &a.server).cmp(&(b.verdict, &b.server)));
        plan
    }

    fn place(&self, addr: &ServerAddr) -> String {
        match addr == self.scene.primary.0 {
            true => "it is the primary".to_owned(),
            false => "it can be replicated from".to_owned(),
        }
    }

    fn fates(&self, sources: &Sources<'a>) -> BTreeMap<ServerAddr, Fate> {
        let mut fates = BTreeMap::new();
        let mut far: BTreeMap<&ServerAddr, Fate> = BTreeMap::new();
        for addr in self.scene.orphans {
            let fate = self.nearby(addr, sources).or_else(|| self.joins(addr)).unwrap_or_else(|| {
                let fate = self.elsewhere(addr, sources);
                far.insert(addr, fate.clone());
                fate
            });
            fates.insert(addr.clone(), fate);
        }
        for (leader, followers) in self.regrouped(&far) {
            for addr in followers {
                fates.insert(addr.clone(), Fate::Waits(format!("{leader} is moved first")));
            }
        }
        fates
    }

    /// What can be said of a replica without looking far; `None`: nobody near is a source for it.
    fn nearby(&self, addr: &ServerAddr, sources: &Sources<'a>) -> Option<Fate> {
        let Some(seen) = self.scene.answering(addr) else {
            return Some(Fate::Absent("it does not answer".to_owned()));
        };
        if let Some(reason) = self.scene.policy.rests(addr) {
            return Some(Fate::Absent(reason.to_owned()));
        }
        if let Err(reason) = only_channel(seen) {
            return Some(Fate::Lost(reason));
        }
        let near = sources.siblings.iter().filter(|source| self.scene.near(addr, source));
        self.best(addr, seen, near.copied()).ok().map(Fate::Moves)
    }

    /// Whether a replica near this one was moved a moment ago, and is about to be its sibling of choice.
    fn joins(&self, addr: &ServerAddr) -> Option<Fate> {
        let leads = |moved: &&ServerAddr| {
            self.scene.near(addr, moved) && self.can_lead(moved) && self.could_follow(addr, moved)
        };
        let leader = self.tried.moved.iter().filter(|_| !self.tried.direct).find(leads)?;
        Some(Fate::Waits(format!("{leader} is to be connected first")))
    }

    /// A sibling elsewhere, or the nearest source above the lost one, in the end the primary.
    fn elsewhere(&self, addr: &ServerAddr, sources: &Sources<'a>) -> Fate {
        let Some(seen) = self.scene.answering(addr) else { return Fate::Absent("it does not answer".to_owned()) };
        let siblings = self.best(addr, seen, sources.siblings.iter().copied());
        let above = || self.best(addr, seen, [sources.above].into_iter());
        let primary = || self.best(addr, seen, [self.scene.primary.0].into_iter());
        match siblings.or_else(|_| above()).or_else(|_| primary()) {
            Ok(source) => Fate::Moves(source),
            Err(Some(Obstacle::NotYet(reason))) => Fate::Waits(reason),
            Err(Some(Obstacle::Never(reason))) => Fate::Lost(reason),
            Err(None) => Fate::Lost("every move of it was refused".to_owned()),
        }
    }

    /// The best of some sources for a replica; else what keeps it from the last of them.
    fn best(
        &self,
        addr: &ServerAddr,
        seen: &Observation,
        sources: impl Iterator<Item = &'a ServerAddr>,
    ) -> Result<ServerAddr, Option<Obstacle>> {
        let mut keeps = None;
        let mut open = Vec::new();
        for source in sources.filter(|source| !self.tried.in_vain.contains(&(addr.clone(), (*source).clone()))) {
            let Some(other) = self.scene.answering(source) else { continue };
            match obstacle(seen, other, self.scene.primary.1) {
                Some(found) => keeps = Some(found),
                None => open.push(source),
            }
        }
        open.into_iter().min_by_key(|source| (self.scene.rank(addr, source), *source)).cloned().ok_or(keeps)
    }

    /// Of replicas that have nobody near, place by place: the most advanced, and who can follow it once it is
    /// moved.
    fn regrouped<'b>(&self, far: &BTreeMap<&'b ServerAddr, Fate>) -> Vec<(&'b ServerAddr, Vec<&'b ServerAddr>)> {
        let mut groups = Vec::new();
        let mut open: Vec<&ServerAddr> = far.keys().copied().filter(|_| !self.tried.direct).collect();
        while let Some(first) = open.pop() {
            let (mut group, rest): (Vec<_>, Vec<_>) = open.into_iter().partition(|other| self.scene.near(first, other));
            open = rest;
            group.push(first);
            group.sort();
            let followers = |leader: &ServerAddr| -> Vec<&'b ServerAddr> {
                group.iter().copied().filter(|addr| *addr != leader && self.could_follow(addr, leader)).collect()
            };
            let moves = |addr: &&ServerAddr| matches!(far.get(addr), Some(Fate::Moves(_))) && self.can_lead(addr);
            let count = |addr: &ServerAddr| self.scene.answering(addr).map_or(0, |seen| seen.total().count());
            let key = |addr: &&ServerAddr| (followers(addr).len(), count(addr));
            // Of equals the first by address.
            if let Some(leader) = group.iter().rev().copied().filter(moves).max_by_key(key) {
                groups.push((leader, followers(leader)));
            }
        }
        groups
    }

    /// Whether a replica is a source to rely on as soon as it is connected to another than the lost one.
    fn can_lead(&self, addr: &ServerAddr) -> bool {
        self.scene.answering(addr).is_some_and(|seen| {
            let plain = seen.channels.iter().all(|channel| !channel.filtered && channel.delay_s == 0);
            let works = seen.channels.iter().all(|channel| channel.applier_running);
            let logs = seen.settings.log_bin && seen.settings.log_replica_updates && seen.refuses_new.is_none();
            plain && works && logs && self.scene.errant(addr).is_empty()
        })
    }

    fn could_follow(&self, addr: &ServerAddr, leader: &ServerAddr) -> bool {
        let pair = self.scene.answering(addr).zip(self.scene.answering(leader));
        let refused = self.tried.in_vain.contains(&(addr.clone(), leader.clone()));
        let open = |(seen, leader): (&Observation, &Observation)| {
            !matches!(obstacle(seen, leader, self.scene.primary.1), Some(Obstacle::Never(_)))
        };
        !refused && pair.is_some_and(open)
    }
}

#[cfg(test)]
mod tests;
