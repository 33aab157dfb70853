//! "What would happen if the primary died now": the election held on what is known at this moment.
//!
//! Always worked out, so that people see before the failure what Baton would do in it and what would
//! be lost (I11).

use std::collections::{BTreeMap, BTreeSet};

use super::{
    candidate::{self, Ballot, Chosen, NoCandidate},
    durability::{Durability, vouching},
    gtid::GtidSet,
    id::ServerAddr,
    observation::{Channel, Observation, Receiver},
    policy::{Mode, Policy},
    recovery::{CandidateRecord, Loss, Verdict},
    snapshot::{ServerState, Snapshot},
};

/// A replica that is further behind has a backlog, not only something on its way, in seconds.
const LAG_S: u64 = 10;

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
    let old = snapshot.last(primary);
    let sent = old.map(|old| sent(snapshot, primary, old));
    let answering = |state: &ServerState| Some(caught_up(snapshot, state.answering()?, (primary, sent.as_ref()?)));
    let answering = |state: &ServerState| answering(state).or_else(|| state.answering().cloned());
    let replicas: BTreeMap<ServerAddr, Observation> =
        members.iter().filter_map(|(addr, state)| Some(((*addr).clone(), answering(state)?))).collect();
    let decision = candidate::decide(&Ballot {
        old_primary: primary,
        old_uuid: old.map(|seen| seen.identity.uuid.as_str()),
        old,
        old_set: old.map(|seen| &seen.executed),
        replicas: &replicas,
        absent: &snapshot.absent_replicas_of(primary),
        rejected: &BTreeMap::new(),
        chosen_before: &BTreeSet::new(),
        wanted: None,
        policy,
        semi_sync: durability.wait_count > 0 || policy.semi_sync.is_some(),
        lossless: durability.lossless,
    });
    let vouch = vouching(snapshot, replicas.keys());
    let lost: Vec<_> = replicas.keys().filter(|addr| !vouch.contains(addr)).collect();
    let fence = durability.fenced_by(vouch.iter().copied());
    let answers = snapshot.servers.get(primary).is_some_and(|state| state.answering().is_some());
    let mut candidates = decision.candidates;
    for record in &mut candidates {
        if let Some(seen) = replicas.get(&record.server).filter(|_| record.verdict != Verdict::Excluded) {
            // What is left to apply is another number with every look.
            record.reason = format!("rule {:?}", candidate::rule_of(&record.server, seen, policy));
        }
    }
    match decision.outcome {
        _ if policy.paused => Readiness::no("Paused", "the cluster is paused".to_owned(), candidates),
        _ if policy.failover.mode == Mode::DetectOnly => {
            Readiness::no("DetectOnly", "failover.mode is DetectOnly".to_owned(), candidates)
        }
        _ if policy.maintenance.contains(primary) => {
            Readiness::no("Maintenance", format!("the primary {primary} is under maintenance"), candidates)
        }
        _ if blocked.is_some() => Readiness::no("Blocked", blocked.unwrap_or_default().to_owned(), candidates),
        Ok(_) | Err(NoCandidate::KnownLoss(_)) if !fence => {
            let message = unfenced(durability.fence_needs(), vouch.len(), &lost);
            Readiness::no("CannotFence", message, candidates)
        }
        // It is failing now, and what was looked at before it did says little: the recovery finds out.
        Err(NoCandidate::KnownLoss(_)) if !answers => ready(&durability, None, candidates),
        Err(NoCandidate::KnownLoss(_)) => {
            let message = "transactions of the primary are on no replica that can be promoted";
            Readiness::no("NoCandidate", message.to_owned(), candidates)
        }
        Err(reason) => Readiness::no("NoCandidate", reason.to_string(), candidates),
        Ok(chosen) => ready(&durability, Some(chosen), candidates),
    }
}

/// Why the primary could not be fenced: `have` of the `need` ackers answer, besides those that lost data.
fn unfenced(need: u32, have: usize, lost: &[&ServerAddr]) -> String {
    let message = format!("the primary could not be fenced: {need} ackers must answer, {have} replicas do");
    if lost.is_empty() {
        return message;
    }
    let lost: Vec<_> = lost.iter().map(ToString::to_string).collect();
    format!("{message}; not counted: {}, which lost data that no other replica is known to have", lost.join(", "))
}

/// Everything the primary is known to have: what it showed, and what of its own its replicas showed after that.
fn sent(snapshot: &Snapshot, primary: &ServerAddr, old: &Observation) -> GtidSet {
    let members = snapshot.replicas_of(primary);
    let seen = members.iter().filter_map(|(_, state)| state.answering());
    let shown = seen.flat_map(|seen| seen.channels.iter().map(|channel| &channel.received).chain([&seen.executed]));
    shown.fold(old.executed.clone(), |sent, set| sent.union(&set.of_source(&old.identity.uuid)))
}

/// A replica as it will be when it has what is on its way to it now: that is not part of the question,
/// and would make the answer another one with every transaction.
fn caught_up(snapshot: &Snapshot, seen: &Observation, (primary, sent): (&ServerAddr, &GtidSet)) -> Observation {
    let mut seen = seen.clone();
    let of_primary = |channel: &&mut Channel| snapshot.source_of(channel) == Some(primary);
    let Some(channel) = seen.channels.iter_mut().find(of_primary) else { return seen };
    if channel.receiver == Receiver::Running {
        channel.received = channel.received.union(sent);
    }
    if channel.applier_running && channel.seconds_behind.is_none_or(|lag_s| lag_s < LAG_S) {
        channel.read_position.clone_from(&channel.applied_position);
        seen.executed = seen.executed.union(&channel.received);
    }
    seen
}

fn ready(durability: &Durability, chosen: Option<Chosen>, candidates: Vec<CandidateRecord>) -> Readiness {
    let (best, loss) = chosen.map(|chosen| (chosen.server, chosen.loss)).unzip();
    let who = best.as_ref().map_or_else(|| "the most advanced replica".to_owned(), ToString::to_string);
    let lost = match (loss, durability.wait_count, durability.lossless) {
        (Some(Loss::AtLeast(_)), ..) => "transactions that its receiver has not fetched would be lost",
        (_, 0, _) => "replication is asynchronous: what no replica has received would be lost",
        (_, _, true) => "nothing acknowledged would be lost",
        (_, _, false) => "nothing would be lost unless semi-sync had fallen back to asynchronous before",
    };
    Readiness {
        ready: true,
        reason: "Ready",
        message: format!("{who} would be promoted; {lost}"),
        would_promote: best,
        candidates,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        core::observation::FailureKind,
        testing::snapshot::{Cluster, addr, policy, transactions},
    };

    fn assess_now(cluster: &mut Cluster, policy: &Policy) -> Readiness {
        assess(&cluster.look(), Some(&addr("p")), policy, None)
    }

    /// The primary has written `last` transactions and its replicas are a few behind.
    fn busy(cluster: &mut Cluster, last: u64) {
        cluster.server("p").observation.executed = transactions(1, last);
        for (name, behind) in [("r1", last % 3), ("r2", last % 2)] {
            let seen = &mut cluster.server(name).observation;
            seen.executed = transactions(1, last - 5 - behind);
            seen.channels[0].received = transactions(1, last - behind);
        }
    }

    #[test]
    fn the_answer_stays_while_transactions_come() {
        for semi_sync in [false, true] {
            let mut cluster = Cluster::primary_and_replicas(2);
            if semi_sync {
                cluster.semi_sync(1);
            }
            let first = assess_now(&mut cluster, &policy());
            let lost = if semi_sync { "nothing acknowledged" } else { "what no replica has received" };
            assert!(first.ready && first.message.contains(lost), "{first:?}");
            for last in 200..206 {
                busy(&mut cluster, last);
                assert_eq!(assess_now(&mut cluster, &policy()), first);
            }
        }
    }

    #[test]
    fn the_answer_stays_whichever_replica_was_looked_at_last() {
        let mut cluster = Cluster::primary_and_replicas(2);
        cluster.semi_sync(1);
        let first = assess_now(&mut cluster, &policy());
        for (ahead, behind, more) in [("r1", "r2", 0), ("r2", "r1", 10)] {
            for (name, last) in [("p", 200 + more), (ahead, 202 + more), (behind, 201 + more)] {
                let seen = &mut cluster.server(name).observation;
                seen.executed = transactions(1, last);
                seen.channels.iter_mut().for_each(|channel| channel.received = transactions(1, last));
            }
            assert_eq!(assess_now(&mut cluster, &policy()), first, "{ahead} was looked at last");
        }
    }

    #[test]
    fn a_replica_that_stopped_receiving_lacks_what_came_since() {
        let mut cluster = Cluster::primary_and_replicas(1);
        cluster.semi_sync(1);
        cluster.server("r1").observation.channels[0].receiver = Receiver::Stopped;
        cluster.server("p").observation.executed = transactions(1, 105);
        cluster.server("p").observation.semi_sync.source.as_mut().unwrap().clients = 0;
        let found = assess_now(&mut cluster, &policy());
        assert_eq!((found.ready, found.reason), (false, "NoCandidate"), "{found:?}");
        let mut accept = policy();
        accept.failover.data_loss = Some(crate::core::policy::DataLoss::Accept);
        let found = assess_now(&mut cluster, &accept);
        assert!(found.ready && found.message.contains("has not fetched would be lost"), "{found:?}");
    }

    #[test]
    fn a_backlog_counts_where_the_owner_refuses_one() {
        let mut cluster = Cluster::primary_and_replicas(1);
        let seen = &mut cluster.server("r1").observation;
        (seen.executed, seen.channels[0].seconds_behind) = (transactions(1, 50), Some(600));
        assert!(assess_now(&mut cluster, &policy()).ready, "it would be waited for");
        let mut refuse = policy();
        refuse.promotion.relay_log = crate::core::policy::RelayLog::Refuse;
        let found = assess_now(&mut cluster, &refuse);
        assert!(!found.ready && found.candidates[0].reason.contains("relayLog is Refuse"), "{found:?}");
    }

    #[test]
    fn every_excluded_server_is_there_with_its_reason() {
        let mut cluster = Cluster::primary_and_replicas(5);
        cluster.server("r1").observation.settings.log_bin = false;
        cluster.look();
        cluster.fail("r2", FailureKind::Refused);
        let mut policy = policy();
        policy.maintenance.insert(addr("r3"));
        policy.rebuilding.insert(addr("r5"));
        let found = assess_now(&mut cluster, &policy);
        let reasons: Vec<_> =
            found.candidates.iter().map(|one| format!("{} {}", one.server.host(), one.reason)).collect();
        assert_eq!(found.would_promote, Some(addr("r4")));
        assert_eq!(
            reasons,
            [
                "r4 rule Neutral".to_owned(),
                "r1 it writes no binary log".to_owned(),
                "r2 it does not answer: refused".to_owned(),
                "r3 it is under maintenance".to_owned(),
                "r5 it is being rebuilt".to_owned(),
            ]
        );
    }

    #[test]
    fn what_holds_a_failover_back_is_said() {
        let mut cluster = Cluster::primary_and_replicas(1);
        let reason = |cluster: &mut Cluster, policy: &Policy| assess_now(cluster, policy).reason;
        let with = |change: fn(&mut Policy)| {
            let mut policy = policy();
            change(&mut policy);
            policy
        };
        assert_eq!(reason(&mut cluster, &with(|policy| policy.paused = true)), "Paused");
        let detect_only = with(|policy| policy.failover.mode = Mode::DetectOnly);
        assert_eq!(reason(&mut cluster, &detect_only), "DetectOnly");
        let resting = with(|policy| policy.maintenance.extend([addr("p")]));
        assert_eq!(reason(&mut cluster, &resting), "Maintenance");
        let blocked = assess(&cluster.look(), Some(&addr("p")), &policy(), Some("shop-1 was a moment ago"));
        assert_eq!((blocked.reason, blocked.message.as_str()), ("Blocked", "shop-1 was a moment ago"));
        assert_eq!(assess(&cluster.look(), None, &policy(), None).reason, "NoPrimary");
        cluster.semi_sync(1);
        cluster.look();
        cluster.fail("r1", FailureKind::Silent);
        assert_eq!(reason(&mut cluster, &policy()), "NoCandidate");
    }
}
