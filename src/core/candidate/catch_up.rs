//! Who is promoted although another server has more: it gets from that one what it lacks first.
//!
//! That is worth waiting for when nobody who has everything may become primary, when a person asked for the server,
//! or for a moment when the owner's rules prefer it.

use std::collections::{BTreeMap, BTreeSet};

use super::{Ballot, CatchUp, Chosen, cannot_follow, errant, loss, rank, rule_of};
use crate::core::{gtid::GtidSet, id::ServerAddr, observation::Observation, recovery::Loss, version::Flavor};

/// How long a preferred server may take while another one has everything, in milliseconds.
const PREFERRED_MS: u64 = 3000;

/// The server that is to catch up and be promoted; `None`: nobody is, or need be. `complete`: eligible servers that
/// have everything; `front`: the most advanced server with all that it has.
pub(super) fn catcher(
    ballot: &Ballot<'_>,
    all: &BTreeMap<&ServerAddr, GtidSet>,
    eligible: &BTreeSet<&ServerAddr>,
    complete: &[&ServerAddr],
    (front, set): (&ServerAddr, &GtidSet),
) -> Option<Chosen> {
    let from = ballot.replicas.get(front).filter(|_| serves(ballot, front))?;
    let can = |addr: &&ServerAddr| {
        let seen = ballot.replicas.get(*addr);
        let missing = all.get(*addr).map(|own| set.subtract(own)).unwrap_or_default();
        // No server takes what it wrote itself from another one.
        let takes = |seen: &Observation| {
            missing.of_source(&seen.identity.uuid).is_empty() && cannot_follow(seen, from, &from.total()).is_none()
        };
        !missing.is_empty() && seen.is_some_and(takes)
    };
    let able = eligible.iter().copied().filter(can);
    let best = match ballot.wanted {
        Some(wanted) => able.into_iter().find(|addr| *addr == wanted)?,
        None => able.filter_map(|addr| Some((rank(ballot, addr)?, addr))).min()?.1,
    };
    let rule = |addr: &ServerAddr| Some(rule_of(addr, ballot.replicas.get(addr)?, ballot.policy));
    let other = complete.iter().copied().filter_map(rule).min();
    let patience_ms = match other {
        _ if ballot.wanted.is_some() => None,
        None => None,
        Some(other) if rule(best)? < other => Some(PREFERRED_MS),
        Some(_) => return None,
    };
    let loss = loss(ballot, set, set);
    let catch_up = Some(CatchUp { from: front.clone(), patience_ms });
    (!matches!(loss, Loss::AtLeast(_))).then(|| Chosen { server: best.clone(), set: set.clone(), catch_up, loss })
}

/// Whether others can get from a server all that it has, and nothing that it has alone.
fn serves(ballot: &Ballot<'_>, addr: &ServerAddr) -> bool {
    let Some(seen) = ballot.replicas.get(addr) else { return false };
    let applies =
        seen.channels.iter().all(|channel| channel.applier_error.is_none() || channel.drained(&seen.executed));
    let delayed = seen.channels.iter().any(|channel| channel.delay_s > 0 || channel.filtered);
    seen.identity.version.flavor == Flavor::MySql
        && seen.settings.log_bin
        && seen.settings.log_replica_updates
        && !ballot.rejected.contains_key(addr)
        && applies
        && !delayed
        && errant(ballot, addr, seen).is_empty()
}
