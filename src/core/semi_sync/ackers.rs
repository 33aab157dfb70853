//! Which replicas acknowledge: those that could become primary, such that any that a commit waits for
//! are in as many zones as the owner wants.

use std::collections::{BTreeMap, BTreeSet};

use crate::core::{
    candidate,
    id::ServerAddr,
    observation::{GtidMode, Observation},
    policy::{Policy, PromotionRule, SemiSync},
};

/// Priority of a server whose query tells none; higher goes first, 0 never acknowledges.
const PRIORITY: u32 = 1;

/// Why the owner's wish cannot be met.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unmet {
    /// A server of this version waits for one acknowledgement at most.
    #[error("{0} cannot wait for more than one acknowledgement")]
    OneAckOnly(ServerAddr),
    /// Zones cannot be counted.
    #[error("the zone of the primary {0} is not known")]
    ZoneUnknown(ServerAddr),
    /// Too few replicas.
    #[error("{acks} replicas must acknowledge, {can} can")]
    TooFew {
        /// How many can.
        can: usize,
        /// How many have to.
        acks: u32,
    },
    /// Enough replicas, in too few zones.
    #[error(
        "no {acks} replicas are where any {acks} of those that acknowledge are, with the primary, in {zones} zones"
    )]
    TooFewZones {
        /// Acknowledgements.
        acks: u32,
        /// Zones.
        zones: u32,
    },
}

impl Unmet {
    /// One word for conditions.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::OneAckOnly(_) => "OneAckOnly",
            Self::ZoneUnknown(_) => "ZoneUnknown",
            Self::TooFew { .. } => "TooFewAckers",
            Self::TooFewZones { .. } => "TooFewZones",
        }
    }

    /// Whether more or other replicas would not help.
    #[must_use]
    pub fn hopeless(&self) -> bool {
        matches!(self, Self::OneAckOnly(_) | Self::ZoneUnknown(_))
    }
}

/// Who is to acknowledge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// These; fewer than needed when the wish is not met.
    pub ackers: BTreeSet<ServerAddr>,
    /// Why the wish is not met.
    pub unmet: Option<Unmet>,
}

/// Why a replica must not acknowledge; `None`: it may. What it has could not be promoted, or not be found
/// any more.
#[must_use]
pub fn exclusion(addr: &ServerAddr, seen: &Observation, policy: &Policy) -> Option<&'static str> {
    let channel = seen.channels.first();
    match () {
        () if candidate::rule_of(addr, seen, policy) == PromotionRule::MustNot => Some("its promotion rule is MustNot"),
        () if seen.facts.semi_sync_priority == Some(0) => Some("its semi-sync priority is 0"),
        () if !seen.settings.log_bin || !seen.settings.log_replica_updates => {
            Some("it does not log replicated transactions")
        }
        () if seen.settings.relay_log_recovery => Some("relay_log_recovery would discard what it acknowledged"),
        () if seen.settings.gtid_mode != GtidMode::On || channel.is_some_and(|channel| !channel.auto_position) => {
            Some("it does not replicate by GTID")
        }
        () if channel.is_some_and(|channel| channel.filtered) => Some("its replication is filtered"),
        () if channel.is_some_and(|channel| channel.delay_s > 0) => Some("it is delayed on purpose"),
        () if seen.channels.len() > 1 => Some("it has several sources"),
        () => None,
    }
}

/// Chooses among `replicas`; who is in `kept` stays rather than somebody of the same rank comes.
#[must_use]
pub fn choose(
    (source, seen): (&ServerAddr, &Observation),
    replicas: &BTreeMap<&ServerAddr, &Observation>,
    kept: &BTreeSet<ServerAddr>,
    policy: &Policy,
    wish: SemiSync,
) -> Choice {
    let none = |unmet| Choice { ackers: BTreeSet::new(), unmet: Some(unmet) };
    if wish.acks > 1 && !seen.identity.version.has_semi_sync_count() {
        return none(Unmet::OneAckOnly(source.clone()));
    }
    let own = candidate::facts_of(source, Some(seen), policy).zone;
    if wish.zones > 1 && own.is_none() {
        return none(Unmet::ZoneUnknown(source.clone()));
    }
    let zoned = wish.zones > 1;
    let fit = replicas.iter().filter(|(addr, seen)| exclusion(addr, seen, policy).is_none());
    let placed = fit.filter_map(|(addr, seen)| {
        let zone = candidate::facts_of(addr, Some(seen), policy).zone;
        (!zoned || zone.is_some()).then(|| Seat { addr, rank: rank(addr, seen, kept, policy), zone })
    });
    let mut seats: Vec<_> = placed.collect();
    seats.sort_by(|left, right| left.rank.cmp(&right.rank));
    if zoned {
        spread(&mut seats, own.as_deref());
    }
    let target = usize::try_from(wish.acks).unwrap_or(usize::MAX).saturating_add(1);
    let mut chosen: Vec<&Seat<'_>> = Vec::new();
    for seat in &seats {
        chosen.push(seat);
        if chosen.len() > target || !cover(chosen.iter().map(|seat| seat.zone.as_deref()), own.as_deref(), wish) {
            chosen.pop();
        }
    }
    let enough = |count: usize| u32::try_from(count).unwrap_or(u32::MAX) >= wish.acks;
    let unmet = match () {
        () if enough(chosen.len()) => None,
        () if enough(seats.len()) => Some(Unmet::TooFewZones { acks: wish.acks, zones: wish.zones }),
        () => Some(Unmet::TooFew { can: seats.len(), acks: wish.acks }),
    };
    Choice { ackers: chosen.into_iter().map(|seat| seat.addr.clone()).collect(), unmet }
}

/// Whether the primary and any `acks` of the ackers in these zones are in enough zones. The worst choice
/// is everybody in the primary's zone `own` first, then whole zones, the fullest first.
#[must_use]
pub fn cover<'a>(ackers: impl Iterator<Item = Option<&'a str>>, own: Option<&str>, wish: SemiSync) -> bool {
    if wish.zones <= 1 {
        return true;
    }
    let (mut at_home, mut away) = (0_u32, BTreeMap::<Option<&str>, u32>::new());
    for zone in ackers {
        let count = if zone.is_none() || zone == own { &mut at_home } else { away.entry(zone).or_default() };
        *count = count.saturating_add(1);
    }
    let mut fullest: Vec<_> = away.into_values().collect();
    fullest.sort_unstable();
    let few = usize::try_from(wish.zones.saturating_sub(2)).unwrap_or(usize::MAX);
    at_home.saturating_add(fullest.into_iter().rev().take(few).sum()) < wish.acks
}

/// A replica that may acknowledge.
struct Seat<'a> {
    addr: &'a ServerAddr,
    rank: Rank<'a>,
    zone: Option<String>,
}

/// Best first: priority (inverted), promotion rule, who does already, address.
type Rank<'a> = (u32, PromotionRule, bool, &'a ServerAddr);

fn rank<'a>(addr: &'a ServerAddr, seen: &Observation, kept: &BTreeSet<ServerAddr>, policy: &Policy) -> Rank<'a> {
    let priority = seen.facts.semi_sync_priority.unwrap_or(PRIORITY);
    (u32::MAX - priority, candidate::rule_of(addr, seen, policy), !kept.contains(addr), addr)
}

/// Orders such that zones fill up evenly, the primary's last: then the first that fit are the most that
/// can be.
fn spread(seats: &mut [Seat<'_>], own: Option<&str>) {
    let mut filled = BTreeMap::<Option<String>, usize>::new();
    let mut level = |zone: &Option<String>| {
        let count = filled.entry(zone.clone()).or_default();
        *count = count.saturating_add(1);
        *count
    };
    let levels: BTreeMap<ServerAddr, usize> = seats.iter().map(|seat| (seat.addr.clone(), level(&seat.zone))).collect();
    seats.sort_by_key(|seat| (seat.zone.as_deref() == own, levels.get(seat.addr).copied()));
}

#[cfg(test)]
mod tests;
