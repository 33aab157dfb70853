//! Who may become primary, who does, and why each of the others does not.
//!
//! Compared is what each server has *received or executed*, never only what it executed: the
//! transaction that was acknowledged may still wait in a relay log (safety.md, "Failing over", 3).
//! The same function answers "what would happen if the primary died now".

mod catch_up;
mod co_primary;
mod records;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use self::{catch_up::catcher, records::records};
use super::{
    gtid::{GtidSet, SetOrder},
    id::ServerAddr,
    observation::{GtidMode, Observation},
    policy::{DataLoss, Policy, PromotionRule, RelayLog, ServerFacts, Within},
    recovery::{CandidateRecord, Loss},
    rules::{Rule, holds},
    version::Flavor,
};

/// What is said of a server without any transaction, where somebody has written some.
pub const EMPTY: &str = "it has no transactions: new, reset or emptied";

/// Everything the choice depends on.
#[derive(Debug, Clone, Copy)]
pub struct Ballot<'a> {
    /// The primary to be replaced.
    pub old_primary: &'a ServerAddr,
    /// Its UUID, where known: what it wrote is nobody's stray, wherever replicas point by now.
    pub old_uuid: Option<&'a str>,
    /// What was last seen of it.
    pub old: Option<&'a Observation>,
    /// What it is known to have had.
    pub old_set: Option<&'a GtidSet>,
    /// Its replicas with what they have now (after their receivers were stopped, in a failover).
    pub replicas: &'a BTreeMap<ServerAddr, Observation>,
    /// Replicas that cannot be asked, with the reason.
    pub absent: &'a BTreeMap<ServerAddr, String>,
    /// Servers that failed as the new primary in this recovery, with the reason.
    pub rejected: &'a BTreeMap<ServerAddr, String>,
    /// The only server that may be chosen, when a person named one.
    pub wanted: Option<&'a ServerAddr>,
    /// UUIDs of servers that this recovery had chosen before: their own transactions are those of its
    /// epochs and of clients that it let in.
    pub chosen_before: &'a BTreeSet<String>,
    /// The owner's wishes.
    pub policy: &'a Policy,
    /// Commits waited for acknowledgements.
    pub semi_sync: bool,
    /// Nothing was acknowledged without a copy, and enough copies are among `replicas`.
    pub lossless: bool,
}

/// The server that becomes primary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    /// The server.
    pub server: ServerAddr,
    /// All it has received or executed, or will have once it has caught up.
    pub set: GtidSet,
    /// Where it gets what it lacks first.
    pub catch_up: Option<CatchUp>,
    /// What is known about acknowledged transactions that it lacks.
    pub loss: Loss,
}

/// Whom the chosen server catches up from before it is promoted (safety.md, "Failing over", 5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatchUp {
    /// The most advanced server.
    pub from: ServerAddr,
    /// How long that may take, in milliseconds; `None`: nobody else can be promoted.
    pub patience_ms: Option<u64>,
}

/// Why nobody can become primary.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoCandidate {
    /// No replica answers.
    #[error("no replica answers")]
    NobodyAnswers,
    /// Every replica is excluded.
    #[error("every replica is excluded")]
    NobodyEligible,
    /// Two replicas each have transactions that the other lacks.
    #[error("split-brain suspicion: {0} and {1} each have transactions that the other lacks")]
    SplitBrain(ServerAddr, ServerAddr),
    /// Transactions seen on the old primary are on no replica that could be promoted.
    #[error("{0} transactions that the old primary committed are on no replica that can be promoted")]
    KnownLoss(u64),
    /// Only excluded servers have everything that may have been acknowledged.
    #[error("only {0} has every transaction that may have been acknowledged, and it is excluded")]
    WouldLose(ServerAddr),
    /// The co-primary of the lost one accepts writes, and is excluded, lacks something or was not asked for.
    #[error("{0} accepts writes too and cannot become the only primary")]
    CoPrimary(ServerAddr),
    /// The server that was asked for cannot become primary.
    #[error("{0} was asked for and cannot become primary: {1}")]
    Unfit(ServerAddr, String),
}

/// The decision with its reasons.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Every replica with the decision about it, best first.
    pub candidates: Vec<CandidateRecord>,
    /// Who becomes primary.
    pub outcome: Result<Chosen, NoCandidate>,
}

/// Outside knowledge about a server, completed by what its own queries say.
#[must_use]
pub fn facts_of(addr: &ServerAddr, seen: Option<&Observation>, policy: &Policy) -> ServerFacts {
    let mut facts = policy.servers.get(addr).cloned().unwrap_or_default();
    if let Some(seen) = seen {
        facts.zone = facts.zone.or_else(|| seen.facts.zone.clone());
        facts.region = facts.region.or_else(|| seen.facts.region.clone());
    }
    facts
}

/// The promotion rule of a server: its own, else the first matching rule, else its query's, else none.
#[must_use]
pub fn rule_of(addr: &ServerAddr, seen: &Observation, policy: &Policy) -> PromotionRule {
    let facts = facts_of(addr, Some(seen), policy);
    let matching = || {
        let rules = policy.promotion.rules.iter();
        rules.clone().find(|(matcher, _)| matcher.matches(addr, &facts, Some(&seen.identity))).map(|(_, rule)| *rule)
    };
    let asked = || seen.facts.promotion_rule.as_deref().and_then(parse_rule);
    facts.promotion.or_else(matching).or_else(asked).unwrap_or(PromotionRule::Neutral)
}

/// Reads a rule as Baton or orchestrator writes it.
fn parse_rule(text: &str) -> Option<PromotionRule> {
    match text.trim().to_ascii_lowercase().replace(['_', '-'], "").as_str() {
        "must" => Some(PromotionRule::Must),
        "prefer" => Some(PromotionRule::Prefer),
        "neutral" => Some(PromotionRule::Neutral),
        "prefernot" => Some(PromotionRule::PreferNot),
        "mustnot" => Some(PromotionRule::MustNot),
        _ => None,
    }
}

/// Transactions of a replica that cannot come from the old primary: neither written by it nor seen on
/// it. Empty on MariaDB, whose positions do not tell the writer.
fn errant(ballot: &Ballot<'_>, addr: &ServerAddr, seen: &Observation) -> GtidSet {
    if seen.identity.version.flavor == Flavor::MariaDb {
        return GtidSet::default();
    }
    let source_uuid = || seen.channels.iter().find_map(|channel| channel.source_uuid.as_deref());
    let old_uuid = ballot.old_uuid.or_else(source_uuid).unwrap_or_default();
    let all = seen.total();
    let mut known = all.of_source(old_uuid);
    match ballot.old_set {
        Some(old) => known = known.union(old),
        None => {
            let others = ballot.replicas.iter().filter(|(other, _)| *other != addr);
            known = others.fold(known, |known, (_, other)| known.union(&other.executed));
        }
    }
    for uuid in ballot.chosen_before {
        known = known.union(&all.of_source(uuid));
    }
    all.subtract(&known)
}

/// Why a server can in no case become primary; `None`: it can.
fn exclusion(ballot: &Ballot<'_>, addr: &ServerAddr, seen: &Observation) -> Option<String> {
    let policy = ballot.policy;
    let errant = errant(ballot, addr, seen);
    let channel = seen.channels.first();
    let applier_error = channel.and_then(|channel| channel.applier_error.as_ref());
    let drained = seen.channels.iter().all(|channel| channel.drained(&seen.executed));
    let max_lag_s = policy.promotion.max_lag_s.filter(|max| seen.facts.lag_s.is_some_and(|lag| lag >= *max));
    if let Some(reason) = ballot.rejected.get(addr) {
        Some(reason.clone())
    } else if rule_of(addr, seen, policy) == PromotionRule::MustNot {
        Some("its promotion rule is MustNot".to_owned())
    } else if let Some(reason) = policy.rests(addr) {
        Some(reason.to_owned())
    } else if !seen.settings.log_bin {
        Some("it writes no binary log".to_owned())
    } else if !seen.settings.log_replica_updates {
        Some("it does not log replicated transactions".to_owned())
    } else if seen.settings.gtid_mode != GtidMode::On || channel.is_some_and(|channel| !channel.auto_position) {
        Some("it does not replicate by GTID".to_owned())
    } else if holds(Rule::EmptyIsReset) && seen.total().is_empty() && somebody_wrote(ballot) {
        Some(EMPTY.to_owned())
    } else if holds(Rule::ErrantOut) && !errant.is_empty() {
        Some(format!("it has {} errant transactions", errant.count()))
    } else if channel.is_some_and(|channel| channel.filtered) {
        Some("its replication is filtered".to_owned())
    } else if channel.is_some_and(|channel| channel.delay_s > 0) {
        Some("it is delayed on purpose".to_owned())
    } else if let Some(error) = applier_error.filter(|_| !drained) {
        Some(format!("its applier stopped with error {}", error.code))
    } else if !drained && policy.promotion.relay_log == RelayLog::Refuse {
        Some("it has not applied everything and relayLog is Refuse".to_owned())
    } else if let Some(max) = max_lag_s {
        Some(format!("its lag is not below maxLag of {max} s"))
    } else {
        distance(ballot, addr, seen).or_else(|| too_new(ballot, addr, seen))
    }
}

/// Whether there is any transaction in the cluster: only then an empty server is a suspicious one.
fn somebody_wrote(ballot: &Ballot<'_>) -> bool {
    let old = ballot.old_set.is_some_and(|old| !old.is_empty());
    old || ballot.replicas.values().any(|seen| !seen.total().is_empty())
}

/// Why a server is too far from the old primary.
fn distance(ballot: &Ballot<'_>, addr: &ServerAddr, seen: &Observation) -> Option<String> {
    let old = facts_of(ballot.old_primary, ballot.old, ballot.policy);
    let own = facts_of(addr, Some(seen), ballot.policy);
    match ballot.policy.promotion.within {
        Within::Anywhere => None,
        Within::Region => (old.region != own.region).then(|| "it is in another region".to_owned()),
        Within::Zone => (old.zone != own.zone).then(|| "it is in another zone".to_owned()),
    }
}

/// Why most of the others could not replicate from a server.
fn too_new(ballot: &Ballot<'_>, addr: &ServerAddr, seen: &Observation) -> Option<String> {
    let others = || ballot.replicas.iter().filter(|(other, _)| *other != addr).map(|(_, other)| other);
    let most = |count: usize| count * 2 > others().count();
    let older = others().filter(|other| other.identity.version.series() < seen.identity.version.series());
    let plainer = others().filter(|other| other.settings.binlog_format < seen.settings.binlog_format);
    if most(older.count()) {
        Some("most replicas have an older version and could not follow it".to_owned())
    } else if most(plainer.count()) {
        Some("most replicas log in a format that cannot follow its own".to_owned())
    } else {
        None
    }
}

/// Decides.
#[must_use]
pub fn decide(ballot: &Ballot<'_>) -> Decision {
    let exclusions: BTreeMap<_, _> = ballot
        .replicas
        .iter()
        .filter_map(|(addr, seen)| exclusion(ballot, addr, seen).map(|reason| (addr.clone(), reason)))
        .collect();
    let outcome = choose(ballot, &exclusions);
    let candidates = records(ballot, &exclusions, outcome.as_ref().ok().map(|chosen| &chosen.server));
    Decision { candidates, outcome }
}

fn choose(ballot: &Ballot<'_>, exclusions: &BTreeMap<ServerAddr, String>) -> Result<Chosen, NoCandidate> {
    if ballot.replicas.is_empty() {
        return Err(NoCandidate::NobodyAnswers);
    }
    if let Some((wanted, reason)) = ballot.wanted.and_then(|wanted| Some((wanted, unfit(ballot, exclusions, wanted)?)))
    {
        return Err(NoCandidate::Unfit(wanted.clone(), reason));
    }
    let all: BTreeMap<_, _> =
        ballot.replicas.iter().map(|(addr, seen)| (addr, clean_total(ballot, addr, seen))).collect();
    let eligible: BTreeSet<_> = all.keys().copied().filter(|addr| !exclusions.contains_key(*addr)).collect();
    let front = most_advanced(&all, &eligible)?;
    let complete = eligible
        .iter()
        .copied()
        .filter(|addr| !holds(Rule::LargestWins) || all.get(addr).is_some_and(|set| set.contains(front.1)));
    let accept = match ballot.policy.failover.data_loss {
        Some(choice) => choice == DataLoss::Accept,
        None => !ballot.semi_sync,
    };
    let pool: Vec<_> = complete.collect();
    let catcher = catcher(ballot, &all, &eligible, &pool, front);
    if let Some(chosen) = catcher.filter(|chosen| co_primary::allows(ballot, &chosen.server)) {
        return Ok(chosen);
    }
    let pool = match (pool.is_empty(), accept) {
        (false, _) => pool,
        (true, _) if eligible.is_empty() => return Err(NoCandidate::NobodyEligible),
        (true, false) => return Err(NoCandidate::WouldLose(front.0.clone())),
        (true, true) => furthest(&all, &eligible),
    };
    let pool = co_primary::narrow(ballot, pool)?;
    let pool = match ballot.wanted {
        Some(wanted) if !pool.contains(&wanted) => {
            let reason = format!("it lacks transactions that {} has", front.0);
            return Err(NoCandidate::Unfit(wanted.clone(), reason));
        }
        Some(wanted) => vec![wanted],
        None => pool,
    };
    let best = pool.into_iter().filter_map(|addr| Some((rank(ballot, addr)?, addr))).min();
    let (_, server) = best.ok_or(NoCandidate::NobodyEligible)?;
    let set = all.get(server).cloned().unwrap_or_default();
    let loss = loss(ballot, &set, front.1);
    if let (Loss::AtLeast(missing), false) = (&loss, accept) {
        return Err(NoCandidate::KnownLoss(missing.count()));
    }
    Ok(Chosen { server: server.clone(), set, catch_up: None, loss })
}

/// Why a server that was asked for cannot become primary, whatever the others have.
fn unfit(ballot: &Ballot<'_>, exclusions: &BTreeMap<ServerAddr, String>, wanted: &ServerAddr) -> Option<String> {
    let absent =
        || ballot.absent.get(wanted).cloned().unwrap_or_else(|| "it is no replica of the old primary".to_owned());
    exclusions.get(wanted).cloned().or_else(|| (!ballot.replicas.contains_key(wanted)).then(absent))
}

/// What a server has, without what it wrote itself.
fn clean_total(ballot: &Ballot<'_>, addr: &ServerAddr, seen: &Observation) -> GtidSet {
    seen.total().subtract(&errant(ballot, addr, seen))
}

/// The server with the largest set. Two that are incomparable are a split brain. Among equals an
/// eligible one stands for the set.
fn most_advanced<'a>(
    all: &'a BTreeMap<&'a ServerAddr, GtidSet>,
    eligible: &BTreeSet<&'a ServerAddr>,
) -> Result<(&'a ServerAddr, &'a GtidSet), NoCandidate> {
    let mut front: Option<(&ServerAddr, &GtidSet)> = None;
    for (addr, set) in all {
        let Some((leader, largest)) = front else {
            front = Some((addr, set));
            continue;
        };
        match set.compare(largest) {
            SetOrder::Superset => front = Some((addr, set)),
            SetOrder::Equal if eligible.contains(addr) && !eligible.contains(leader) => front = Some((addr, set)),
            SetOrder::Equal | SetOrder::Subset => {}
            SetOrder::Incomparable if !holds(Rule::Incomparable) => {}
            SetOrder::Incomparable => return Err(NoCandidate::SplitBrain(leader.clone(), (*addr).clone())),
        }
    }
    front.ok_or(NoCandidate::NobodyAnswers)
}

/// The eligible servers that no other eligible server is ahead of.
fn furthest<'a>(all: &BTreeMap<&'a ServerAddr, GtidSet>, eligible: &BTreeSet<&'a ServerAddr>) -> Vec<&'a ServerAddr> {
    let set_of = |addr: &ServerAddr| all.get(addr).cloned().unwrap_or_default();
    let behind =
        |addr: &&ServerAddr| eligible.iter().any(|other| set_of(other).compare(&set_of(addr)) == SetOrder::Superset);
    eligible.iter().copied().filter(|addr| !behind(addr)).collect()
}

/// Sort key of a candidate, best first: chosen before, rule, zone, region, what is left to apply, version. Whoever was
/// chosen before may hold an epoch that waits for its acknowledgement: left for another, it could not follow that.
type Rank = (bool, PromotionRule, bool, bool, u64, (u16, u16, u16));

fn rank(ballot: &Ballot<'_>, addr: &ServerAddr) -> Option<Rank> {
    let seen = ballot.replicas.get(addr)?;
    let old = facts_of(ballot.old_primary, ballot.old, ballot.policy);
    let own = facts_of(addr, Some(seen), ballot.policy);
    let unapplied = seen.total().subtract(&seen.executed).count();
    let rule = rule_of(addr, seen, ballot.policy);
    let fresh = !ballot.chosen_before.contains(&seen.identity.uuid);
    Some((fresh, rule, own.zone != old.zone, own.region != old.region, unapplied, seen.identity.version.number))
}

fn loss(ballot: &Ballot<'_>, set: &GtidSet, front: &GtidSet) -> Loss {
    let seen = ballot.old_set.cloned().unwrap_or_default();
    let missing = seen.union(front).subtract(set);
    match (missing.is_empty(), ballot.lossless) {
        (true, true) => Loss::None,
        (true, false) => Loss::Unknown,
        (false, _) => Loss::AtLeast(missing),
    }
}

/// Why `replica` could not replicate from `source`; `None`: it can. `have` is all that `source` has.
#[must_use]
pub fn cannot_follow(replica: &Observation, source: &Observation, have: &GtidSet) -> Option<String> {
    let own = replica.total();
    // An acker has what the source still waits to commit.
    let extra = own.subtract(have).subtract(&own.of_source(&source.identity.uuid));
    if !extra.is_empty() && replica.identity.version.flavor == Flavor::MySql {
        Some(format!("it has {} transactions that the new primary lacks", extra.count()))
    } else if !own.contains(&source.purged) && replica.identity.version.flavor == Flavor::MySql {
        Some("it lacks transactions whose binary logs the new primary no longer has".to_owned())
    } else if replica.identity.version.series() < source.identity.version.series() {
        Some("its version is older than the new primary's".to_owned())
    } else if replica.settings.gtid_mode != GtidMode::On {
        Some("it does not use GTIDs".to_owned())
    } else {
        None
    }
}
