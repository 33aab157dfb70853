//! "What would happen if the primary died now": the election held on what is known at this moment.
//!
//! Always worked out, so that people see before the failure what Baton would do in it and what would
//! be lost (I11).

use std::collections::BTreeMap;

use super::{
    candidate::{self, Ballot},
    durability::Durability,
    id::ServerAddr,
    observation::Observation,
    policy::{Mode, Policy},
    recovery::{CandidateRecord, Loss},
    snapshot::Snapshot,
};

/// Whether a failover would succeed now, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readiness {
    /// It would.
    pub ready: bool,
    /// One word for machines, as Kubernetes condition reasons are.
    pub reason: &'static str,
    /// One sentence for people.
    pub message: String,
    /// Who would be promoted.
    pub would_promote: Option<ServerAddr>,
    /// Every candidate with its reason.
    pub candidates: Vec<CandidateRecord>,
}

impl Readiness {
    fn no(reason: &'static str, message: String, candidates: Vec<CandidateRecord>) -> Self {
        Self { ready: false, reason, message, would_promote: None, candidates }
    }
}

/// Holds the election on the snapshot. `blocked`: why an automatic failover is held back, if it is.
#[must_use]
pub fn assess(snapshot: &Snapshot, primary: Option<&ServerAddr>, policy: &Policy, blocked: Option<&str>) -> Readiness {
    let Some(primary) = primary else {
        return Readiness::no("NoPrimary", "no primary is known".to_owned(), Vec::new());
    };
    let durability = Durability::found(snapshot, primary);
    let members = snapshot.replicas_of(primary);
    let answering = |state: &super::snapshot::ServerState| state.answering().cloned();
    let replicas: BTreeMap<ServerAddr, Observation> =
        members.iter().filter_map(|(addr, state)| Some(((*addr).clone(), answering(state)?))).collect();
    let absent = members.iter().filter_map(|(addr, state)| {
        let failure = state.failure.as_ref()?;
        Some(((*addr).clone(), format!("it does not answer: {}", failure.message)))
    });
    let decision = candidate::decide(&Ballot {
        old_primary: primary,
        old: snapshot.last(primary),
        replicas: &replicas,
        absent: &absent.collect(),
        rejected: &BTreeMap::new(),
        chosen_before: None,
        wanted: None,
        policy,
        semi_sync: durability.wait_count > 0,
        // The transactions on their way now are not part of the question.
        lossless: durability.lossless,
    });
    let fence = durability.fenced_by(replicas.keys());
    let candidates = decision.candidates;
    match decision.outcome {
        _ if policy.paused => Readiness::no("Paused", "the cluster is paused".to_owned(), candidates),
        _ if policy.failover.mode == Mode::DetectOnly => {
            Readiness::no("DetectOnly", "failover.mode is DetectOnly".to_owned(), candidates)
        }
        _ if policy.maintenance.contains(primary) => {
            Readiness::no("Maintenance", format!("the primary {primary} is under maintenance"), candidates)
        }
        _ if blocked.is_some() => Readiness::no("Blocked", blocked.unwrap_or_default().to_owned(), candidates),
        // What is in flight now is on its way; only what a replica can never get counts here.
        Err(candidate::NoCandidate::KnownLoss(_)) if fence => ready(&durability, None, candidates),
        Err(reason) => Readiness::no("NoCandidate", reason.to_string(), candidates),
        Ok(_) if !fence => {
            let (need, have) = (durability.fence_needs(), replicas.len());
            let message = format!("the primary could not be fenced: {need} ackers must answer, {have} replicas do");
            Readiness::no("CannotFence", message, candidates)
        }
        Ok(chosen) => ready(&durability, Some((chosen.server, &chosen.loss)), candidates),
    }
}

fn ready(durability: &Durability, chosen: Option<(ServerAddr, &Loss)>, candidates: Vec<CandidateRecord>) -> Readiness {
    let best = chosen.map(|(server, _)| server);
    let who = best.as_ref().map_or_else(|| "the most advanced replica".to_owned(), ToString::to_string);
    let loss = match (durability.wait_count, durability.lossless) {
        (0, _) => "replication is asynchronous: what no replica has received would be lost",
        (_, true) => "nothing acknowledged would be lost",
        (_, false) => "nothing would be lost unless semi-sync had fallen back to asynchronous before",
    };
    Readiness {
        ready: true,
        reason: "Ready",
        message: format!("{who} would be promoted; {loss}"),
        would_promote: best,
        candidates,
    }
}
