//! A failover that a person asks for: whether it can be begun, before anything is touched.
//!
//! It is not automatic: mode, pause, block and maintenance of the primary do not hold it back. What
//! would lose data or make two writable servers does.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    analysis::{Act, Analysis, analyse},
    candidate::{self, Ballot, NoCandidate},
    durability::{Durability, vouching},
    id::ServerAddr,
    observation::Observation,
    policy::Policy,
    recovery::Verdict,
    snapshot::{Reach, Snapshot},
};

/// How long it is waited for looks to tell whether a silent primary is dead, in milliseconds.
const TELL_MS: u64 = 5000;

/// How long what speaks against every candidate must hold, in milliseconds: looks at two servers are
/// not of one moment.
const SURE_MS: u64 = 2000;

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
        Ok(Some(old)) if snapshot.primary.is_none() => {
            // A person says that it is the primary.
            let named = Snapshot { primary: Some(old.clone()), ..snapshot.clone() };
            judge(request, open_ms, &named, policy, &analyse(&named, policy), old)
        }
        Ok(Some(old)) => judge(request, open_ms, snapshot, policy, analyses, old),
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
        return if open_ms < SURE_MS { Answer::Wait } else { Answer::Refuse(reason) };
    }
    let durability = Durability::found(snapshot, &old);
    let answering = snapshot.replicas_of(&old).into_iter().filter(|(_, state)| state.answering().is_some());
    let quorum = durability.fenced_by(vouching(snapshot, answering.map(|(addr, _)| addr)).into_iter());
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
    let durability = Durability::found(snapshot, old);
    let decision = candidate::decide(&Ballot {
        old_primary: old,
        old_uuid: snapshot.last(old).map(|seen| seen.identity.uuid.as_str()),
        old: snapshot.last(old),
        old_set: snapshot.last(old).map(|seen| &seen.executed),
        replicas: &replicas,
        absent: &snapshot.absent_replicas_of(old),
        rejected: &BTreeMap::new(),
        chosen_before: &BTreeSet::new(),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        core::observation::FailureKind,
        testing::snapshot::{Cluster, addr, policy},
    };

    fn request(server: Option<&str>, candidate: Option<&str>) -> Request {
        Request {
            record: "drill".to_owned(),
            uid: "1".to_owned(),
            server: server.map(addr),
            candidate: candidate.map(addr),
            reason: "a drill".to_owned(),
            problem: None,
        }
    }

    fn asked(cluster: &mut Cluster, request: &Request, open_ms: u64) -> Answer {
        let snapshot = cluster.look();
        let mut policy = policy();
        // They hold back Baton, not people.
        (policy.paused, policy.failover.mode) = (true, crate::core::policy::Mode::DetectOnly);
        policy.maintenance.insert(addr("p"));
        answer(request, open_ms, &snapshot, &policy, &analyse(&snapshot, &policy))
    }

    fn refused(answer: Answer) -> String {
        match answer {
            Answer::Refuse(reason) => reason,
            other => panic!("{other:?}"),
        }
    }

    fn begin(dead: bool) -> Answer {
        Answer::Begin { old_primary: addr("p"), dead }
    }

    #[test]
    fn a_living_primary_is_replaced_when_a_person_says_so() {
        let mut cluster = Cluster::primary_and_replicas(2);
        assert_eq!(asked(&mut cluster, &request(None, None), 0), begin(false));
        assert_eq!(asked(&mut cluster, &request(Some("p"), Some("r2")), 0), begin(false));
    }

    #[test]
    fn what_is_not_there_or_may_not_is_refused_with_the_reason() {
        let mut cluster = Cluster::primary_and_replicas(2);
        cluster.server("r2").observation.settings.log_bin = false;
        for (request, why) in [
            (request(Some("r1"), None), "r1:3306 is not the primary: p:3306 is"),
            (
                request(None, Some("x")),
                "x:3306 was asked for and cannot become primary: it is no replica of the primary",
            ),
            (request(None, Some("r2")), "r2:3306 was asked for and cannot become primary: it writes no binary log"),
            (Request { problem: Some("unreadable".to_owned()), ..request(None, None) }, "unreadable"),
        ] {
            assert_eq!(refused(asked(&mut cluster, &request, SURE_MS)), why);
        }
        cluster.fail("r1", FailureKind::Refused);
        assert_eq!(asked(&mut cluster, &request(None, None), SURE_MS - 1), Answer::Wait, "a look may be late");
        assert_eq!(refused(asked(&mut cluster, &request(None, None), SURE_MS)), "every replica is excluded");
    }

    #[test]
    fn before_every_server_was_looked_at_nothing_is_answered() {
        let cluster = Cluster::primary_and_replicas(1);
        let policy = policy();
        assert_eq!(answer(&request(None, None), 60_000, &cluster.snapshot, &policy, &[]), Answer::Wait);
    }

    #[test]
    fn a_silent_primary_is_waited_for_and_then_refused_unless_its_ackers_can_be_stopped() {
        let mut cluster = Cluster::primary_and_replicas(2);
        cluster.look();
        cluster.fail("p", FailureKind::Silent);
        assert_eq!(asked(&mut cluster, &request(None, None), 0), Answer::Wait);
        let reason = refused(asked(&mut cluster, &request(None, None), TELL_MS));
        assert!(reason.contains("could still accept writes"), "{reason}");
        let mut cluster = Cluster::primary_and_replicas(2);
        cluster.semi_sync(1);
        cluster.look();
        cluster.fail("p", FailureKind::Silent);
        assert_eq!(asked(&mut cluster, &request(None, None), TELL_MS), begin(false));
        cluster.fail("r1", FailureKind::Silent);
        assert!(refused(asked(&mut cluster, &request(None, None), TELL_MS)).contains("not proven dead"));
    }

    #[test]
    fn a_primary_that_was_never_seen_is_replaced_when_a_person_names_it() {
        let mut cluster = Cluster::primary_and_replicas(2);
        cluster.snapshot.primary = None;
        cluster.fail("p", FailureKind::Refused);
        ["r1", "r2"].into_iter().for_each(|replica| cluster.lose_source(replica));
        for _ in 0..20 {
            cluster.advance(200);
            cluster.look();
        }
        assert!(refused(asked(&mut cluster, &request(None, None), 0)).contains("name it in spec.cause.server"));
        assert_eq!(asked(&mut cluster, &request(Some("p"), None), 0), begin(true));
    }

    #[test]
    fn a_dead_primary_is_replaced() {
        let mut cluster = Cluster::primary_and_replicas(2);
        cluster.look();
        cluster.fail("p", FailureKind::Refused);
        for replica in ["r1", "r2"] {
            cluster.lose_source(replica);
        }
        for _ in 0..20 {
            cluster.advance(200);
            cluster.look();
        }
        assert_eq!(asked(&mut cluster, &request(None, None), 0), begin(true));
    }
}
