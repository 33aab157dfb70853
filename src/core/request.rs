//! A failover that a person asks for: whether it can be begun, before anything is touched.
//!
//! It is not automatic: mode, pause, block and maintenance of the primary do not hold it back. What
//! would lose data or make two writable servers does.

use std::collections::BTreeMap;

use super::{
    analysis::{Act, Analysis},
    candidate::{self, Ballot, NoCandidate},
    durability::Durability,
    id::ServerAddr,
    observation::Observation,
    policy::Policy,
    recovery::Verdict,
    snapshot::{Reach, Snapshot},
};

/// How long it is waited for looks to tell whether a silent primary is dead, in milliseconds.
const TELL_MS: u64 = 5000;

/// What a person asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Name of the object.
    pub record: String,
    /// Its UID.
    pub uid: String,
    /// The server to be replaced; `None`: the primary there is.
    pub server: Option<ServerAddr>,
    /// The server to be promoted; `None`: chosen by the rules.
    pub candidate: Option<ServerAddr>,
    /// The reason given.
    pub reason: String,
    /// Why it cannot be read.
    pub problem: Option<String>,
}

/// What is to be done about a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Too little was seen yet.
    Wait,
    /// It cannot be done, for this reason.
    Refuse(String),
    /// Begin.
    Begin {
        /// The server to be replaced.
        old_primary: ServerAddr,
        /// It is dead, as far as looks can tell.
        dead: bool,
    },
}

/// Answers a request that is `open_ms` old.
#[must_use]
pub fn answer(request: &Request, open_ms: u64, snapshot: &Snapshot, policy: &Policy, analyses: &[Analysis]) -> Answer {
    match refusal(request, snapshot) {
        Err(reason) => Answer::Refuse(reason),
        Ok(None) => Answer::Wait,
        Ok(Some(old_primary)) => judge(request, open_ms, snapshot, policy, analyses, old_primary),
    }
}

/// The server to be replaced, `None`: not known yet.
fn refusal(request: &Request, snapshot: &Snapshot) -> Result<Option<ServerAddr>, String> {
    if let Some(problem) = &request.problem {
        return Err(problem.clone());
    }
    if snapshot.servers.values().any(|state| state.reach() == Reach::Unknown) {
        return Ok(None);
    }
    match (&snapshot.primary, &request.server) {
        (Some(primary), Some(server)) if primary != server => Err(format!("{server} is not the primary: {primary} is")),
        (Some(primary), _) => Ok(Some(primary.clone())),
        (None, Some(server)) if snapshot.servers.contains_key(server) => Ok(Some(server.clone())),
        (None, Some(server)) => Err(format!("{server} is no server of this cluster")),
        (None, None) => Err("no primary is known: name it in spec.cause.server".to_owned()),
    }
}

fn judge(
    request: &Request,
    open_ms: u64,
    snapshot: &Snapshot,
    policy: &Policy,
    analyses: &[Analysis],
    old: ServerAddr,
) -> Answer {
    let answers = snapshot.servers.get(&old).is_some_and(|state| state.answering().is_some());
    let dead = !answers && analyses.iter().any(|analysis| analysis.server == old && analysis.act == Act::Failover);
    if !answers && !dead && open_ms < TELL_MS {
        return Answer::Wait;
    }
    if let Some(reason) = no_candidate(request, snapshot, policy, &old) {
        return Answer::Refuse(reason);
    }
    let durability = Durability::found(snapshot, &old);
    let answering = snapshot.replicas_of(&old).into_iter().filter(|(_, state)| state.answering().is_some());
    let quorum = durability.fenced_by(answering.map(|(addr, _)| addr));
    if answers || (dead && quorum) || (durability.lossless && quorum) {
        return Answer::Begin { old_primary: old, dead };
    }
    Answer::Refuse(match dead {
        true => format!("too few replicas answer to prove what {old} may have acknowledged"),
        false => format!("{old} does not answer and is not proven dead: it could still accept writes"),
    })
}

/// Why nobody could be promoted. What the replicas have is compared once they are stopped.
fn no_candidate(request: &Request, snapshot: &Snapshot, policy: &Policy, old: &ServerAddr) -> Option<String> {
    let members = snapshot.replicas_of(old);
    let replicas: BTreeMap<ServerAddr, Observation> =
        members.iter().filter_map(|(addr, state)| Some(((*addr).clone(), state.answering()?.clone()))).collect();
    let absent = members.iter().filter_map(|(addr, state)| {
        Some(((*addr).clone(), format!("it does not answer: {}", state.failure.as_ref()?.message)))
    });
    let absent: BTreeMap<_, _> = absent.collect();
    let durability = Durability::found(snapshot, old);
    let decision = candidate::decide(&Ballot {
        old_primary: old,
        old: snapshot.last(old),
        replicas: &replicas,
        absent: &absent,
        rejected: &BTreeMap::new(),
        chosen_before: None,
        wanted: None,
        policy,
        semi_sync: durability.wait_count > 0,
        lossless: durability.lossless,
    });
    if let Some(wanted) = &request.candidate {
        let judged = decision.candidates.iter().find(|judged| judged.server == *wanted);
        let reason = match judged {
            None => Some("it is no replica of the primary".to_owned()),
            Some(judged) => (judged.verdict == Verdict::Excluded).then(|| judged.reason.clone()),
        };
        return reason.map(|reason| NoCandidate::Unfit(wanted.clone(), reason).to_string());
    }
    let eligible = decision.candidates.iter().any(|judged| judged.verdict != Verdict::Excluded);
    (!eligible).then(|| match decision.outcome {
        Err(reason) => reason.to_string(),
        Ok(_) => NoCandidate::NobodyEligible.to_string(),
    })
}
